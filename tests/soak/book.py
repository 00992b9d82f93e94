"""What both sides wrote down: attempts by clients, transactions at upstreams, what was done to the daemon."""

import asyncio
import re
import socket
import struct
import time
from collections import defaultdict


class Gone(Exception):
    """The peer ended the connection."""


class Wire:
    """Lines and bodies from a stream."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.buffer = bytearray()

    async def fill(self, most=65536):
        try:
            octets = await self.reader.read(most)
        except OSError as error:
            raise Gone(type(error).__name__) from None
        if not octets:
            raise Gone("FIN")
        self.buffer += octets

    async def line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > 100_000:
                raise Gone("endless line")
            await self.fill()
        line = bytes(self.buffer[:end])
        del self.buffer[:end + 2]
        return line

    async def write(self, octets):
        try:
            self.writer.write(octets)
            await self.writer.drain()
        except OSError as error:
            raise Gone(type(error).__name__) from None

    def reset(self):
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self):
        self.writer.close()


class Attempt:
    """One transaction as its client saw it."""

    def __init__(self, message, recipients, helo):
        self.message, self.recipients, self.helo = message, recipients, helo
        self.began = self.ended = None
        self.accepted = []  # recipients answered 250
        self.front = b""  # fields that this way put before the message
        self.end_sent = None  # when the end of data was
        self.told = None  # the reply to the end of data or to DATA, where it was read
        self.told_at = None
        self.left = None  # how: of the client's own accord, before it had its answer
        self.lines = []  # (time, text)
        self.refused = {}  # recipient: (time, reply) of a 5xx to RCPT

    def note(self, text):
        self.lines.append((time.monotonic(), text))


class Copy:
    """A message that an upstream was given whole: accepted, if it keeps it."""

    def __init__(self, transaction, body):
        self.transaction, self.relay = transaction, transaction.relay
        self.sender, self.recipients = transaction.sender, list(transaction.recipients)
        self.at = time.monotonic()
        self.accepted = False
        self.answered_at = None  # a proper 2xx, or a refusal, was sent in whole
        self.proper = False  # a 2xx was, and nothing before it was amiss
        self.in_doubt = False  # nobody but the upstream can tell whether its answer was one
        self.cut = False  # the connection was reset so soon after it that it may not have arrived
        match = re.search(rb"^X-Soak: (\S+)\r\n", body, re.M)
        self.key = match.group(1).decode() if match else None
        match = re.match(rb"Received: from (\S+) [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", body)
        self.helo = match.group(1).decode() if match else None
        self.trace = match.group(0) if match else b""
        self.rest = body[len(self.trace):]
        self.attempt = None


class Transaction:
    """A conversation about one message at an upstream."""

    def __init__(self, relay, connection):
        self.relay, self.connection = relay, connection
        self.sender, self.recipients, self.copy = None, [], None
        self.asked = []
        self.began = time.monotonic()
        self.lines = []

    def note(self, text):
        self.lines.append((time.monotonic(), text))


class Refusal:
    """
    A 5xx that an upstream said. To XCLIENT it is about the client, whoever it writes to; to MAIL about its sender; and out of
    step, behind one that nobody had asked for, it is taken for another's.
    """

    def __init__(self, relay, stage, sender=None, recipients=(), out_of_step=False):
        self.at = time.monotonic()
        self.relay, self.stage, self.sender, self.recipients = relay, stage, sender, list(recipients)
        self.for_all = stage == "mail" or out_of_step

    def fits(self, sender, recipient):
        return self.stage == "xclient" or (self.sender == sender and (self.for_all or recipient in self.recipients))


class Book:
    def __init__(self, seed):
        self.seed = seed
        self.started = time.monotonic()
        self.messages = {}
        self.attempts = defaultdict(list)  # by HELO
        self.transactions = []
        self.beginnings = []  # of connections to upstreams, up to the first MAIL
        self.copies = []
        self.refusals = []
        self.deeds = []  # (time, what) done to the daemon or to a relay
        self.kills = []
        self.log = []
        self.violations = []  # (text, message or None)
        self.begun = 0  # transactions that came to MAIL
        self.progress = asyncio.Event()
        self.calm_at = None

    def count(self):
        self.begun += 1
        self.progress.set()

    def do(self, what):
        self.deeds.append((time.monotonic(), what))

    def violate(self, text, message=None):
        self.violations.append((text, message))

    def since(self, at):
        return f"{at - self.started:9.3f}"
