"""Cases of the routing table: how long a generation takes to build, beside postmap and libyaml; what an unchanged one costs;
decisions a second; mail while one is built. The tables are made by build/bench/routes.
"""

import contextlib
import functools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import threading
import time

from cases import Case, open_all, splitmx_builds
from figures import Bar
from generators import Load
from measure import Highest, Meter
from peers import STOP_SECONDS, SmtpSink, Splitmx, Trouble

MILLION, DOMAINS = 1000000, 1000
READY = b"event=ready"


def timed(*command):
    """Seconds of a command on the clock and on a processor, and what it printed."""
    began = time.monotonic()
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said, complained = process.communicate()
        seconds = time.monotonic() - began
    if process.returncode != 0:
        raise Trouble(f"{' '.join(map(str, command))}: {complained.decode(errors='replace').strip()[-1000:]}")
    return seconds, said


def make_table(bench, form, order, count):
    """A file of routes: yaml or map; sorted or shuffled."""
    path = pathlib.Path(bench.scratch, f"{order}-{count}.{'yaml' if form == 'yaml' else 'map'}")
    if not path.exists():
        timed(bench.tool("routes"), "write", form, order, count, DOMAINS, path)
    return path


class Tabled(Splitmx):
    """May be started more than once in its folder, and then finds the generation it has; ready when it says so."""

    def __init__(self, bench, program, label, table):
        super().__init__(bench.scratch, program=program, label=label, tables=(table,))
        self.folder.mkdir(mode=0o755)
        self.words = [str(word) for word in self.command()]

    def forget(self):
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def start(self):
        """What it took until it was ready."""
        self.meter = Meter(self.folder.name)
        with Highest(self.meter.anonymous) if self.meter.group else contextlib.nullcontext() as memory:
            began = time.monotonic()
            self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                            preexec_fn=self.meter.enter, start_new_session=True)
            said = []
            for line in self.process.stderr:
                said.append(line)
                if READY in line:
                    break
            seconds = time.monotonic() - began
        if not said or READY not in said[-1]:
            self.stop()
            raise Trouble(f"{self.label}: {b''.join(said).decode(errors='replace')}")
        self.meter.root = self.process.pid
        return {"seconds": seconds, "processor": self.meter.cpu(), "memory": memory.value if memory else None}

    def stop(self):
        self.process.terminate()
        self.process.stderr.read()  # it is not to wait for us while it says farewell
        self.process.wait(STOP_SECONDS)
        self.process.stderr.close()
        self.meter.close()

    def build(self):
        """A turn: from nothing."""
        self.forget()
        took = self.start()
        self.stop()
        return took

    def start_again(self):
        """A turn: the generation is there."""
        took = self.start()
        self.stop()
        return took

    def reload(self):
        """A turn, of one that runs."""
        before = self.meter.cpu()
        seconds, _ = timed(self.file, "reload", "-c", self.folder / "splitmx.yaml")
        return {"seconds": seconds, "processor": self.meter.cpu() - before}


class Build(Case):
    """One million routes. The measure is what an operator has to do today, and what reading YAML costs at the least."""

    name, title = "routes", "one million routes from YAML into a generation, and postmap (LMDB) of the same as text + libyaml alone over the YAML"
    shown = ("seconds", "processor", "memory")
    bars = [Bar(f"{words}, {order} input", f"splitmx, {order}", metric, limit, against=f"postmap + libyaml, {order}")
            for metric, words in (("seconds", "seconds"), ("processor", "CPU seconds"))
            for order, limit in (("sorted", 0.8), ("shuffled", 1.0))]

    def open(self, bench, stack):
        turns = {}
        for order in ("sorted", "shuffled"):
            yaml, text = (make_table(bench, form, order, MILLION) for form in ("yaml", "map"))
            for label, program in splitmx_builds(bench, f", {order}").items():
                turns[label] = Tabled(bench, program, label, yaml).build
            turns[f"postmap + libyaml, {order}"] = functools.partial(self.both, bench, yaml, text)
        return turns

    @staticmethod
    def both(bench, yaml, text):
        for left in (f"{text}.lmdb", f"{text}.lmdb-lock"):
            pathlib.Path(left).unlink(missing_ok=True)
        etc = pathlib.Path(bench.scratch, "postmap")
        etc.mkdir(exist_ok=True)
        # As large as the table will be: of its own accord postmap begins anew, each time with twice the room.
        (etc / "main.cf").write_text("compatibility_level = 3.6\nlmdb_map_size = 1073741824\n")
        before = os.times()
        seconds, _ = timed("postmap", "-c", etc, f"lmdb:{text}")
        after = os.times()
        told = json.loads(timed(bench.tool("routes"), "libyaml", yaml)[1])
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        return {"seconds": seconds + told["seconds"], "processor": processor + told["cpu"]}


