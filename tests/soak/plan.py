"""What a run does, drawn from its seed: who writes to whom, the messages, and what goes wrong on either side."""

import random
from collections import Counter

# Whose mailboxes are where. `moved` is routed to local, which does not know it; its mail is asked for at elsewhere.
MAILBOXES = {
    "local": [f"a{n}@example.com" for n in range(5)],
    "moved": [f"m{n}@example.com" for n in range(2)],
    "king": [f"k{n}@example.com" for n in range(4)],
    "third": [f"t{n}@example.com" for n in range(5)],
    "gmail": ["g0@one.test", "g1@one.test", "h0@two.test"],
    "discard": ["nobody@example.com"],
}
PLACE = {address: place for place, addresses in MAILBOXES.items() for address in addresses}

# Where a copy for each may be: its relay, the one behind `unknown-recipient`, the one behind `fallback`.
HOMES = {"local": ("local", "backup"), "moved": ("elsewhere", "backup"), "king": ("king",), "third": ("third",),
         "gmail": ("gmail",), "discard": ()}
DETOURS = ("backup", "elsewhere")  # what comes there bears our mark

TIMEOUTS = {"command": "4s", "connect": "1s", "greeting": "1s", "recipient": "2s", "data": "2s", "end-of-data": "3s",
            "pool-idle": "2s", "drain": "300ms"}
LATE = 2.2  # a reply that comes so long after the client's end of data may be too late (end-of-data), seconds


def draw(*names):
    """Randomness of one thing's own: what other things do does not change it."""
    return random.Random("/".join(map(str, names)))


class Message:
    """`wire` is dot-stuffed, without the end of data. `key` is in it, where no identity looks, and in one field where it does."""

    FIELDS = ("Subject", "Message-ID", "To", "Content-Type", "body")

    def __init__(self, seed, sender, number, twin=None):
        self.key = f"{sender}.{number}"
        self.sender = f"{sender}@client.test"
        rng = draw(seed, "message", self.key)
        self.recipients = _recipients(rng)
        self.kind = rng.choice(("plain",) * 10 + ("no Message-ID", "two Dates"))
        self.has_identity = self.kind == "plain"
        self.differs = rng.choice(self.FIELDS)  # from its twin, an earlier one, in nothing else
        self.base = twin.base if twin is not None and rng.random() < 0.4 else self.key
        self.wire = _write(self, draw(seed, "text", self.base))
        self.pending = list(self.recipients)  # those whose outcome its sender has not been told
        self.attempts = []
        self.tries = Counter()  # recipient: in the calm, while its relay was there
        self.settled = {}  # recipient: the attempt in which its sender was told, and the code


def _recipients(rng):
    places = rng.sample(list(MAILBOXES), rng.choice((1, 1, 1, 2, 2, 2, 2, 3, 3, 4)))
    chosen = [address for place in places
              for address in rng.sample(MAILBOXES[place], min(len(MAILBOXES[place]), rng.choice((1, 1, 1, 2, 3))))]
    rng.shuffle(chosen)
    return chosen


def _write(message, rng):
    def own(field, text):
        return f"{text} {message.key}" if field == message.differs else text

    words = [f"From: <{message.sender}>", f"To: somebody@example.com{', ' + message.key + '@list.test' if message.differs == 'To' else ''}",
             f"Subject: {own('Subject', 'soak')}", f"Content-Type: text/plain; x={message.key if message.differs == 'Content-Type' else 'x'}",
             f"Date: Sun, 22 Nov 2026 12:00:{rng.randrange(60):02} +0000", f"X-Soak: {message.key}"]
    if message.kind != "no Message-ID":
        words.append(f"Message-ID: <{message.key if message.differs == 'Message-ID' else message.base}@client.test>")
    if message.kind == "two Dates":
        words.append("Date: Sun, 22 Nov 2026 13:00:00 +0000")
    size = rng.choice((50, 200, 1000, 3000)) if rng.random() < 0.95 else rng.choice((60_000, 200_000))
    lines = ["..a dot in front", own("body", "text")]
    while size > 0:
        lines.append("x" * min(size, rng.choice((10, 76, 900))))
        size -= len(lines[-1])
    return ("\r\n".join(words) + "\r\n\r\n" + "\r\n".join(lines) + "\r\n").encode()


