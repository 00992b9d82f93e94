"""TLS from both sides: clients that cut it as they like, upstreams that know STARTTLS, and what Python's ssl does not offer."""

import contextlib
import ctypes
import os
import socket
import ssl

from .client import Client, Gone
from .upstream import Connection, ScriptedUpstream
from .waiting import PATIENCE, Timeout


class _Library:
    """
    Calls of libssl that Python has no name for, on the SSL of one of its objects. That is the word behind an object's
    head and the reference to its socket, in every CPython since 3.2; checked by what the library says of it.
    """

    def __init__(self):
        self._ssl = ctypes.CDLL("libssl.so.3")
        self._ssl.SSL_get_version.restype = ctypes.c_char_p

    def of(self, sslobj):
        if type(sslobj).__name__ != "_SSLSocket":  # an SSLSocket that was shut down has None
            raise OSError("no TLS any more")
        pointer = ctypes.c_void_p.from_address(id(sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
        assert self._ssl.SSL_get_version(pointer).decode() == sslobj.version(), "not the SSL of this object"
        return pointer

    def new_ticket(self, sslobj):
        assert self._ssl.SSL_new_session_ticket(self.of(sslobj)) == 1

    def update_key(self, sslobj):
        """A KeyUpdate that asks the peer for one of its own (RFC 8446 4.6.3), with the next write."""
        assert self._ssl.SSL_key_update(self.of(sslobj), 1) == 1

    def renegotiate(self, sslobj):
        """TLS 1.2: a new handshake within the old (RFC 5246 7.4.1.1), begun by the next do_handshake."""
        assert self._ssl.SSL_renegotiate(self.of(sslobj)) == 1


library = _Library()


class TlsClient(Client):
    """A Client that can begin TLS: tls = client.starttls(context), or implicit=context at connecting."""

    def __init__(self, where, hello="client.test", greet=True, implicit=None, name="mx.splitmx.test", **keywords):
        self._name = name
        if implicit is None:
            super().__init__(where, hello=hello, greet=greet, **keywords)
            return
        super().__init__(where, hello=None, greet=False, **keywords)
        self.secure(implicit)
        self.greeting = self.reply() if greet else None
        if greet and hello:
            self.capabilities = self.cmd(f"EHLO {hello}")

    def take_alert(self):
        """Whether the server has ended TLS before it began: a record of alerts came with its answer to STARTTLS."""
        return self._buffer.startswith(b"\x15\x03")

    def secure(self, context):
        """The handshake."""
        assert self._buffer == b"", self._buffer
        self.sock = context.wrap_socket(self.sock, server_hostname=self._name)
        return self

    def starttls(self, context, hello="client.test"):
        answer = self.cmd("STARTTLS")
        assert answer == 220, answer
        self.secure(context)
        if hello:
            self.capabilities = self.cmd(f"EHLO {hello}")
            assert self.capabilities == 250, self.capabilities
        return self

    @property
    def certificate(self):
        """What the server showed, as DER."""
        return self.sock.getpeercert(binary_form=True)

    def _fill(self):
        try:
            super()._fill()
        except ssl.SSLError as error:
            raise Gone(f"tls: {error.reason}", self._buffer) from None


class Cutter:
    """
    TLS over a connected socket where the test holds every byte: `take` gives the ciphertext that is due, in `put` it is
    sent, cut as wanted. Nothing is sent by itself.
    """

    def __init__(self, sock, context, name="mx.splitmx.test"):
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._plain = b""

    def take(self):
        return self._out.read()

    def put(self, octets, cut=None):
        for at in range(0, len(octets), cut or len(octets) or 1):
            self.sock.sendall(octets[at:at + (cut or len(octets))])

    def handshake(self, cut=None):
        self.put(self.last_flight(cut), cut)
        return self

    def last_flight(self, cut=None):
        """The handshake but for the client's last words, which are returned (TLS 1.3)."""
        while True:
            try:
                self.tls.do_handshake()
                return self.take()
            except ssl.SSLWantReadError:
                self.put(self.take(), cut)
                self._receive()

    def first_flight(self):
        """The ClientHello."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.take()

    def seal(self, plain):
        """The records that protect it."""
        self.tls.write(plain.encode() if isinstance(plain, str) else plain)
        return self.take()

    def close_notify(self):
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.take()

    def reply(self):
        """One reply of a single line or several."""
        while True:
            lines = self._plain.splitlines(keepends=True)
            for count, line in enumerate(lines, 1):
                if line[3:4] == b" " and line.endswith(b"\n"):
                    self._plain = b"".join(lines[count:])
                    return b"".join(lines[:count]).decode()
            self._read()

    def read_until(self, marker):
        """All words up to the line that holds the marker."""
        while not (marker in self._plain and self._plain.endswith(b"\n")):
            self._read()
        words, self._plain = self._plain, b""
        return words

    def await_end(self):
        """Reads until the server ends the connection; the words until then."""
        with contextlib.suppress(Gone, ssl.SSLError):
            while True:
                self._read()
        return self._plain.decode()

    def _read(self):
        try:
            octets = self.tls.read(65536)
            if not octets:
                raise Gone("close_notify")
            self._plain += octets
        except ssl.SSLWantReadError:
            self._receive()

    def _receive(self):
        self.sock.settimeout(PATIENCE)
        try:
            octets = self.sock.recv(65536)
        except TimeoutError:
            raise Timeout(f"nothing in {PATIENCE:g} s; so far: {self._plain!r}") from None
        except (ConnectionResetError, BrokenPipeError):
            raise Gone("rst", self._plain) from None
        if not octets:
            raise Gone("fin", self._plain)
        self._in.write(octets)


# Upstreams


class TlsConnection(Connection):
    """
    Knows STARTTLS. `tls` is the version in use or None, `sni` the name asked for, `resumed` whether an old session went on,
    `failed` why there was no handshake.
    """

    def __init__(self, upstream, number, sock):
        super().__init__(upstream, number, sock)
        self.tls = self.sni = self.failed = None
        self.resumed = False

    def _offers(self):
        if self.tls is not None:
            return self.upstream.secure_extensions
        return (*self.upstream.extensions, *(["STARTTLS"] if self.upstream.context else []))

    def _command(self, line):
        if line.upper() != b"STARTTLS" or self.tls is not None:
            super()._command(line)
        elif self._answer("starttls", line, "220 2.0.0 Ready to start TLS"):
            self.shake_hands()

    def shake_hands(self):
        """Also for rules that answered STARTTLS with more than the polite line. Rules of the stage `handshake` come first."""
        self._step("handshake")
        if self._buffer:
            self.failed = f"bytes behind STARTTLS: {self._buffer!r}"
            self._end("tls")
        try:
            self.sock = self.upstream.context.wrap_socket(self.sock, server_side=True)
        except (OSError, ValueError) as error:  # of which SSLError is one kind
            self.failed = str(error)
            self._end("tls")
        with self.upstream.board:
            self.tls, self.resumed = self.sock.version(), self.sock.session_reused
            self.sni = getattr(self.sock, "asked_for", None)
        self._reset_transaction()
        self._step("secure")

    def _answer(self, stage, line, polite):
        """Rules may name what comes after a polite answer, too: after-rcpt."""
        polite_it_was = super()._answer(stage, line, polite)
        if polite_it_was:
            self._step(f"after-{stage}", line)
        return polite_it_was

    def _ehlo(self, line):
        super()._ehlo(line)
        self._step("after-ehlo", line)

    def _end(self, how):
        """Python tells a reset as an end; the kernel knows better (TCP_CLOSE)."""
        if how == "fin" and self.tls and self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x07":
            how = "rst"
        super()._end(how)

    def send(self, octets):
        try:
            super().send(octets)
        except ssl.SSLError:
            self._end("tls")


class TlsUpstream(ScriptedUpstream):
    """
    Offers STARTTLS with a certificate (None: not). In TLS it may list other extensions. Rules may name more stages: starttls,
    handshake (STARTTLS is answered), secure (the handshake is done).
    """

    connection_type = TlsConnection

    def __init__(self, name="upstream.test", certificate=None, secure_extensions=None, **settings):
        super().__init__(name, listen=False, **settings)
        self.secure_extensions = self.extensions if secure_extensions is None else secure_extensions
        self.context = None
        self.use(certificate)
        self.start()

    def use(self, certificate, **options):
        """From the next connection on."""
        context = certificate.server_context() if certificate is not None else None
        if context is not None:
            def keep_sni(sock, name, _):
                sock.asked_for = name

            context.sni_callback = keep_sni
            for key, value in options.items():
                setattr(context, key, value)
        self.context = context

    def clear_words(self):
        """Commands that came without protection, of all connections; STARTTLS ends them."""
        with self.board:
            return [line for c in self.connections if c.tls is None for line in c.commands]


def ticket():
    """A NewSessionTicket, by itself (RFC 8446 4.6.1), where nothing asks for it."""

    def act(connection):
        with contextlib.suppress(OSError):
            library.new_ticket(connection.sock._sslobj)
            connection.sock.do_handshake()

    return act


def send_clear(octets):
    """Bytes past the TLS that is in use."""

    def act(connection):
        with contextlib.suppress(OSError):
            os.write(connection.sock.fileno(), octets)
        return True

    return act
