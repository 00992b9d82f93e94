"""
Judges what a run left in the book.

Nothing lost: who was told 250 has the message. Nothing invented: every copy is one that its client sent, byte for byte, at
the right upstream, and none comes of an end of data that was not sent. Duplicates for the causes below only. Nobody is told
5xx but by an upstream. End of data goes to one upstream at a time, and to none after a refusal.
"""

from collections import Counter, defaultdict

from plan import DETOURS, HOMES, LATE, PLACE

# A crash may forget what was accepted so shortly before it, seconds.
FORGOTTEN = 0.5

ALLOWED = {
    "the upstream's answer was lost",  # RFC 1047
    "the upstream's answer came too late",
    "the client lost our answer",
    "kill -9 before the client was told",
    "kill -9 shortly after the acceptance",
    "the message has no identity",
    "the recipient was refused in between",
}


class Oracle:
    def __init__(self, book):
        self.book = book
        self.duplicates = Counter()
        self.by_attempt = defaultdict(list)  # copies, in order, accepted or not
        self.copies = defaultdict(list)  # (key, recipient): accepted copies

    def judge(self):
        for copy in self.book.copies:
            self.attribute(copy)
        for attempt in (a for message in self.book.messages.values() for a in message.attempts):
            self.judge_turns(attempt)
            self.judge_reply(attempt)
        for message in self.book.messages.values():
            for recipient in message.recipients:
                self.judge_outcome(message, recipient)
                self.judge_duplicates(message, recipient)

    def violate(self, text, message=None):
        self.book.violate(text, message)

    # nothing invented

    def attribute(self, copy):
        message = self.book.messages.get(copy.key)
        candidates = [a for a in self.book.attempts.get(copy.helo, ()) if a.message is message and a.began <= copy.at]
        if message is None or not candidates:
            return self.violate(f"{copy.relay} was given a message that nobody sent: {copy.rest[:200]!r} from {copy.helo}", message)
        attempt = copy.attempt = candidates[-1]
        self.by_attempt[attempt].append(copy)
        if copy.rest != attempt.front + message.wire:
            self.violate(f"{copy.relay} was given other bytes than were sent", message)
        if attempt.end_sent is None:
            self.violate(f"{copy.relay} was given an end of data that the client never sent", message)
        if copy.sender != message.sender:
            self.violate(f"{copy.relay} was told another sender: {copy.sender}", message)
        for recipient in copy.recipients:
            if recipient not in attempt.recipients:
                self.violate(f"{copy.relay} was given {recipient}, who was not asked for in that attempt", message)
            if recipient not in PLACE or copy.relay not in HOMES[PLACE[recipient]]:
                self.violate(f"{copy.relay} was given {recipient}, whose mail is not for it", message)
            if copy.accepted:
                self.copies[message.key, recipient].append(copy)
        if len(set(copy.recipients)) != len(copy.recipients):
            self.violate(f"{copy.relay} was told a recipient twice: {copy.recipients}", message)
        if (copy.relay in DETOURS) != (b"(splitmx fallback)" in copy.trace):
            self.violate(f"the mark of a detour is wrong at {copy.relay}: {copy.trace!r}", message)
        return None

    def judge_turns(self, attempt):
        """One after the other, and no more after one that was not proper."""
        copies = self.by_attempt[attempt]
        for first, second in zip(copies, copies[1:]):
            if first.answered_at is None or not first.proper:
                self.violate(f"{second.relay} was given the end of data though {first.relay} had not accepted", attempt.message)
            elif second.at < first.answered_at:
                self.violate(f"{second.relay} was given the end of data before {first.relay} had answered", attempt.message)

    # what clients were told

    def judge_reply(self, attempt):
        message = attempt.message
        for recipient, (at, line) in attempt.refused.items():
            if not self.was_refused(attempt, at, recipient):
                self.violate(f"{recipient} was refused ({line}), which no upstream did", message)
        if attempt.told is None or attempt.told[0] != "5":
            return
        for recipient in attempt.accepted:  # what is to be discarded shares the answer of what is not
            if PLACE[recipient] != "discard" and not self.was_refused(attempt, attempt.told_at, recipient):
                self.violate(f"{recipient} was refused at the end ({attempt.told}), which no upstream did", message)
        if any(copy.proper for copy in self.by_attempt[attempt]):
            self.violate(f"refused ({attempt.told}) though an upstream had accepted", message)

    def was_refused(self, attempt, until, recipient):
        """By whom it may be: its own relay, or the one that knows those which that one does not."""
        relays = ("local", "elsewhere") if PLACE[recipient] == "moved" else (PLACE[recipient],)
        return any(attempt.began <= refusal.at <= until and refusal.relay in relays and refusal.fits(attempt.message.sender, recipient)
                   for refusal in self.book.refusals)

    def judge_outcome(self, message, recipient):
        attempt, code = message.settled.get(recipient, (None, None))
        if code != "2xx" or PLACE[recipient] == "discard":
            return
        if not any(copy.proper and copy.answered_at <= attempt.told_at for copy in self.copies[message.key, recipient]):
            self.violate(f"LOST: its client was told {attempt.told!r} and {recipient} has no copy that an upstream said 2xx for", message)

    # duplicates

    def judge_duplicates(self, message, recipient):
        copies = sorted(self.copies[message.key, recipient], key=lambda copy: copy.attempt.began)  # an upstream may read late
        for copy, again in zip(copies, copies[1:]):
            cause = self.cause(copy, again.attempt, recipient)
            self.duplicates[cause] += 1
            if cause not in ALLOWED:
                where = f"{self.book.since(copy.at)} at {copy.relay}"
                self.violate(f"{recipient} has it {len(copies)} times; after the copy of {where}: {cause}", message)

    def cause(self, copy, again, recipient):
        """Why it was sent once more after this copy."""
        attempt, message = copy.attempt, copy.attempt.message
        told_ok = attempt.told is not None and attempt.told[0] == "2"
        if told_ok:
            return "its client had been told 250"
        if not copy.proper or any(c.cut or c.in_doubt for c in self.by_attempt[attempt]):
            return "the upstream's answer was lost"
        if any(c.accepted and c.answered_at is not None and c.answered_at - attempt.end_sent > LATE for c in self.by_attempt[attempt]):
            return "the upstream's answer came too late"
        if self.is_complete(attempt):
            if self.killed(attempt.end_sent, attempt.ended + FORGOTTEN):
                return "kill -9 before the client was told"
            if attempt.left:
                return "the client lost our answer"
            return f"all had accepted and the client was told {attempt.told!r}"
        if not message.has_identity:
            return "the message has no identity"
        if self.killed(attempt.end_sent, copy.answered_at + FORGOTTEN):
            return "kill -9 shortly after the acceptance"
        since = [a for a in message.attempts if attempt.began < a.began < again.began and recipient in a.accepted]
        if any(a.left in ("fin", "half") and a.end_sent for a in since):  # closed in order: it has read what we said
            return "the client lost our answer"
        if any(attempt.began < at < again.ended for at in self.refusals_of(message.sender, recipient)):
            return "the recipient was refused in between"
        return "a split that did not settle"

    def refusals_of(self, sender, recipient):
        """When, for any message of the sender: his record goes with it. What local says of those that it does not know is no refusal yet."""
        told = [at for m in self.book.messages.values() if m.sender == sender for a in m.attempts
                for refused, (at, _) in a.refused.items() if refused == recipient]
        return told + [r.at for r in self.book.refusals if r.stage in ("mail", "rcpt") and r.fits(sender, recipient)
                       and not (PLACE[recipient] == "moved" and r.relay == "local")]

    def is_complete(self, attempt):
        has = {recipient for copy in self.by_attempt[attempt] if copy.proper for recipient in copy.recipients}
        return has >= {recipient for recipient in attempt.accepted if PLACE[recipient] != "discard"}

    def killed(self, since, until):
        return any(since <= at <= until for at in self.book.kills)

    # for people

    def history(self, message):
        """All that was said about a message, by whom, in order."""
        lines = [(at, f"splitmx        {what}") for at, what in self.book.deeds]
        began, ended = message.attempts[0].began - 1, message.attempts[-1].ended + 1
        for number, attempt in enumerate(message.attempts, 1):
            lines += [(at, f"client {number:<8}{text}") for at, text in attempt.lines]
        for transaction in self.book.transactions:
            if transaction.copy is not None:
                mine = transaction.copy.key == message.key
            else:
                mine = transaction.sender == message.sender and set(transaction.asked) & set(message.recipients)
            if mine and began < transaction.began < ended:
                name = f"{transaction.relay}/{transaction.connection}"
                lines += [(at, f"{name:<15}{text}") for at, text in transaction.lines]
        for beginning in self.book.beginnings:  # nobody says for whom it is
            if any("fate" in text for _, text in beginning.lines) and any(a.began <= beginning.began <= a.ended for a in message.attempts):
                lines += [(at, f"{beginning.relay}/{beginning.connection} (for somebody) {text}") for at, text in beginning.lines]
        head = [f"message {message.key}: {message.kind}, from {message.sender} to {', '.join(message.recipients)}; "
                f"told: {', '.join(f'{r} {code}' for r, (_, code) in message.settled.items())}; "
                f"like {message.base} but for its {message.differs}"]
        sessions = {attempt.helo for attempt in message.attempts if attempt.helo}
        log = [line for line in self.book.log
               if "event=transaction" in line and message.sender in line and any(helo in line for helo in sessions)]
        return "\n".join(head + [f"  {self.book.since(at)} {text}" for at, text in sorted(lines) if began <= at <= ended]
                         + [f"  log: {line}" for line in log])
