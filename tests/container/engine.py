"""
A container engine of the tests' own, which leaves nothing behind.

It runs in mount, process and (for containers that run) network namespaces of its own: its bridges, packet filter rules, mounts
and processes end with it, however it ends, and the machine's own engine, addresses and port 25 are never touched. What is left
then is one folder and some empty control groups, which stop() removes.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from splitmx_test.waiting import poll

# Made by the engine at places of its choice: memory, for as long as it runs.
ELSEWHERE = [Path(p) for p in ("/etc/docker", "/opt/containerd", "/run/docker", "/run/containerd")]
START = """
set -e
for path in $ELSEWHERE; do mount -t tmpfs tmpfs "$path"; done
[ "$NETWORK" = host ] || ip link set lo up
exec dockerd "$@"
"""
BASE = "debian:bookworm-slim"
SUITE = "bookworm"
ROOM = 4 << 30  # bytes that base, images and containers may take where layers are copied
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """No engine can be started here; the text says why."""


def prerequisites():
    if os.geteuid() != 0:
        raise Unavailable("an engine wants to be started by root")
    missing = [tool for tool in ("dockerd", "docker", "debootstrap", "unshare", "setpriv", "ip") if not shutil.which(tool)]
    if missing:
        raise Unavailable(f"not installed: {' '.join(missing)} (tests/container/install.sh)")


def run(*command, timeout=300, check=True, **keywords):
    __tracebackhide__ = True  # which would show the environment
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace", timeout=timeout,
                          stdin=subprocess.DEVNULL, **keywords)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


class Engine:
    def __init__(self):
        prerequisites()
        # Not /tmp, which may be memory.
        self.folder = Path(tempfile.mkdtemp(prefix="splitmx-container-", dir="/var/tmp"))
        self.socket = self.folder / "socket"
        self.group = f"/{self.folder.name}"
        self.process = None
        self.made = []
        room = shutil.disk_usage(self.folder).free
        if room < ROOM:
            self.folder.rmdir()
            raise Unavailable(f"{room >> 20} MiB free below /var/tmp, {ROOM >> 20} needed")

    @property
    def environment(self):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "COMPOSE_"))}
        # A client's configuration and plug-ins are its user's; the images are built by the engine itself.
        return {**kept, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder / "client"), "DOCKER_BUILDKIT": "0"}

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, network):
        """network: "host" (to build: packages are fetched) or "own"."""
        for path in ELSEWHERE:
            if not path.exists():
                path.mkdir(parents=True)
                self.made.append(path)
        # The host's network is not touched: no bridge, no rule, no switch of the kernel.
        quiet = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"] if network == "host" else []
        own = ["--net"] if network == "own" else []
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *own,
                 "sh", "-c", START, "dockerd", f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
                 f"--pidfile={self.folder}/pid", f"--host=unix://{self.socket}", f"--cgroup-parent={self.group}", *quiet],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "ELSEWHERE": " ".join(map(str, ELSEWHERE)), "NETWORK": network})
        poll(lambda: self.answers() or self.process.poll() is not None, "the engine to answer", timeout=60, interval=0.1)
        if self.process.poll() is not None:
            said = [line for line in self.log().splitlines() if line.strip()]
            raise Unavailable(f"dockerd ended with {self.process.returncode}: {said[-1] if said else 'without a word'}")

    def answers(self):
        return self.socket.exists() and self.docker("version", check=False).returncode == 0

    @property
    def pid(self):
        """dockerd, the first process of its namespace."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def halt(self):
        """Ends the engine and everything that runs in it; images stay."""
        if self.process is None:
            return
        if self.process.poll() is None:
            with contextlib.suppress(IndexError, ProcessLookupError, FileNotFoundError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()  # and, by --kill-child, all that is in there
                self.process.wait()
        self.process = None
        self.socket.unlink(missing_ok=True)

    def stop(self):
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)
        for top in Path("/sys/fs/cgroup").glob(f"**{self.group}") if Path("/sys/fs/cgroup").is_dir() else []:
            for path, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        for path in self.made:
            with contextlib.suppress(OSError):
                path.rmdir()

    # ---- the client ----

    def docker(self, *arguments, **keywords):
        return run("docker", *arguments, env=self.environment, **keywords)

    def build(self, repository):
        """The image splitmx, as a person makes it."""
        run("make", "--no-print-directory", "container", f"OPTIONS={' '.join(self.build_options)}", env=self.environment, cwd=repository,
            timeout=600)

    @property
    def build_options(self):
        proxies = [name for name in os.environ if re.fullmatch("(?i)(https?|ftp|no)_proxy", name)]
        return ["--network=host", "--force-rm", *(f"--build-arg={name}" for name in proxies)]

    def inspect(self, what):
        return json.loads(self.docker("inspect", what).stdout)[0]

    @contextlib.contextmanager
    def inside(self):
        """In here new sockets are made in the engine's network, as a machine's own are in its."""
        own, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(own, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(own)
            os.close(there)

    # ---- the base ----

    def make_base(self):
        """What debootstrap fetches, under the name of the image that cannot be had without a registry."""
        tree = self.folder / "base"
        fetch = apt_settings()
        mirror = apt_mirror()
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, tree, *([mirror] if mirror else []), timeout=600)
        (tree / "etc/apt/apt.conf.d/99machine").write_text(fetch)
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        if certificates.exists():
            shutil.copyfile(certificates, tree / "etc/ssl/certs/ca-certificates.crt")
        shutil.rmtree(tree / "var/cache/apt/archives")
        run("sh", "-c", f"tar -C {tree} -c . | docker import - {BASE}", env=self.environment)
        shutil.rmtree(tree)


def apt_settings():
    """How this machine's apt fetches (proxies, checks), for the apt in the image."""
    dump = run("apt-config", "dump", "Acquire").stdout
    return "".join(line + "\n" for line in dump.splitlines() if not re.match(r'.*""; *$|.*IndexTargets', line))


def apt_mirror():
    """Where this machine has Debian from, or None: debootstrap's own choice."""
    done = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)", "Created-By: Packages", check=False)
    for line in done.stdout.splitlines():
        uri, label, component = (line.split(" ") + ["", ""])[:3]
        if label == "Debian" and component == "main":
            return uri
    return None