# ---- what goes wrong ----

CONNECTION_STAGES = ("connect", "greeting", "ehlo", "xclient", "starttls", "handshake")
COMMAND_STAGES = ("mail", "rcpt", "data")
BODY_STAGES = ("body-first", "body-middle", "body-slow")
KINDS = ("4xx", "5xx", "421", "reset", "fin", "silence", "garbage", "early", "slow", "slow")
BODY_KINDS = ("reset", "fin", "silence", "early", "421")
# The upstream keeps the message where the word says "accept", whatever becomes of its answer.
END_KINDS = ("4xx", "5xx", "421", "reset", "fin", "silence", "garbage", "endless", "4xx", "4xx", "accept-reset", "accept-fin",
             "accept-silence", "accept-garbage", "accept-half", "accept-slow", "accept-slow", "accept-slow", "accept-late")
IDLE_KINDS = ("421", "fin", "reset")


def connection_fate(rng, calm):
    """(stage, kind) of a connection to an upstream, or nothing."""
    if calm or rng.random() > 0.07:
        return None, None
    stage = rng.choice(CONNECTION_STAGES)
    kind = rng.choice(("reset", "fin", "silence") if stage in ("connect", "handshake") else KINDS[:-1])
    return (stage, kind) if kind != "silence" or rng.random() < 0.5 else (stage, "fin")


def transaction_fate(rng, calm):
    """{stage: kind} of a transaction at an upstream; mostly one, so that what comes behind it is reached."""
    fate = {}
    if calm:
        return fate
    if rng.random() < 0.14:
        fate[rng.choice(COMMAND_STAGES)] = rng.choice(KINDS)
    if rng.random() < 0.06:
        stage = rng.choice(BODY_STAGES)
        fate[stage] = rng.choice(BODY_KINDS)
    if rng.random() < 0.25:
        fate["end"] = rng.choice(END_KINDS)
    if rng.random() < 0.06:
        fate["idle"] = rng.choice(IDLE_KINDS)
    if rng.random() < 0.03:
        fate["quit"] = "silence"
    return fate


CLIENT_STAGES = ("connected", "greeted", "ehlo", "mail", "rcpt-sent", "rcpt", "data-sent", "data", "body-middle", "body", "end-part",
                 "end", "end", "end", "end")


class Conduct:
    """How a client goes about one attempt."""

    def __init__(self, rng, calm):
        self.tls = rng.random() < 0.2
        self.pipelines = rng.random() < 0.5
        self.chunks = rng.choice((1, 1, 1, 2, 7))
        self.relayed = rng.random() < 0.3  # through another host, which put a field in front
        self.behind = rng.choice(("", "", "", "QUIT", "RSET", "MAIL"))  # pipelined behind the end of data
        self.parting = rng.choice(("quit", "quit", "keep", "keep", "reset", "fin"))
        self.leaves_at, self.how, self.pause = None, None, 0.0
        self.stalls_at, self.stall = None, 0.0
        if calm:
            self.parting = rng.choice(("quit", "keep"))
            return
        if rng.random() < 0.2:
            self.leaves_at = rng.choice(CLIENT_STAGES)
            self.how = rng.choice(("reset", "fin", "half"))
            self.pause = rng.choice((0, 0, 0.005, 0.05, 0.4))
        elif rng.random() < 0.1:
            self.stalls_at = rng.choice(CLIENT_STAGES)
            self.stall = rng.choice((0.05, 0.3, 0.3, 1.0, 4.5))


DEEDS = ("kill", "kill on accept", "kill behind accept", "term", "term", "hup", "bad hup", "down", "restart relay")


def events(seed, count):
    """What happens to the whole: (at which transaction, what, to which relay, for how long). Each once before any comes again."""
    rng = draw(seed, "events")
    at, found, deck = 0, [], []
    while True:
        at += rng.randrange(30, 110)
        if at > count * 0.85:
            return found
        deck = deck or rng.sample(DEEDS, len(DEEDS))
        what = deck.pop()
        if what == "down" and at > count * 0.6:
            what = "hup"  # health needs its probes to see that it is back
        found.append((at, what, rng.choice(("local", "king", "third")), rng.uniform(0.2, 2.0)))
