#!/usr/bin/python3
"""`make bench`: splitmx and its peers in turn, over the same upstream, under the same load.

bench.py --program FILE [--base FILE] [--tools FOLDER] [--rounds N] [--seconds S] [--paced S] [--cases A,B]
         [--peers A,B] [--size BYTES] [--sender smtp-source|load] --out FOLDER      measures; prints tables; FOLDER gets results.json and plots
bench.py --docs FOLDER --out FOLDER        renews docs/performance.md and its plots from results.json

What a case measured replaces what results.json had of it; other cases stay there.
"""

import argparse
import collections
import contextlib
import datetime
import json
import os
import pathlib
import platform
import pwd
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report  # noqa: E402
import cases as mail  # noqa: E402
import tables  # noqa: E402
from figures import Figures  # noqa: E402
from generators import OwnLoad, SmtpSource  # noqa: E402
from peers import HAProxy, Nginx, Postfix, Trouble, Unsuited, descriptors, first_line  # noqa: E402

Certificate = collections.namedtuple("Certificate", "chain key")


def all_cases(*size):
    return mail.all_cases(*size) + tables.all_cases()


class Bench:
    """What the cases want to know and use."""

    def __init__(self, options, scratch):
        self.scratch = scratch
        self.program, self.base, self.tools = options.program, options.base, options.tools
        self.peers = options.peers and set(options.peers.split(","))
        self.seconds, self.paced = options.seconds, options.paced
        self.descriptors = descriptors()
        self.cores = len(os.sched_getaffinity(0))
        self.always_own = options.sender == "load"
        self.remarks = {}
        self._certificate = None

    def wants(self, label):
        return not self.peers or label in self.peers or label in ("splitmx", "base")

    def has(self, kind):
        if not self.wants(kind.name):
            return False
        if reason := kind.missing():
            print(f"{kind.name} takes no part: {reason}", file=sys.stderr)
        return not reason

    def tool(self, name):
        """One of our own programs: load, sink, routes."""
        if self.tools is None or not (self.tools / name).exists():
            raise Trouble(f"build/bench/{name} is missing")
        return self.tools / name

    @property
    def load(self):
        return OwnLoad(self.tool("load"))

    def generator(self, load):
        return self.load if self.always_own or not load.plain else SmtpSource()

    @property
    def certificate(self):
        """ECDSA P-256, signed by itself; made when first asked for."""
        if self._certificate is None:
            made = Certificate(pathlib.Path(self.scratch, "chain.pem"), pathlib.Path(self.scratch, "key.pem"))
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                            "-subj", "/CN=mx.example.com", "-out", made.chain, "-keyout", made.key], check=True, capture_output=True)
            if os.geteuid() == 0:  # splitmx reads it as its user, and refuses a key that everybody may read
                os.chown(made.key, pwd.getpwnam("nobody").pw_uid, -1)
            self._certificate = made
        return self._certificate

    def remark(self, case, words):
        self.remarks[case.name] = words


def machine():
    processor = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    versions = [kind.version() for kind in (HAProxy, Nginx, Postfix) if not kind.missing()]
    return {"cores": len(os.sched_getaffinity(0)), "processor": processor, "memory_gib": round(memory / (1 << 20)),
            "kernel": platform.release(), "versions": versions}


def measure(case, bench, rounds, figures):
    with contextlib.ExitStack() as stack:
        turns = case.open(bench, stack)
        labels = list(turns)
        for number in range(min(rounds, case.rounds)):
            first = number % len(labels)
            for label in labels[first:] + labels[:first]:
                figures.add(case.name, label, number, turns[label]())
                if sys.stderr.isatty():
                    print(f"\r{case.name}: round {number + 1}, {label}\033[K", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)


def run(cases, options, out):
    """Measures; what it prints is also in results.json. Whether a case failed."""
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"cases": {}, "records": []}
    results["machine"] = machine()
    print(report.machine_words(results["machine"]) + f"; load {os.getloadavg()[0]:.2f}\n", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="splitmx-bench-", dir="/tmp") as scratch:
        pathlib.Path(scratch).chmod(0o755)
        bench = Bench(options, scratch)
        for case in cases:
            figures = Figures()
            try:
                measure(case, bench, options.rounds, figures)
            except Trouble as trouble:
                print(f"== {case.name}: not measured: {trouble}\n", flush=True)
                failed = failed or not isinstance(trouble, Unsuited)
                continue
            remark = bench.remarks.get(case.name)
            print(f"== {case.name}: {case.title}{f' ({remark})' if remark else ''}")
            print(report.as_text(*report.table(case, figures)))
            for _, words, limit, aim, reached, mark in report.bars(case, figures):
                print(f"   {words}: {reached}, bar {limit}{aim and f', aim {aim}'}: {mark}")
            for line in report.to_base(case, figures):
                print(f"   {line}")
            print(flush=True)
            results["records"] = [record for record in results["records"] if record["case"] != case.name] + figures.records
            results["cases"][case.name] = {"title": case.title, "rounds": min(options.rounds, case.rounds), "remark": remark,
                                           "when": datetime.date.today().isoformat(), "commit": first_line("git", "rev-parse", "--short", "HEAD")}
            path.write_text(json.dumps(results, indent=1) + "\n")
    for name, text in report.plots(all_cases(), Figures(results["records"])).items():
        (out / f"{name}.svg").write_text(text)
    print(f"results and plots are in {out}")
    return failed


def renew(out, docs):
    results = json.loads((out / "results.json").read_text())
    report.renew(docs / "performance.md", report.document(all_cases(), results))
    (docs / "bench").mkdir(exist_ok=True)
    for name, text in report.plots(all_cases(), Figures(results["records"])).items():
        (docs / "bench" / f"{name}.svg").write_text(text)


def check(parser, options):
    """What cannot be measured is said before anything is started."""
    if options.rounds < 1 or options.seconds <= 0 or options.paced <= 0 or options.size < 1:
        parser.error("rounds, seconds, paced and size are more than nothing")
    if unknown := set(filter(None, options.peers.split(","))) - {kind.name for kind in (HAProxy, Nginx, Postfix)}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are haproxy, nginx, postfix")
    if options.base and not options.base.exists():
        parser.error(f"{options.base}: no such build to compare with")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    for name in ("program", "base", "tools"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of a turn (default 3)")
    parser.add_argument("--paced", type=float, default=120, help="seconds of a turn of the case `paced`")
    parser.add_argument("--cases", default="", help="by comma; default: all")
    parser.add_argument("--peers", default="", help="by comma, beside splitmx; default: all")
    parser.add_argument("--size", type=int, default=4096, help="of a message in the cases `one` and `kept`")
    parser.add_argument("--sender", choices=("smtp-source", "load"), default="smtp-source", help="of the cases `one`, `kept` and `mb`")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--docs", type=pathlib.Path)
    options = parser.parse_args()
    check(parser, options)
    for name in ("program", "base", "tools"):
        if (file := getattr(options, name)) is not None:
            setattr(options, name, file.resolve())
    options.out.mkdir(parents=True, exist_ok=True)
    if options.docs:
        renew(options.out, options.docs)
        return 0
    cases = all_cases(options.size)
    wanted = options.cases.split(",") if options.cases else [case.name for case in cases]
    if unknown := set(wanted) - {case.name for case in cases}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in cases)}")
    failed = run([case for case in cases if case.name in wanted], options, options.out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
