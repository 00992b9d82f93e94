"""Clients that queue as mail servers do: what was not settled is tried again, until it is."""

import asyncio
import time

from book import Attempt, Gone, Wire
from plan import Conduct, Message, draw

PATIENCE = 20.0  # no answer for so long is a violation, seconds
CALM_PATIENCE = 75.0  # a breaker may be open for half a minute after its relay has come back
CALM_TRIES = 25


class Left(Exception):
    """The client has gone away, as its conduct wanted."""


class Session:
    """A connection to the daemon; `helo` names it in every copy that comes of it."""

    def __init__(self, wire, helo):
        self.wire, self.helo = wire, helo
        self.has_mail = False  # the next MAIL has been said and answered

    @classmethod
    async def open(cls, where, helo, context):
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*where, ssl=context, server_hostname="mx.splitmx.test" if context else None),
                                                PATIENCE)
        return cls(Wire(reader, writer), helo)

    async def reply(self, attempt):
        while True:
            try:
                line = (await asyncio.wait_for(self.wire.line(), PATIENCE)).decode("latin-1")
            except asyncio.TimeoutError:
                raise Silent from None
            if line[3:4] != "-":
                attempt.note(f"< {line}")
                return line

    async def send(self, attempt, text):
        attempt.note(f"> {text.rstrip()!r}")
        await self.wire.write(text.encode())


class Silent(Exception):
    pass


