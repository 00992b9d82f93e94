"""Upstreams that keep what they accept, and fail as their fates say."""

import asyncio
import contextlib
import socket
import time

from book import Copy, Gone, Refusal, Transaction, Wire
from plan import PLACE, connection_fate, draw, transaction_fate

WORDS = {"4xx": b"451 4.3.0 not now\r\n", "421": b"421 4.3.2 going down\r\n", "garbage": b"\x80\xff what?\r\n"}
REFUSALS = {"mail": b"550 5.7.1 not from you\r\n", "rcpt": b"550 5.7.1 not to him\r\n", "data": b"554 5.7.1 no data\r\n",
            "end": b"554 5.6.0 not this one\r\n"}
RACE, MET = 0.5, 30_000  # seconds, and octets of the message, in which words may meet its end
SILENCE = 8.0  # longer than any time-out of the daemon's


class Relay:
    def __init__(self, name, book, xclient=False, tls=None, receive_buffer=None):
        self.name, self.book, self.xclient, self.tls = name, book, xclient, tls
        self.receive_buffer = receive_buffer
        self.port = 0
        self.server = None
        self.calm = False
        self.talks = set()
        self.connections = 0
        self.seen = {}  # sender: how many transactions
        self.on_accept = self.on_accepted = lambda: None

    @property
    def next_hop(self):
        return f"smtp:[127.0.0.1]:{self.port}"

    async def up(self):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        self.server = await asyncio.start_server(self.serve, sock=sock, backlog=512, limit=16384)

    def down(self):
        self.server.close()
        for connection in self.talks:
            connection.cut()

    async def serve(self, reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(reader, writer)
        self.connections += 1
        connection = Connection(self, wire, self.connections)
        self.talks.add(connection)
        try:
            await connection.run()
        except Gone:
            pass
        except asyncio.CancelledError:
            wire.reset()
        finally:
            self.talks.discard(connection)
            wire.close()

    def fate(self, sender):
        self.seen[sender] = self.seen.get(sender, 0) + 1
        return transaction_fate(draw(self.book.seed, self.name, sender, self.seen[sender]), self.calm)


class Connection:
    def __init__(self, relay, wire, number):
        self.relay, self.wire, self.number, self.book = relay, wire, number, relay.book
        self.stage, self.kind = connection_fate(draw(self.book.seed, relay.name, "connection", number), relay.calm)
        self.transaction = Transaction(relay.name, number)  # what is said before the first MAIL
        self.book.beginnings.append(self.transaction)
        self.fate = {}
        self.improper = False  # it has said what nobody asked for
        self.spoke_at, self.spoke_before = None, 0  # within a body, when nobody had asked; octets of it that were here
        self.is_cut = False
        self.is_secure = False

    def note(self, text):
        self.transaction.note(text)

    def cut(self):
        """What was said last may be lost with the connection."""
        self.note("reset")
        self.is_cut = True
        if self.transaction.copy is not None:
            self.transaction.copy.cut = True
        self.wire.reset()

    async def say(self, octets):
        self.note(f"> {octets[:60]!r}")
        await self.wire.write(octets)

    async def fail(self, kind, stage, polite):
        """Does what the fate wants in place of the polite answer. Raises Gone where the connection is over."""
        if kind is None:
            return await self.say(polite)
        self.note(f"fate at {stage}: {kind}")
        if kind == "reset":
            self.cut()
            raise Gone("own reset")
        if kind == "fin":
            self.wire.close()
            raise Gone("own FIN")
        if kind == "silence":
            await self.silence()
        if kind == "early":
            self.improper = True
            return await self.say(polite + b"250 2.0.0 and more\r\n")
        if kind == "slow":
            await asyncio.sleep(draw(self.book.seed, self.relay.name, self.number, stage).uniform(0.02, 0.8))
            return await self.say(polite)
        if kind == "5xx":
            refusal = REFUSALS.get(stage, b"554 5.3.2 not here\r\n")
            self.book.refusals.append(Refusal(self.relay.name, stage, self.transaction.sender, self.transaction.asked, self.improper))
            await self.say(refusal)
        else:
            await self.say(WORDS[kind])
        if kind == "421":
            self.wire.close()
            raise Gone("own 421")
        return None

    async def silence(self):
        """Reads on, says nothing."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._swallow(), SILENCE)
        raise Gone("silence is over")

    async def _swallow(self):
        while True:
            await self.wire.fill()
            self.wire.buffer.clear()

    def at(self, stage):
        return self.kind if self.stage == stage else None

    async def run(self):
        if self.at("connect"):
            await self.fail(self.at("connect"), "connect", b"")
        await self.fail(self.at("greeting"), "greeting", f"220 {self.relay.name}.test ESMTP soak\r\n".encode())
        while True:
            line = await self._next()
            verb = line[:4].upper()
            if verb == b"EHLO":
                offers = [self.relay.name + ".test", "PIPELINING", "8BITMIME", "SIZE 50000000", "ENHANCEDSTATUSCODES"]
                offers += ["XCLIENT NAME ADDR PORT PROTO HELO"] if self.relay.xclient else []
                offers += ["STARTTLS"] if self.relay.tls and not self.is_secure else []
                text = "".join(f"250{' ' if word is offers[-1] else '-'}{word}\r\n" for word in offers)
                await self.fail(self.at("ehlo"), "ehlo", text.encode())
            elif verb == b"XCLI":
                await self.fail(self.at("xclient"), "xclient", b"220 go on\r\n")
            elif verb == b"STAR":
                await self._starttls()
            elif verb == b"MAIL":
                await self._mail(line)
            elif verb == b"RCPT":
                await self._rcpt(line)
            elif verb == b"DATA":
                await self._data()
            elif verb == b"QUIT":
                if self.fate.get("quit"):
                    await self.silence()
                await self.say(b"221 2.0.0 Bye\r\n")
                raise Gone("QUIT")
            else:  # RSET, NOOP
                await self.say(b"250 2.0.0 Ok\r\n")

    async def _starttls(self):
        await self.fail(self.at("starttls"), "starttls", b"220 go ahead\r\n")
        if self.at("starttls") in ("4xx", "5xx", "garbage"):
            return
        if self.at("handshake"):
            await self.fail(self.at("handshake"), "handshake", b"")
        writer, transport = self.wire.writer, self.wire.writer.transport
        try:
            await writer.start_tls(self.relay.tls)
        except OSError as error:  # ssl's errors are of that kind
            raise Gone(repr(error)) from None
        except AttributeError:  # of asyncio, where the peer went away meanwhile: it has put None for the transport
            writer._transport = transport
            raise Gone("during the handshake") from None
        self.is_secure = True

    async def _next(self):
        try:
            line = await self.wire.line()
        except Gone as gone:
            self.note(f"< {gone}")
            raise
        self.note(f"< {line.decode('latin-1')}")
        return line

    async def _mail(self, line):
        self.transaction = Transaction(self.relay.name, self.number)
        self.book.transactions.append(self.transaction)
        self.transaction.sender = path(line)
        self.note(f"< {line.decode('latin-1')}")
        self.fate = self.relay.fate(self.transaction.sender)
        await self.fail(self.fate.get("mail"), "mail", b"250 2.1.0 Ok\r\n")

    async def _rcpt(self, line):
        recipient = path(line)
        self.transaction.asked.append(recipient)
        if self.fate.get("mail") in ("4xx", "5xx", "garbage"):
            return await self.say(b"503 5.5.1 need MAIL\r\n")
        if PLACE.get(recipient) == "moved" and self.relay.name == "local":
            self.book.refusals.append(Refusal("local", "rcpt", self.transaction.sender, [recipient], self.improper))
            return await self.say(b"550 5.1.1 unknown here\r\n")
        kind = self.fate.get("rcpt")
        if kind in ("4xx", "5xx") and len(self.transaction.asked) % 2 == 0:
            kind = None  # some of several
        await self.fail(kind, "rcpt", b"250 2.1.5 Ok\r\n")
        if kind not in ("4xx", "5xx", "garbage"):
            self.transaction.recipients.append(recipient)
        return None

    async def _data(self):
        if not self.transaction.recipients:
            return await self.say(b"554 5.5.1 no recipients\r\n")
        kind = self.fate.get("data")
        await self.fail(kind, "data", b"354 go\r\n")
        if kind not in ("4xx", "5xx", "garbage"):
            await self._body()
        return None

    async def _body(self):
        wire, done = self.wire, 0
        stages = [stage for stage in ("body-first", "body-middle") if stage in self.fate]
        try:
            while (end := wire.buffer.find(b"\r\n.\r\n", max(0, done - 8))) < 0:
                done = len(wire.buffer)
                if stages and done > (0 if stages[0] == "body-first" else 400):
                    await self._body_fails(stages.pop(0))
                if "body-slow" in self.fate:
                    await asyncio.sleep(0.01)
                await wire.fill(2048 if "body-slow" in self.fate else 65536)
        except Gone as gone:
            self.note(f"< {gone} after {len(wire.buffer)} octets of a message")
            raise
        if self.is_cut:
            raise Gone("own reset")
        body = bytes(wire.buffer[:end + 2])
        del wire.buffer[:end + 5]
        copy = self.transaction.copy = Copy(self.transaction, body)
        self.book.copies.append(copy)
        self.note(f"< message {copy.key} from {copy.helo}, end of data")
        await self._end(copy)
        self.transaction.recipients, self.transaction.asked = [], []
        if self.fate.get("idle"):
            await asyncio.sleep(0.02)
            await self.fail(self.fate["idle"], "idle", b"")

    async def _body_fails(self, stage):
        kind = self.fate[stage]
        if kind == "early":
            self.spoke_at, self.spoke_before = time.monotonic(), len(self.wire.buffer)
            self.note("fate: speaks before the end of data")
            await self.wire.write(b"250 2.0.0 taken already\r\n")
        else:
            await self.fail(kind, stage, b"")

    async def _end(self, copy):
        kind = self.fate.get("end")
        if self.spoke_at is not None:
            self.weigh(copy)
            kind = None
        if kind is not None and not kind.startswith("accept"):
            if kind == "endless":
                await self._endless()
            await self.fail(kind, "end", b"")
            copy.answered_at = time.monotonic()
            return
        copy.accepted = True
        self.relay.on_accept()
        how = (kind or "accept-").removeprefix("accept-")
        if how in ("slow", "late"):
            rng = draw(self.book.seed, self.relay.name, copy.key, self.relay.seen[copy.sender])
            await asyncio.sleep(rng.uniform(0.02, 1.2) if how == "slow" else rng.uniform(3.2, 4.5))
        elif how == "half":
            self.note("fate: half an acceptance")
            await self.wire.write(b"250-2.0.0 taken\r\n25")
            self.wire.close()
            raise Gone("own FIN")
        elif how:
            await self.fail(how, "end", b"")
            return
        copy.answered_at, copy.proper = self.spoke_at or time.monotonic(), not self.improper
        await self.say(f"250 2.0.0 {self.relay.name} has {copy.key}\r\n".encode())
        self.relay.on_accepted()

    def weigh(self, copy):
        """
        What was said within the body and met the end of data on its way is an answer to it, for all that the other side
        can tell; what was said well before is none, and no end of data should have come.
        """
        attempts = [a for a in self.book.attempts.get(copy.helo, ()) if a.message.key == copy.key]
        sent = attempts[-1].end_sent if attempts else None
        if sent is not None and sent < self.spoke_at + RACE and len(copy.rest) < self.spoke_before + MET:
            copy.in_doubt = True
        else:
            self.improper = True

    async def _endless(self):
        self.note("fate: a reply without end")
        while True:
            await self.wire.write(b"250-more\r\n" * 50)
            await asyncio.sleep(0.01)


def path(line):
    return line[line.find(b"<") + 1:line.rfind(b">")].decode("latin-1")