class Large(Case):
    """Ten million routes; what is unchanged is not read again."""

    name, title = "large", "ten million routes, sorted"
    shown = ("seconds", "processor", "memory")
    rounds = 3
    bars = [Bar("seconds, to those of one million", "splitmx, built", "seconds", 15, against="splitmx, built, one million"),
            Bar("start, table unchanged", "splitmx, started again", "seconds", 200, unit="ms", scale=1e-3),
            Bar("reload, nothing changed", "splitmx, reloaded", "seconds", 50, unit="ms", scale=1e-3)]

    def open(self, bench, stack):
        turns = {}
        table, small = (make_table(bench, "yaml", "sorted", count) for count in (10 * MILLION, MILLION))
        for label, program in splitmx_builds(bench).items():
            turns[f"{label}, built, one million"] = Tabled(bench, program, label, small).build
            turns[f"{label}, built"] = Tabled(bench, program, label, table).build
            kept = Tabled(bench, program, label, table)
            kept.build()
            turns[f"{label}, started again"] = kept.start_again
            running = Tabled(bench, program, label, table)
            running.start()
            stack.callback(running.stop)
            turns[f"{label}, reloaded"] = running.reload
        return turns


class Decisions(Case):
    """Parse, fold, look up along the chain, on one core; addresses drawn at random, so that most are in no cache."""

    name, title = "decisions", "whole decisions, ten million routes, one core"
    shown = ("decisions",)
    rounds = 3
    bars = [Bar("hits", "hits", "decisions", 350000, at_least=True, unit="a second"),
            Bar("misses", "misses", "decisions", 200000, at_least=True, unit="a second")]

    def open(self, bench, stack):
        table = make_table(bench, "yaml", "sorted", 10 * MILLION)
        server = Tabled(bench, bench.program, "decisions", table)
        server.build()
        latest = {}

        def ask():
            _, said = timed(bench.tool("routes"), "decide", server.folder / "splitmx.yaml", 10 * MILLION, DOMAINS)
            latest.update(json.loads(said))

        def turn(kind):
            if kind not in latest:
                ask()
            return {"decisions": latest.pop(kind)["rate_cpu"]}

        return {kind: functools.partial(turn, kind) for kind in ("hits", "misses")}


class Reloading(Case):
    """Mail at fixed intervals, alone and while a million routes are built again and again."""

    name, title = "reloading", "4 kB, one message a connection, at half of the saturation rate, while a million routes are reloaded"
    shown = ("p50", "p99", "cpu", "reloads")
    rounds = 3
    least_seconds = 10
    bars = [Bar("p99 during reloads, to that without", "splitmx, reloading", "p99", 2, against="splitmx")]

    def open(self, bench, stack):
        made = make_table(bench, "yaml", "sorted", MILLION)
        upstream = stack.enter_context(SmtpSink(bench.scratch))
        servers = {}
        for label, program in splitmx_builds(bench).items():
            table = pathlib.Path(shutil.copy(made, pathlib.Path(bench.scratch, f"reloaded-{label}.yaml")))
            servers[label] = Splitmx(bench.scratch, upstream, program=program, label=label, tables=(table,))
        turns = open_all(bench, stack, servers, bench.load, Load())
        rate = int(statistics.median(turns["splitmx"]()["rate"] for _ in range(3)) / 2)
        bench.remark(self, f"{rate} messages a second")
        turns = {}
        for label, server in servers.items():
            turns[label] = functools.partial(self.turn, bench, server, rate)
            turns[f"{label}, reloading"] = functools.partial(self.turn, bench, server, rate, server.tables[0])
        return turns

    def turn(self, bench, server, rate, table=None):
        over, count = threading.Event(), [0]

        def reload_on():
            while not over.is_set():
                with open(table, "a", encoding="utf-8") as file:
                    file.write("# changed\n")
                timed(server.file, "reload", "-c", server.folder / "splitmx.yaml")
                count[0] += 1

        reloader = threading.Thread(target=reload_on) if table else None
        before = server.meter.cpu()
        if reloader:
            reloader.start()
        try:
            sent = bench.load.send_at_rate(Load(sessions=500), server.port, rate, max(bench.seconds, self.least_seconds))
        finally:
            over.set()
            if reloader:
                reloader.join()
        return {"p50": sent.p50, "p99": sent.p99, "cpu": (server.meter.cpu() - before) / sent.messages, "reloads": count[0] if table else None}


def all_cases():
    return [Build(), Large(), Decisions(), Reloading()]
