"""
A name server on loopback, UDP and TCP on one port, whose every octet is the test's.

    names = HostileDns()
    names.on("loop.test", lambda q: [q.answer(record(b"\xc0\x0c", A, b"\x7f\0\0\1"))])

A script gets a Query and gives the datagrams to be sent. By TCP (`q.tcp`) it gives what goes over the connection as it is, with
its two octets of length (see `framed`); None instead of octets there closes, `HOLD` keeps the connection open in silence.
A name without a script does not exist.
"""

import contextlib
import ipaddress
import socket
import struct
import threading

from .waiting import free_port

A, CNAME, SOA, PTR, MX, AAAA = 1, 5, 6, 12, 15, 28
HOLD = object()
ASKED = b"\xc0\x0c"  # a pointer to the name in the question


def name(text):
    """Labels of text, dots between."""
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in text.split(".") if label) + b"\0"


def record(owner, kind, data, ttl=60, length=None, family=1):
    """A resource record; `length` may lie."""
    owner = owner if isinstance(owner, bytes) else name(owner)
    return owner + struct.pack(">HHIH", kind, family, ttl, len(data) if length is None else length) + data


def address(text, owner=ASKED, **settings):
    packed = ipaddress.ip_address(text).packed
    return record(owner, A if len(packed) == 4 else AAAA, packed, **settings)


def exchange(host, preference=10, owner=ASKED, **settings):
    return record(owner, MX, struct.pack(">H", preference) + (host if isinstance(host, bytes) else name(host)), **settings)


def framed(octets, length=None):
    """With its length, as TCP has it (RFC 1035 4.2.2); which may lie."""
    return struct.pack(">H", len(octets) if length is None else length) + octets


class Query:
    def __init__(self, octets, tcp):
        self.octets, self.tcp = octets, tcp
        labels, at = [], 12
        while octets[at]:
            labels.append(octets[at + 1:at + 1 + octets[at]].decode("latin-1"))
            at += 1 + octets[at]
        self.name = ".".join(labels).lower()
        self.kind = struct.unpack(">H", octets[at + 1:at + 3])[0]
        self.question = octets[12:at + 5]

    def answer(self, *records, code=0, flags=0x8180, counts=None, number=None, question=None, authority=()):
        """A whole answer; `number` is added to its id, `counts` are the four of the header."""
        question = self.question if question is None else question
        counts = counts or (1 if question else 0, len(records), len(authority), 0)
        ident = (struct.unpack(">H", self.octets[:2])[0] + (number or 0)) & 0xffff
        return struct.pack(">HHHHHH", ident, flags | code, *counts) + question + b"".join((*records, *authority))

    def truncated(self):
        """Says that TCP has it all."""
        return self.answer(flags=0x8380)


class HostileDns:
    """`queries` has every (name, kind, tcp) that was asked. Without `tcp` nobody listens there."""

    def __init__(self, tcp=True):
        self._scripts, self._lock = {}, threading.Lock()
        self.queries = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port = free_port()
        self._udp.bind(("127.0.0.1", port))
        self.address = f"127.0.0.1:{port}"
        self._tcp = socket.create_server(("127.0.0.1", port), backlog=256) if tcp else None
        self._held = []
        self._start(self._serve_udp)
        if tcp:
            self._start(self._accept)

    def _start(self, target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def on(self, known, script):
        with self._lock:
            self._scripts[known.lower()] = script
        return self

    def asked(self, known):
        with self._lock:
            return [query for query in self.queries if query[0] == known]

    def asked_below(self, suffix):
        """Every question once."""
        with self._lock:
            return {query[:2] for query in self.queries if query[0].endswith(suffix)}

    def stop(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._udp.getsockname())  # ends _serve_udp
        for one in (self._tcp, *self._held):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _of(self, query):
        with self._lock:
            self.queries.append((query.name, query.kind, query.tcp))
            return self._scripts.get(query.name) or next(
                (script for suffix, script in self._scripts.items() if suffix.startswith("*.") and query.name.endswith(suffix[1:])),
                lambda q: [q.answer(code=3)])

    def _serve_udp(self):
        while True:
            octets, peer = self._udp.recvfrom(4096)
            if not octets:
                self._udp.close()
                return
            query = Query(octets, False)
            for datagram in self._of(query)(query) or ():
                self._udp.sendto(datagram, peer)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                self._held.append(connection)
                self._start(self._serve_tcp, connection)

    def _serve_tcp(self, connection):
        with contextlib.suppress(OSError), connection.makefile("rb") as wire:
            while True:
                length = wire.read(2)
                if len(length) < 2:
                    return
                query = Query(wire.read(struct.unpack(">H", length)[0]), True)
                for octets in self._of(query)(query) or ():
                    if octets is HOLD:
                        continue
                    if octets is None:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(octets)

