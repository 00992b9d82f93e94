"""A name server on loopback that knows what a test tells it, and of everything else that it does not exist."""

import functools
import ipaddress
import socket
import struct
import threading

TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "AAAA": 28}
CODES = {"NOERROR": 0, "SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}


def _name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.rstrip(".").split(".") if label) + b"\0"


def _data(kind, value):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind == "MX":
        preference, host = value
        return struct.pack(">H", preference) + _name(host)
    return _name(value)


class DnsServer:
    """UDP only. add("king.test", "A", "127.0.0.1"), fail(name, code), silent(name), forget(); down(how) and up() for all names."""

    def __init__(self):
        self._where = ("127.0.0.1", 0)
        self._lock = threading.Lock()
        self.queries = []
        self._socket = None
        self.up()
        self.address = "127.0.0.1:%d" % self._where[1]
        self.forget()

    def up(self):
        """As at the start, and where it was."""
        self._how = None
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(self._where)
            self._where = self._socket.getsockname()
            threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def down(self, how):
        """"gone" (the port is closed), "silent", or the code of a failure."""
        self._how = how
        if how == "gone":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", self._where)  # ends _serve
            self._gone.wait(10)

    def forget(self):
        with self._lock:
            self._records, self._failing, self._silent = {}, {}, set()
            self.queries.clear()

    def add(self, name, kind, value, ttl=60):
        with self._lock:
            self._records.setdefault(name.lower(), []).append((kind, value, ttl))

    def fail(self, name, code="SERVFAIL"):
        with self._lock:
            self._failing[name.lower()] = code

    def silent(self, name):
        """No answer at all."""
        with self._lock:
            self._silent.add(name.lower())

    def _serve(self, sock):
        self._gone = threading.Event()
        while True:
            query, peer = sock.recvfrom(4096)
            if not query:
                break
            answer = self._answer(query)
            if answer:
                sock.sendto(answer, peer)
        sock.close()
        self._socket = None
        self._gone.set()

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        question = query[12:at + 5]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        name = ".".join(labels).lower()
        with self._lock:
            self.queries.append((name, kind))
            if name in self._silent or self._how == "silent":
                return None
            known = self._records.get(name)
            code = self._how or self._failing.get(name, "NOERROR" if known else "NXDOMAIN")
            records = [r for r in known or () if TYPES[r[0]] == kind or r[0] == "CNAME"] if code == "NOERROR" else []
        body = b""
        for record_kind, value, ttl in records:
            data = _data(record_kind, value)
            body += b"\xc0\x0c" + struct.pack(">HHIH", TYPES[record_kind], 1, ttl, len(data)) + data
        return query[:2] + struct.pack(">HHHHH", 0x8580 | CODES[code], 1, len(records), 0, 0) + question + body


@functools.cache
def dns_server():
    """One for the whole run."""
    return DnsServer()
