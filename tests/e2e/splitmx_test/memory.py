"""A daemon whose memory runs out when the test says so: build/failmalloc.so (tests/fail) is loaded before all else."""

import contextlib
import ctypes
import mmap
import re
import subprocess
import tempfile
from pathlib import Path

from .daemon import BINARY, is_sanitized

LIBRARY = BINARY.parent / "failmalloc.so"
PLACES = 24
NEVER = 2**64 - 1


class _Page(ctypes.Structure):
    """As in tests/fail/failmalloc.c."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("active", "count", "first", "until", "failed", "size")] + [
        ("places", ctypes.c_uint64 * PLACES)]


class Scarcity:
    """
    Which allocations fail, of those made while it lasts, counted from 1:

        with scarcity.of(7): ...         the seventh
        with scarcity.of(7, NEVER): ...  the seventh and all that follow
        with scarcity.of(0): ...         none: `count` tells how many there were
    """

    def __init__(self):
        self._file = tempfile.NamedTemporaryFile(prefix="splitmx-memory-")
        self._file.truncate(mmap.PAGESIZE)
        self._map = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        self._page = _Page.from_buffer(self._map)
        options = "verify_asan_link_order=0:allocator_may_return_null=1"
        self.environment = {"LD_PRELOAD": str(LIBRARY), "FAILMALLOC": self._file.name,
                            **({"ASAN_OPTIONS": options} if is_sanitized() else {})}

    @contextlib.contextmanager
    def of(self, first, until=None):
        page = self._page
        page.count = page.failed = 0
        page.first = first
        page.until = until or first + 1
        page.active = 1
        try:
            yield self
        finally:
            page.active = 0

    def end(self):
        self._page.active = 0

    @property
    def count(self):
        return self._page.count

    @property
    def failed(self):
        return self._page.failed

    def know(self, pid):
        """What the program consists of; to be asked while it lives, for `where`."""
        self._parts = [(int(begin, 16), int(end, 16), int(offset, 16), path) for begin, end, offset, path in re.findall(
            r"^(\w+)-(\w+) r.xp (\w+) \S+ \d+ +(/.*)$", Path(f"/proc/{pid}/maps").read_text(), re.M)]

    def where(self):
        """Who wanted the first that failed, for the message of a test: function names, the nearest first."""
        names = []
        for place in self._page.places:
            for begin, end, offset, path in self._parts:
                if begin <= place < end and LIBRARY.name not in path:
                    names.append(_name(path, place - begin + offset))
        return f"{self._page.size} bytes for " + " < ".join(names)


def _name(path, at):
    """Best effort: without symbols, the library and the offset."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(["addr2line", "-Cfsp", "-e", path, hex(at - 1)], capture_output=True, text=True, timeout=20).stdout.strip()
        if said and not said.startswith("??"):
            return said
    return f"{Path(path).name}+{at:#x}"
