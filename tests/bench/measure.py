"""What a running program costs, with all its children: processor time and memory.

Processor time comes from a cgroup of the program's own where one can be made (root, cgroup v2), since a server of many
processes, such as Postfix, ends and starts them while it works, and a cgroup forgets nothing. Elsewhere it is the sum over
the processes that live, and what they remember of those that ended.
"""

import os
import pathlib
import threading
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")
PARENT, CHILDREN_USER, CHILDREN_SYSTEM = 1, 13, 14  # fields of /proc/PID/stat behind the name, see proc(5)


def _own_group():
    """The folder in cgroup v2 that we are in, or None."""
    try:
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        mount = next(fields[1] for fields in mounts if fields[2] == "cgroup2")
        lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
        path = next(line[3:] for line in lines if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    return pathlib.Path(mount) / path.lstrip("/")


def _stat(pid):
    """The fields of /proc/PID/stat behind the name (which may hold anything), or None if it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _family(root):
    """A process and all below it that live."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(name)) is not None:
            children.setdefault(int(stat[PARENT]), []).append(int(name))
    family = [root]
    for pid in family:  # grows while it is walked
        family.extend(children.get(pid, ()))
    return family


def _run_time(pid):
    """Seconds on a processor, of the threads that live and of the children that were waited for."""
    seconds = 0.0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            seconds += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return seconds
    if (stat := _stat(pid)) is not None:
        seconds += (int(stat[CHILDREN_USER]) + int(stat[CHILDREN_SYSTEM])) * TICK
    return seconds


def _bytes_of(pid, file, field):
    """A line `field: N kB` of a file of /proc/PID; 0 if the process has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


class Highest:
    """Within the block: the highest that `read` said, above what it said before it. A look every `interval` seconds."""

    def __init__(self, read, interval=0.05):
        self.read, self.interval = read, interval
        self.value, self.before = 0, 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._over.wait(self.interval):
            self.value = max(self.value, self.read() - self.before)

    def __enter__(self):
        self.before = self.read()
        self._watcher.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._watcher.join()


class Meter:
    """enter() runs in the new process before the program does; then tell `root`, its pid."""

    def __init__(self, name):
        self.root = None
        self.group = None
        if (own := _own_group()) is not None:
            group = own / f"splitmx-bench-{os.getpid()}-{name}"
            try:
                group.mkdir()
            except OSError:
                return
            self.group = group if (group / "cpu.stat").exists() else None

    def enter(self):
        if self.group is not None:
            (self.group / "cgroup.procs").write_text("0")

    def processes(self):
        if self.group is not None:
            return [int(pid) for pid in (self.group / "cgroup.procs").read_text().split()]
        return _family(self.root)

    def cpu(self):
        """Seconds so far, user and system."""
        if self.group is not None:
            words = (self.group / "cpu.stat").read_text().split()
            return int(words[words.index("usage_usec") + 1]) / 1e6
        return sum(map(_run_time, self.processes()))

    def memory(self):
        """Bytes, as PSS: pages that n processes share count for one n-th in each."""
        return sum(_bytes_of(pid, "smaps_rollup", "Pss") for pid in self.processes())

    def anonymous(self):
        """Bytes that are no file's: what was allocated."""
        return sum(_bytes_of(pid, "status", "RssAnon") for pid in self.processes())

    def close(self, patience=5):
        """The processes have ended, or are about to."""
        deadline = time.monotonic() + patience
        while self.group is not None:
            try:
                self.group.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.02)
