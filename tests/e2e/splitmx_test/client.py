"""A raw SMTP client that sends exactly what it is told, and sees exactly what comes back."""

import re
import socket
import struct

from .waiting import PATIENCE, Timeout


class Reply:
    def __init__(self, wire):
        self.wire = wire
        self.lines = wire.decode("utf-8", "replace").splitlines()
        self.code = int(self.lines[-1][:3])
        self.texts = [line[4:] for line in self.lines]
        self.text = self.texts[-1]

    @property
    def enhanced(self):
        match = re.match(r"[245]\.\d{1,3}\.\d{1,3}\b", self.text)
        return match.group(0) if match else None

    def __eq__(self, other):
        """reply == 250, reply == "451 4.3.0" (the line begins with that, up to a word's end)."""
        if isinstance(other, int):
            return self.code == other
        if isinstance(other, str):
            last = self.lines[-1]
            return last == other or last.startswith(other + " ")
        return NotImplemented

    __hash__ = None

    def __repr__(self):
        return f"<{' / '.join(self.lines)}>"


class Gone(Exception):
    """The server ended the connection where a reply was due; `how` is "fin" or "rst"."""

    def __init__(self, how, rest=b""):
        super().__init__(f"server ended the connection ({how}), before that: {rest!r}")
        self.how, self.rest = how, rest


def stuff(message):
    """Dot-stuffing, RFC 5321 4.5.2."""
    return re.sub(rb"(^|\r\n)\.", rb"\1..", message)


class Client:
    """Client(("127.0.0.1", 2525)); with hello given, greeting and EHLO are done."""

    def __init__(self, where, hello="client.test", greet=True, timeout=PATIENCE, source=None, receive_buffer=None):
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self._buffer = b""
        try:
            self._connect(where)
            self.greeting = self.reply() if greet else None
            if greet and hello:
                assert self.greeting == 220, self.greeting
                self.capabilities = self.cmd(f"EHLO {hello}")
                assert self.capabilities == 250, self.capabilities
        except BaseException:
            self.close()
            raise

    def _connect(self, where):
        """A server may accept and reset before connect(2) has looked: that is its end, as much as a reset later."""
        try:
            self.sock.connect(where)
        except ConnectionResetError:
            raise Gone("rst") from None
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, octets):
        self.sock.sendall(octets.encode("utf-8", "surrogateescape") if isinstance(octets, str) else octets)

    def reply(self, timeout=None):
        """The next reply, all its lines. Raises Gone at EOF or reset."""
        if timeout is not None:
            self.sock.settimeout(timeout)
        end = re.compile(rb"^(?:\d{3}-[^\n]*\n)*\d{3}(?: [^\n]*)?\r?\n")
        while True:
            match = end.match(self._buffer)
            if match:
                self._buffer = self._buffer[match.end():]
                return Reply(match.group(0))
            self._fill()

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def _fill(self):
        try:
            octets = self.sock.recv(65536)
        except socket.timeout:
            raise Timeout(f"no reply in {self.sock.gettimeout()} s; so far: {self._buffer!r}") from None
        except (ConnectionResetError, BrokenPipeError):
            raise Gone("rst", self._buffer) from None
        if not octets:
            raise Gone("fin", self._buffer)
        self._buffer += octets

    def silent_for(self, seconds):
        """Nothing comes for so long. (The one place where time has to pass.)"""
        if self._buffer:
            return False
        self.sock.settimeout(seconds)
        try:
            self._fill()
        except Timeout:
            return True
        except Gone:
            return False
        finally:
            self.sock.settimeout(PATIENCE)
        return False

    def await_end(self, timeout=PATIENCE):
        """Reads until the server ends the connection: ("fin" or "rst", what it said until then)."""
        self.sock.settimeout(timeout)
        while True:
            try:
                self._fill()
            except Gone as gone:
                return gone.how, gone.rest

    def cmd(self, line):
        self.send(line + "\r\n" if isinstance(line, str) else line + b"\r\n")
        return self.reply()

    def mail(self, sender="sender@client.test", parameters=""):
        return self.cmd(f"MAIL FROM:<{sender}>{' ' + parameters if parameters else ''}")

    def rcpt(self, recipient):
        return self.cmd(f"RCPT TO:<{recipient}>")

    def data(self):
        return self.cmd("DATA")

    def begin(self, *recipients, sender="sender@client.test"):
        """MAIL, RCPTs and DATA, all of which must be taken."""
        reply = self.mail(sender)
        assert reply == 250, reply
        for recipient in recipients:
            reply = self.rcpt(recipient)
            assert reply == 250, (recipient, reply)
        reply = self.data()
        assert reply == 354, reply
        return self

    def body(self, message):
        """The message, stuffed, and the end of data; the reply to it."""
        self.send(stuff(message) + b".\r\n")
        return self.reply()

    def send_mail(self, message, *recipients, sender="sender@client.test"):
        return self.begin(*recipients, sender=sender).body(message)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def quit(self):
        reply = self.cmd("QUIT")
        self.close()
        return reply

    def close(self):
        self.sock.close()
