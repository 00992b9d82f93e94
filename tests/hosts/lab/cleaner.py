"""
PREFIX: ends and removes what is in the namespaces PREFIX-* when the run that made them was killed.

The run holds the other end of standard input. "done" there says that it has removed everything itself; an end
without that word says that it could not.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

NAMESPACES, SETTINGS = Path("/run/netns"), Path("/etc/netns")  # where ip-netns(8) keeps both


def namespaces(prefix):
    """The names with that prefix that are there now."""
    found = {path.name for folder in (NAMESPACES, SETTINGS) if folder.is_dir() for path in folder.iterdir()}
    return sorted(name for name in found if name.startswith(f"{prefix}-"))


def remove(name):
    """Takes the name away; what a process of it still uses goes with that process."""
    done = subprocess.run(["ip", "netns", "delete", name], capture_output=True, text=True)
    if done.returncode != 0 and (NAMESPACES / name).exists():
        raise OSError(f"ip netns delete {name}: {done.stderr.strip()}")
    shutil.rmtree(SETTINGS / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        SETTINGS.rmdir()  # unless somebody has something in it


def processes(spaces):
    """Who is in one of these namespaces, open files, whose names may be gone."""
    numbers = {os.fstat(space).st_ino for space in spaces}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if (folder / "ns/net").stat().st_ino in numbers:
                yield int(folder.name)


def main(prefix):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the run
    if sys.stdin.read() == "done":
        return
    names = namespaces(prefix)
    spaces = [os.open(NAMESPACES / name, os.O_RDONLY) for name in names if (NAMESPACES / name).exists()]
    for name in names:
        remove(name)  # first, so that no `ip netns exec` that has just been started comes in behind our back
    for pid in processes(spaces):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