class Sender:
    """One address that writes mail, and its queue."""

    def __init__(self, book, name, town):
        self.book, self.name, self.town = book, name, town
        self.rng = draw(book.seed, "sender", name)
        self.singly = self.rng.random() < 0.25  # a transaction for each recipient, and all in step, as some servers do
        self.queue, self.written, self.sessions = [], 0, 0
        self.idle = []  # sessions that may be used again
        self.last = None

    def write_message(self):
        self.written += 1
        message = Message(self.book.seed, self.name, self.written, self.last)
        self.last = message
        self.book.messages[message.key] = message
        self.queue.append(message)

    async def run(self, count):
        """Until all senders together have come to `count` transactions."""
        while self.book.begun < count:
            if not self.queue or (len(self.queue) < 4 and self.rng.random() < 0.25):
                self.write_message()
            await self.turn(calm=False)
            await asyncio.sleep(self.rng.choice((0, 0.01, 0.05)))

    async def finish(self):
        """Every upstream is well: everybody's mail is settled, within bounds."""
        began, tries = time.monotonic(), 0
        while self.queue:
            tries += 1
            waited = time.monotonic() - began
            waiting = [m for m in self.queue if waited > CALM_PATIENCE or any(m.tries[r] > CALM_TRIES for r in m.pending)]
            for message in waiting:
                self.book.violate(f"{message.pending} not settled after {dict(message.tries)} tries in {waited:.0f} s", message)
            if waiting:
                return
            await self.turn(calm=True)
            await asyncio.sleep(min(1.0, 0.02 * 1.3 ** tries))
        for session in self.idle:
            session.wire.close()

    async def turn(self, calm):
        """The next of the queue, and perhaps another beside it; what is not settled goes to the end."""
        jobs = [self.queue.pop(0)]
        if self.queue and not self.singly and self.rng.random() < 0.2:
            jobs.append(self.queue.pop(0))
        self.queue += jobs
        await asyncio.gather(*(self.deliver(message, calm) for message in jobs))
        self.queue = [message for message in self.queue if message.pending]

    async def deliver(self, message, calm):
        parts, rng = [list(message.pending)], draw(self.book.seed, "parts", message.key, len(message.attempts))
        if self.singly:
            parts = [[recipient] for recipient in message.pending]
        elif len(message.pending) > 1 and rng.random() < 0.25:
            cut = rng.randrange(1, len(message.pending))
            parts = [message.pending[:cut], message.pending[cut:]]
        if rng.random() < 0.5 and not self.singly:
            await asyncio.gather(*(self.attempt(message, part, calm) for part in parts))
        else:
            for part in parts:
                await self.attempt(message, part, calm)

    async def attempt(self, message, recipients, calm):
        conduct = Conduct(draw(self.book.seed, "attempt", message.key, len(message.attempts), recipients[0]), calm)
        attempt = Attempt(message, recipients, None)
        attempt.began = time.monotonic()
        message.attempts.append(attempt)
        session = None
        try:
            session = await self.session(attempt, conduct)
            await self.talk(session, attempt, conduct)
            await self.part(session, attempt, conduct)
            session = None
        except Left:
            pass
        except (Gone, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            attempt.note(f"ended: {error!r}")
            if isinstance(error, ConnectionRefusedError):
                await asyncio.sleep(0.05)  # it is being started
        except Silent:
            attempt.note("no answer")
            self.book.violate(f"no answer within {PATIENCE:.0f} s", message)
        finally:
            attempt.ended = time.monotonic()
            if session is not None:
                session.wire.close()
        self.settle(message, attempt)
        if calm and attempt.lines and not any("451 4.4.1" in text or "ended" in text for _, text in attempt.lines):
            message.tries.update(recipients)

    def settle(self, message, attempt):
        outcome = {recipient: (attempt, "5xx") for recipient in attempt.refused}
        if attempt.told is not None and attempt.told[0] in "25":
            outcome.update({recipient: (attempt, attempt.told[0] + "xx") for recipient in attempt.accepted})
        for recipient, what in outcome.items():
            if recipient in message.pending:
                message.pending.remove(recipient)
                message.settled[recipient] = what

    # one transaction

    async def session(self, attempt, conduct):
        while self.idle and conduct.leaves_at not in ("connected", "greeted", "ehlo"):
            session = self.idle.pop()
            if session.wire.writer.is_closing() or session.wire.reader.at_eof():
                session.wire.close()
                continue
            self.enter(attempt, session)
            return session
        self.sessions += 1
        port, context = self.town.entrance(conduct.tls)
        session = await Session.open(("127.0.0.1", port), f"{self.name}-{self.sessions}.client.test", context)
        self.enter(attempt, session)
        await self.point(session, attempt, conduct, "connected")
        await self.expect(session, attempt, "220")
        await self.point(session, attempt, conduct, "greeted")
        await session.send(attempt, f"EHLO {session.helo}\r\n")
        await self.point(session, attempt, conduct, "ehlo")
        await self.expect(session, attempt, "250")
        return session

    def enter(self, attempt, session):
        attempt.helo = session.helo
        attempt.note(f"session {session.helo}")
        self.book.attempts[session.helo].append(attempt)

    async def expect(self, session, attempt, code):
        line = await session.reply(attempt)
        if not line.startswith(code):
            raise Gone(line)
        return line

    async def talk(self, session, attempt, conduct):
        self.book.count()
        mail = f"MAIL FROM:<{attempt.message.sender}>\r\n"
        rcpts = [f"RCPT TO:<{recipient}>\r\n" for recipient in attempt.recipients]
        has_mail, session.has_mail = session.has_mail, False
        if conduct.pipelines:
            await session.send(attempt, ("" if has_mail else mail) + "".join(rcpts) + "DATA\r\n")
            await self.point(session, attempt, conduct, "rcpt-sent")
            if not has_mail:
                await self.expect(session, attempt, "250")
        elif not has_mail:
            await session.send(attempt, mail)
            await self.point(session, attempt, conduct, "mail")
            await self.expect(session, attempt, "250")
        for rcpt, recipient in zip(rcpts, attempt.recipients):
            if not conduct.pipelines:
                await session.send(attempt, rcpt)
                await self.point(session, attempt, conduct, "rcpt-sent")
            line = await session.reply(attempt)
            if line.startswith("250"):
                attempt.accepted.append(recipient)
            elif line.startswith("5"):
                attempt.refused[recipient] = (time.monotonic(), line)
            elif line.startswith("421"):
                raise Gone(line)
        await self.point(session, attempt, conduct, "rcpt")
        if not conduct.pipelines:
            if not attempt.accepted:
                await session.send(attempt, "RSET\r\n")
                await self.expect(session, attempt, "250")
                return
            await session.send(attempt, "DATA\r\n")
        await self.point(session, attempt, conduct, "data-sent")
        line = await session.reply(attempt)
        if not line.startswith("354"):
            if attempt.accepted:
                attempt.told, attempt.told_at = line, time.monotonic()
            if line.startswith("421"):
                raise Gone(line)
            if conduct.pipelines or attempt.accepted:
                await session.send(attempt, "RSET\r\n")
                await self.expect(session, attempt, "250")
            return
        await self.point(session, attempt, conduct, "data")
        await self.body(session, attempt, conduct)

    async def body(self, session, attempt, conduct):
        if conduct.relayed:
            attempt.front = f"X-Try: {len(attempt.message.attempts)}\r\n".encode()
        octets = attempt.front + attempt.message.wire
        if conduct.chunks > 1:
            size = len(octets) // conduct.chunks
            for at in range(0, size * (conduct.chunks - 1), size):
                await session.wire.write(octets[at:at + size])
                await self.point(session, attempt, conduct, "body-middle")
                await asyncio.sleep(0.002)
            octets = octets[size * (conduct.chunks - 1):]
        if conduct.leaves_at in ("body", "end-part") or conduct.stalls_at in ("body", "end-part"):
            await session.wire.write(octets)
            await self.point(session, attempt, conduct, "body")
            await session.wire.write(b".\r")
            await self.point(session, attempt, conduct, "end-part")
            octets = b"\n"
        else:
            octets += b".\r\n"
        attempt.end_sent = time.monotonic()
        behind = f"MAIL FROM:<{attempt.message.sender}>" if conduct.behind == "MAIL" else conduct.behind
        attempt.note(f"> the message, end of data, {behind!r}")
        await session.wire.write(octets + (behind + "\r\n").encode() if behind else octets)
        await self.point(session, attempt, conduct, "end")
        attempt.told = await session.reply(attempt)
        attempt.told_at = time.monotonic()
        if attempt.told.startswith("421"):
            raise Gone(attempt.told)
        if conduct.behind:
            line = await session.reply(attempt)
            session.has_mail = conduct.behind == "MAIL" and line.startswith("250")

    async def part(self, session, attempt, conduct):
        if conduct.behind == "QUIT" and attempt.end_sent:
            session.wire.close()
        elif conduct.parting == "quit" and not session.has_mail:
            await session.send(attempt, "QUIT\r\n")
            await session.reply(attempt)
            session.wire.close()
        elif conduct.parting == "keep" or session.has_mail:
            self.idle.append(session)
        elif conduct.parting == "reset":
            session.wire.reset()
        else:
            session.wire.close()

    async def point(self, session, attempt, conduct, stage):
        """Where a client may stall or leave."""
        if conduct.stalls_at == stage:
            conduct.stalls_at = None
            attempt.note(f"stalls for {conduct.stall} s ({stage})")
            await asyncio.sleep(conduct.stall)
        if conduct.leaves_at != stage:
            return
        conduct.leaves_at = None
        await asyncio.sleep(conduct.pause)
        attempt.note(f"leaves ({stage}): {conduct.how}")
        if conduct.how == "half" and session.wire.writer.can_write_eof():
            session.wire.writer.write_eof()
            conduct.behind, conduct.parting = "", "fin"
            if stage == "end":
                return  # what it sent is whole: the answer is read
            attempt.left = "half"
            while True:
                await session.reply(attempt)
        attempt.left = conduct.how
        if conduct.how == "reset":
            session.wire.reset()
        else:
            session.wire.close()
        raise Left
