"""Folders of docs/examples as their reader uses them: splitmx and Postfix with these very files, where they belong."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from splitmx_test.daemon import BINARY, REPOSITORY, Daemon, Result

from .servers import HostPostfix

EXAMPLES = REPOSITORY / "docs" / "examples"
ELSEWHERE = {"docker-mailserver": REPOSITORY / "docker" / "splitmx"}  # the folder there only says so
USER = 64999  # and group, of splitmx: no number that a Debian gives away
# In a name space for mounts of its own: the folder's `etc` and `lib` over those of the machine, its `state` writable.
MOUNTS = """
set -eu
folder=$1
shift
mount -t overlay overlay -o "lowerdir=$folder/etc:/etc" /etc
mount -t overlay overlay -o "lowerdir=$folder/lib:/var/lib" /var/lib
mount --bind "$folder/state" /var/lib/splitmx
exec "$@"
"""


def read(example, name):
    return (ELSEWHERE.get(example, EXAMPLES / example) / name).read_text()


class Place:
    """
    A host of the lab as root has set it up: the files in /etc/splitmx, the user splitmx, an empty /var/lib/splitmx, and the
    lab's authority where Debian has those that are trusted.
    """

    def __init__(self, lab, there, files):
        self.there = there
        self.folder = Path(tempfile.mkdtemp(prefix="splitmx-example-", dir="/tmp"))
        self.folder.chmod(0o755)
        etc = self.folder / "etc"
        for path in (etc / "splitmx", etc / "ssl" / "certs", self.folder / "lib" / "splitmx", self.folder / "state"):
            path.mkdir(parents=True)
        (self.folder / "state").chmod(0o700)
        os.chown(self.folder / "state", USER, USER)
        for name in ("hosts", "resolv.conf"):
            shutil.copy(f"/etc/netns/{there.namespace}/{name}", etc)
        (etc / "passwd").write_text(f"{Path('/etc/passwd').read_text()}splitmx:x:{USER}:{USER}::/nonexistent:/usr/sbin/nologin\n")
        (etc / "group").write_text(f"{Path('/etc/group').read_text()}splitmx:x:{USER}:\n")
        shutil.copy(lab.ca.file, etc / "ssl" / "certs" / "ca-certificates.crt")
        for name, text in files.items():
            (etc / "splitmx" / name).write_text(text)
        certificate = lab.mx_certificate
        shutil.copy(certificate.chain, etc / "splitmx" / "fullchain.pem")
        key = etc / "splitmx" / "privkey.pem"
        shutil.copy(certificate.key, key)
        os.chown(key, 0, USER)
        key.chmod(0o640)

    def command(self, *arguments):
        return self.there.command("unshare", "--mount", "sh", "-c", MOUNTS, "sh", self.folder, *arguments)

    def splitmx(self, *arguments):
        done = subprocess.run(self.command(BINARY, *arguments), capture_output=True, text=True, timeout=60)
        return Result(done)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class ExampleDaemon(Daemon):
    """splitmx on a host of the lab with the files {name in /etc/splitmx: text}, checked first, started as root."""

    def __init__(self, lab, files, there=None):
        self.place = Place(lab, there or lab.mx, files)
        super().__init__(start=False, wrapper=self.place.command())
        self.where = (self.place.there.address, 25)
        self.lab = lab
        try:
            checked = self.command("check")
            assert checked.status == 0 and "warning" not in checked.err, checked
            self.start()
        except BaseException:
            self.destroy()
            raise

    @property
    def config(self):
        return "/etc/splitmx/splitmx.yaml"

    def command(self, name, *arguments, **_):
        return self.place.splitmx(name, *arguments)

    def client(self, **keywords):
        return self.lab.client.client(self.where, **{"hello": "helo.client.test", **keywords})

    def destroy(self):
        super().destroy()
        self.place.remove()


class ExamplePostfix(HostPostfix):
    """
    A Postfix with mailboxes for example.com, as Debian's is, but that of its listeners there are those of postfix-master.cf, and
    that postfix-main.cf, if there is one, comes behind what it has. `more` are other files for its folder.
    """

    def __init__(self, there, example, recipients, at="127.0.0.1", more=()):
        self.at = at
        super().__init__(there, "mail", recipients, smtpd_peername_lookup="yes", smtpd_recipient_restrictions="",
                         smtpd_relay_restrictions="permit_mynetworks, defer_unauth_destination",
                         smtp_host_lookup="dns",
                         listeners=["127.0.0.1:587 inet n - n - - smtpd", "smtp unix - - n - - smtp",
                                    "showq unix n - n - - showq", "pickup unix n - n 60 1 pickup"])
        for name, configured in (("postfix-master.cf", "master.cf"), ("postfix-main.cf", "main.cf")):
            if (EXAMPLES / example / name).exists():
                with open(self.etc / configured, "a") as file:
                    file.write(read(example, name))
        for name in more:
            shutil.copy(EXAMPLES / example / name, self.etc)

    def answers(self):
        try:
            with self.host.inside(), socket.create_connection((self.at, 10025), timeout=1) as sock:
                return sock.recv(4).startswith(b"220")
        except OSError:
            return False
