"""
One engine for scripted SMTP upstreams.

A ScriptedUpstream listens on loopback (or a unix socket) and behaves like a polite SMTP server except where a
rule says otherwise:

    up = ScriptedUpstream("local")
    up.on("rcpt", reply("550 5.1.1 no such user"), when="nobody@")
    up.on("eod", reply("451 4.3.0 disk full"), times=1)
    up.on("body", reset(), at=b"MIDDLE")

Stages: connect (before the greeting), greeting, ehlo, helo, mail, rcpt, data, body, eod, rset, noop, quit, unknown.
`when` is text that the command line must contain (any case) or a function of the Step; `times` ends a rule after so
many uses; `after` skips so many first; `at` (stage body only) is a count of body octets or a marker in them
that must have arrived: 1 is the first byte, a marker at the end of the message is the last.
The first live rule that fits is taken. Its actions run in order; unless one of them answers or
ends the connection, the polite answer follows.

Everything is recorded: `connections` (commands in order, raw segments, how each ended), `messages`
(answered 2xx at end of data), `refused` (complete, but answered otherwise) and `incomplete` (no end of data came).
"""

import os
import re
import socket
import struct
import threading
import time

from .waiting import PATIENCE, Board

EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES")

# What a lax server takes for the end of data: the look-alikes of CVE-2023-51764, -51765, -51766.
LAX_END = re.compile(rb"(?:^|\r\n|\n|\r)\x00*\.\x00*(?:\r\r\n|\r\n|\n|\r(?=[^\n]))")
STRICT_END = re.compile(rb"(?:^|\r\n)\.\r\n")


class Ended(Exception):
    """The connection is over; the recorded ending says how."""


class Step:
    """Where a connection is when a rule is asked: the stage and the command that led there."""

    def __init__(self, connection, stage, line=b""):
        self.connection = connection
        self.stage = stage
        self.line = line


class Message:
    """One body that an upstream received. `wire` is dot-stuffed, without the end-of-data line."""

    def __init__(self, connection, sender, recipients):
        self.connection = connection
        self.sender = sender
        self.recipients = recipients
        self.wire = b""
        self.size = 0
        self.complete = False
        self.answer = None

    @property
    def data(self):
        """The message unstuffed, as a mailbox would hold it (with CRLF)."""
        return re.sub(rb"(^|\r\n)\.", rb"\1", self.wire)

    def __repr__(self):
        return f"<Message {self.sender!r} -> {self.recipients!r}, {self.size} octets, {self.answer!r}>"


class _Rule:
    def __init__(self, stage, actions, when, times, after, at):
        self.stage, self.actions, self.at = stage, actions, at
        self.left = times
        self.skip = after
        if when is None:
            self.fits = lambda step: True
        elif callable(when):
            self.fits = when
        else:
            needle = when.encode() if isinstance(when, str) else when
            self.fits = lambda step: needle.lower() in step.line.lower()

    def take(self, step):
        """True when the rule applies here; counts the use."""
        if self.left == 0 or self.stage != step.stage or not self.fits(step):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


# Actions: functions of a connection. True means "answered": the polite reply is left out.


