"""A small disk that can be filled to the last byte and emptied: a tmpfs of its own (root is needed to mount one)."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

FILLER = "filler"


def can_mount():
    """Whether this machine lets us."""
    folder = tempfile.mkdtemp(prefix="splitmx-disk-", dir="/tmp")
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "splitmx", folder], capture_output=True, timeout=20)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True, timeout=20)
        return done.returncode == 0
    except OSError:
        return False
    finally:
        os.rmdir(folder)


class Disk:
    def __init__(self, size="2m", user="nobody"):
        self.path = Path(tempfile.mkdtemp(prefix="splitmx-disk-", dir="/tmp"))
        self._ids = pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755,uid={self._ids[0]},gid={self._ids[1]}", "splitmx", str(self.path)],
                       check=True, timeout=20)

    def folder(self, name):
        """One that the daemon's user has."""
        made = self.path / name
        made.mkdir(mode=0o700)
        os.chown(made, *self._ids)
        return made

    def fill(self, leave=0):
        """All but so many bytes."""
        with open(self.path / FILLER, "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)
        if leave:
            os.truncate(self.path / FILLER, max(0, (self.path / FILLER).stat().st_size - leave))

    def free(self):
        """Bytes."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def empty(self):
        (self.path / FILLER).unlink(missing_ok=True)

    def remove(self):
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, timeout=20)
        shutil.rmtree(self.path, ignore_errors=True)
