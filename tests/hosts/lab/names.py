"""The lab's name server: dnsmasq, which knows what it is told and says of everything else that it does not exist."""

import contextlib
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from splitmx_test.waiting import poll

A, MX, AAAA = 1, 15, 28


def host(name, *addresses, ttl=1):
    """A and AAAA, and the PTR records back."""
    return [f"host-record={name},{','.join(addresses)},{ttl}"]


def alias(name, address):
    """An address for a name, and nothing else: PTR still gives the host's own."""
    return [f"address=/{name}/{address}"]


def mx(name, *exchanges):
    """mx("example.com", (10, "mx.example.com"), ...)."""
    return [f"mx-host={name},{exchange},{preference}" for preference, exchange in exchanges]


def null_mx(name):
    """MX 0 "." (RFC 7505), which dnsmasq takes only as bytes."""
    return [f"dns-rr={name},{MX},000000"]


class Names:
    def __init__(self, host, records):
        self.host, self.records = host, records
        self.folder = Path(tempfile.mkdtemp(prefix="splitmx-names-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.log = self.folder / "queries"
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        lines = ["no-resolv", "no-hosts", "keep-in-foreground", "log-queries", f"log-facility={self.log}", "pid-file=",
                 "local-ttl=1", "local=/#/", "user=root", *self.records]
        config = self.folder / "dnsmasq.conf"
        config.write_text("".join(f"{line}\n" for line in lines))
        self.process = subprocess.Popen(self.host.command("dnsmasq", f"--conf-file={config}"), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        poll(self._answers, "dnsmasq to answer")

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"dnsmasq ended: {self.process.stderr.read().decode()}")
        return self.ask("ready.test", A, timeout=0.2) is not None

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process.stderr.close()
            self.process = None

    @contextlib.contextmanager
    def also(self, *records):
        """Other records, and those known before, for as long as this lasts; may be nested and changed within."""
        with self.only(self.records + [line for part in records for line in part]):
            yield self

    @contextlib.contextmanager
    def only(self, records):
        """These lines in place of all known before, for as long as this lasts."""
        before = self.records
        try:
            self.change(records)
            yield self
        finally:
            self.change(before)

    def change(self, records):
        """dnsmasq reads names again only at its start; it is back in a few milliseconds."""
        self.stop()
        self.records = records
        self.start()

    def asked(self, name, kind):
        """How often somebody asked for records of a kind, such as "MX"."""
        return self.log.read_text().count(f": query[{kind}] {name} from ")

    def ask(self, name, kind, timeout=5):
        """(response code, count of answers), or None when no answer comes."""
        number = secrets.token_bytes(2)
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = number + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
        with self.host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            try:
                sock.connect((self.host.address, 53))
                sock.send(query)
                answer = sock.recv(4096)
            except OSError:
                return None
        flags, _, answers = struct.unpack(">HHH", answer[2:8])
        return flags & 15, answers