def reply(*lines):
    """reply("550 5.1.1 no"), or several lines with the code repeated: reply("250-one", "250 two")."""
    return raw("".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape"))


def raw(octets):
    """Bytes of any kind instead of the reply."""

    def act(connection):
        connection.send(octets)
        return True

    return act


def early(octets):
    """Bytes that nobody asked for; the proper reply still follows."""

    def act(connection):
        connection.send(octets)

    return act


def chased_by(octets):
    """The proper reply and, in the same segment, bytes that nobody asked for."""

    def act(connection):
        original = connection.send

        def send(said):
            connection.send = original
            original(said + octets)

        connection.send = send

    return act


def garbage(count=64):
    return raw(os.urandom(count).replace(b"\n", b"\x80") + b"\r\n")


def close():
    """FIN after what was sent; what still comes in is read and thrown away, so that no RST is provoked."""

    def act(connection):
        connection.end_with_fin()

    return act


def reset():
    def act(connection):
        connection.end_with_rst()

    return act


def silence():
    """Says nothing more, reads on, until the peer ends the connection."""

    def act(connection):
        connection.stay_silent()

    return act


def stall():
    """Neither reads nor writes any more, until the upstream is stopped."""

    def act(connection):
        connection.upstream.stopped.wait()
        raise Ended

    return act


def wait(event, timeout=60):
    """Neither reads nor writes until the test sets the event; then goes on as otherwise."""

    def act(connection):
        connection.wait_for_event(event, timeout)

    return act


def pause(seconds):
    """For time-outs under test: a reply that comes late."""

    def act(connection):
        connection.upstream.stopped.wait(seconds)

    return act


def slow(octets_per_second):
    """From now on reads no faster than this."""

    def act(connection):
        connection.rate = octets_per_second

    return act


def call(function):
    """Runs a function of the test with the connection; its value says whether it answered."""
    return function


class Connection:
    """One accepted connection; read its fields under `upstream.board` or after `await_end`."""

    def __init__(self, upstream, number, sock):
        self.upstream, self.number, self.sock = upstream, number, sock
        self.commands = []  # command lines without CRLF, in order
        self.segments = []  # what each recv returned outside bodies
        self.greeted = False
        self.body = None  # the Message whose body is arriving now
        self.ended = None  # "fin" | "rst" by the peer; "quit"; "closed" | "reset" by the script; "stopped"
        self.rate = None
        self._buffer = b""
        self._eof = False
        self._sender, self._recipients = None, []
        self.arrived = bytearray()  # of that body

    def __repr__(self):
        return f"<connection {self.number}: {self.commands!r} ended={self.ended!r}>"

    @property
    def sender(self):
        """Of the transaction under way; its message's end of data is a part of it."""
        return self._sender

    def verbs(self):
        return [line.split(b" ")[0].split(b":")[0].upper().decode("latin-1") for line in self.commands]

    # what actions use

    def send(self, octets):
        try:
            self.sock.sendall(octets)
        except (ConnectionResetError, BrokenPipeError):
            self._end("rst")

    def end_with_fin(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(65536):
                pass
        except OSError:
            pass
        self._end("closed")

    def end_with_rst(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self._end("reset")

    def stay_silent(self):
        while True:
            self._receive(record=self.body is None)
            self._buffer = b""

    def await_unasked(self, octets):
        """Until the peer has sent this behind what was read; it is read as always, later."""
        while octets not in self._buffer:
            self._receive()

    def wait_for_event(self, event, timeout):
        deadline = time.monotonic() + timeout
        while not event.wait(0.05):
            if self.upstream.stopped.is_set():
                self._end("stopped")
            assert time.monotonic() < deadline, "the test never set the event an upstream waits for"

    # the conversation

    def run(self):
        try:
            if not self._step("connect") and not self._step("greeting"):
                self.send(f"220 {self.upstream.name} ESMTP scripted\r\n".encode())
            self.greeted = True
            while True:
                self._command(self._line())
        except Ended:
            pass
        finally:
            with self.upstream.board:
                if self.ended is None:
                    self.ended = "stopped"
                if self.body is not None:
                    self._store_body()
                    self.upstream.incomplete.append(self.body)
                    self.body = None
            self.sock.close()

    def _end(self, how):
        with self.upstream.board:
            if self.ended is None:
                self.ended = how
        raise Ended

    def _receive(self, limit=65536, record=True):
        if self.rate is not None:
            limit = max(1, min(limit, self.rate // 20))
            if self.upstream.stopped.wait(limit / self.rate):
                self._end("stopped")
        try:
            octets = self.sock.recv(limit)
        except ConnectionResetError:
            self._end("rst")
        except OSError:
            self._end("stopped")
        if not octets:
            self._end("stopped" if self.upstream.stopped.is_set() else "fin")
        if record:
            with self.upstream.board:
                self.segments.append(octets)
        self._buffer += octets
        return octets

    def _line(self):
        while b"\n" not in self._buffer:
            self._receive()
        line, self._buffer = self._buffer.split(b"\n", 1)
        line = line.rstrip(b"\r")
        with self.upstream.board:
            self.commands.append(line)
        return line

    def _step(self, stage, line=b""):
        step = Step(self, stage, line)
        with self.upstream.board:
            rule = next((r for r in self.upstream.rules if r.at is None and r.take(step)), None)
        return self._act(rule)

    def _act(self, rule):
        answered = False
        for action in rule.actions if rule else ():
            answered = bool(action(self)) or answered
        return answered

    def _answer(self, stage, line, polite):
        """True when the polite answer was given."""
        if self._step(stage, line):
            return False
        self.send(polite.encode() + b"\r\n")
        return True

    def _command(self, line):
        verb = line.split(b" ")[0].split(b":")[0].upper()
        handler = {
            b"EHLO": self._ehlo, b"HELO": self._helo, b"MAIL": self._mail, b"RCPT": self._rcpt,
            b"DATA": self._data, b"RSET": self._rset, b"QUIT": self._quit,
        }.get(verb)
        if handler:
            handler(line)
        elif verb == b"NOOP":
            self._answer("noop", line, "250 2.0.0 Ok")
        else:
            self._answer("unknown", line, "502 5.5.2 Error: command not recognized")

    def _ehlo(self, line):
        self._reset_transaction()
        if not self._step("ehlo", line):
            lines = [self.upstream.name, *self._offers()]
            text = "".join(f"250{'-' if i + 1 < len(lines) else ' '}{l}\r\n" for i, l in enumerate(lines))
            self.send(text.encode())

    def _offers(self):
        """The extensions that EHLO lists now; for kinds of connection that offer more or less as they go."""
        return self.upstream.extensions

    def _helo(self, line):
        self._reset_transaction()
        self._answer("helo", line, f"250 {self.upstream.name}")

    def _reset_transaction(self):
        self._sender, self._recipients = None, []

    def _mail(self, line):
        self._reset_transaction()
        if self._answer("mail", line, "250 2.1.0 Ok"):
            self._sender = path_of(line)

    def _rcpt(self, line):
        if self._sender is None:
            self.send(b"503 5.5.1 Error: need MAIL command\r\n")
        elif self._answer("rcpt", line, "250 2.1.5 Ok"):
            self._recipients.append(path_of(line))

    def _data(self, line):
        if not self._recipients:
            if not self._step("data", line):
                self.send(b"554 5.5.1 Error: no valid recipients\r\n")
        elif self._answer("data", line, "354 End data with <CR><LF>.<CR><LF>"):
            self._body()

    def _rset(self, line):
        self._reset_transaction()
        self._answer("rset", line, "250 2.0.0 Ok")

    def _quit(self, line):
        self._answer("quit", line, "221 2.0.0 Bye")
        self._end("quit")

    def _body(self):
        message = Message(self, self._sender, list(self._recipients))
        step = Step(self, "body")
        with self.upstream.board:
            self.body = message
            self.arrived = bytearray()
            rules = [r for r in self.upstream.rules if r.at is not None and r.stage == "body"]
        while not message.complete:
            if not self._buffer:
                nexts = [r.at - message.size for r in rules if isinstance(r.at, int)]
                self._receive(min([n for n in nexts if n > 0] + [65536]), record=False)
            self._take_body(message)
            for rule in [r for r in rules if self._reached(r.at, message)]:
                rules.remove(rule)
                if rule.take(step):
                    self._act(rule)
        with self.upstream.board:
            self._store_body()
            self.body = None
            self.upstream.ended_bodies.append(message)
        self._finish(message)

    def _take_body(self, message):
        """Moves the buffer into the body, up to its end if that is in sight."""
        with self.upstream.board:
            before = len(self.arrived)
            self.arrived += self._buffer
            self._buffer = b""
            end = self.upstream.end_of_data.search(self.arrived, max(0, before - 16))
            if end is not None:
                keep = end.start()
                while self.arrived[keep:keep + 1] in (b"\r", b"\n"):  # the line end before the dot is the message's
                    keep += 1
                self._buffer = bytes(self.arrived[end.end():])
                del self.arrived[keep:]
                message.complete = True
            message.size = len(self.arrived)

    def _store_body(self):
        self.body.wire = bytes(self.arrived)

    def _reached(self, at, message):
        return message.size >= at if isinstance(at, int) else at in self.arrived

    def _finish(self, message):
        number = len(self.upstream.ended_bodies)
        polite = f"250 2.0.0 Ok: queued as {self.upstream.name}-{number}"
        original, self.send = self.send, lambda octets: (self._record_answer(message, octets), original(octets))
        try:
            self._answer("eod", b"", polite)
        finally:
            self.send = original
            with self.upstream.board:
                if message.answer is None:
                    self.upstream.refused.append(message)
        self._reset_transaction()

    def _record_answer(self, message, octets):
        """Before it is sent, so that whoever hears the answer finds the message recorded."""
        with self.upstream.board:
            if message.answer is None:
                message.answer = octets
                accepted = re.match(rb"2\d\d[ -]", octets)
                (self.upstream.messages if accepted else self.upstream.refused).append(message)


def path_of(line):
    """What stands between the first '<' and the last '>' of MAIL or RCPT."""
    match = re.search(rb"<(.*)>", line)
    return match.group(1).decode("latin-1") if match else None


class ScriptedUpstream:
    connection_type = Connection  # for upstreams that know more commands

    def __init__(self, name="upstream.test", extensions=EXTENSIONS, address="127.0.0.1", port=0, unix=None,
                 receive_buffer=None, lax=False, listen=True):
        self.name, self.extensions = name, extensions
        self.end_of_data = LAX_END if lax else STRICT_END
        self.board = Board()
        self.rules = []
        self.connections, self.messages, self.refused, self.incomplete = [], [], [], []
        self.ended_bodies = []  # every body whose end-of-data came, in order, answered or not
        self.stopped = threading.Event()
        self._receive_buffer = receive_buffer
        self._where = (unix or (address, port))
        self._family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener, self._threads = None, []
        if listen:
            self.start()

    # where it is

    @property
    def port(self):
        return self._where[1]

    @property
    def next_hop(self):
        if self._family == socket.AF_UNIX:
            return f"smtp:[unix:{self._where}]"
        return f"smtp:[{self._where[0]}]:{self._where[1]}"

    # life

    def start(self):
        listener = socket.socket(self._family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listener.bind(self._where)
        listener.listen(512)
        if self._family == socket.AF_UNIX:
            os.chmod(self._where, 0o777)
        else:
            self._where = listener.getsockname()[:2]
        self._listener = listener
        self.stopped.clear()
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return self

    def stop(self):
        """Ends all connections and listens no more: from now on connecting is refused. start() undoes it."""
        self.stopped.set()
        if self._listener is not None:
            try:
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            except OSError:
                pass
            self._listener.close()
            self._listener = None
        with self.board:
            alive = [c for c in self.connections if c.ended is None]
        for connection in alive:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(5)
        self._threads = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if self._family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # An RST beyond a window that is nearly shut is dropped (RFC 5961 3.2), and the peer is gone then: ask.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
            with self.board:
                connection = self.connection_type(self, len(self.connections) + 1, sock)
                self.connections.append(connection)
            thread = threading.Thread(target=connection.run, daemon=True)
            thread.start()
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]

    # the script

    def on(self, stage, *actions, when=None, times=None, after=0, at=None):
        """Adds a rule (see above) and returns the upstream, so that rules can be chained."""
        assert stage != "body" or at is not None, "a rule for the body says where: at=1, at=5000, at=b'marker'"
        with self.board:
            self.rules.append(_Rule(stage, actions, when, times, after, at))
        return self

    def forget(self):
        """Drops all rules and records; live connections stay, with nothing recorded."""
        with self.board:
            self.rules.clear()
            self.messages.clear()
            self.refused.clear()
            self.incomplete.clear()
            self.ended_bodies.clear()
            self.connections[:] = [c for c in self.connections if c.ended is None]
            for connection in self.connections:  # pooled by the daemon, perhaps
                connection.commands.clear()
                connection.segments.clear()

    # what tests await

    def wait_for(self, predicate, what, timeout=PATIENCE):
        return self.board.wait_for(predicate, f"{what} at {self.name}", timeout, lambda: self.connections)

    def await_connection(self, number=1, timeout=PATIENCE):
        self.wait_for(lambda: len(self.connections) >= number, f"connection {number}", timeout)
        return self.connections[number - 1]

    def await_command(self, verb, count=1, timeout=PATIENCE):
        """The command line of the count-th command that begins with `verb`, over all connections."""
        wanted = verb.upper().encode()

        def found():
            lines = [l for c in self.connections for l in c.commands if l.upper().startswith(wanted)]
            return lines[count - 1:count] or None

        return self.wait_for(found, f"command {verb}", timeout)[0]

    def await_messages(self, count=1, timeout=PATIENCE):
        self.wait_for(lambda: len(self.messages) >= count, f"{count} messages", timeout)
        return list(self.messages)

    def await_body(self, octets=1, timeout=PATIENCE):
        """The body under way once so many octets of it are here (or a marker)."""

        def found():
            for connection in self.connections:
                body = connection.body
                if body is None:
                    continue
                if isinstance(octets, int):
                    if body.size >= octets:
                        return body
                elif octets in connection.arrived:
                    return body
            return None

        return self.wait_for(found, f"{octets!r} of a body", timeout)

    def await_incomplete(self, count=1, timeout=PATIENCE):
        """Bodies that were broken off: the proof that a leg was abandoned."""
        self.wait_for(lambda: len(self.incomplete) >= count, f"{count} broken-off bodies", timeout)
        return list(self.incomplete)

    def await_all_ended(self, timeout=PATIENCE):
        self.wait_for(lambda: all(c.ended for c in self.connections), "the end of all connections", timeout)
        return [c.ended for c in self.connections]

    def body_octets(self):
        """How much of the bodies under way has been read."""
        with self.board:
            return sum(c.body.size for c in self.connections if c.body is not None)

    def assert_has_nothing(self):
        """No message, accepted or refused: no end-of-data was ever seen here."""
        with self.board:
            assert self.ended_bodies == [], f"{self.name} was given an end-of-data: {self.ended_bodies}"

    def only_message(self, timeout=PATIENCE):
        messages = self.await_messages(1, timeout)
        assert len(messages) == 1, f"{self.name} has {messages}"
        return messages[0]

    def commands(self):
        with self.board:
            return [line for connection in self.connections for line in connection.commands]


def assert_no_copy(*upstreams):
    """Each was abandoned in mid-message."""
    for upstream in upstreams:
        upstream.await_incomplete()
        upstream.assert_has_nothing()
