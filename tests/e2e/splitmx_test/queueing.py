"""A sender with a queue, in the few lines that matter: each recipient is kept until it has a final answer."""

from .client import Client, Gone, stuff


class Dropped(Exception):
    """The sender was told to lose the connection here."""


class QueuedMessage:
    """
    QueuedMessage(daemon.where, message, ["a@example.com", "b@example.com"]).run() tries like a queueing mail server: all
    recipients that are not settled, in one transaction, again and again. 2xx to the end of data settles those of the
    transaction, 5xx to RCPT, DATA or the end bounces, anything else leaves the recipient in the queue.

    `settled` is {recipient: final Reply}, `left` those without, `attempts` how often it tried, `history` all replies as
    (attempt, "rcpt"|"data"|"end", recipient or None, Reply). Each attempt is a connection of its own; `again_at_once` tries what got 452 beside an
    accepted one once more on the same connection, as Exim does. `before_end` is called when all but the end of data was sent.
    """

    # Where an attempt can be told to drop the connection: behind this command's answer; in mid-body; with the end of data sent
    # and nothing read; with the answer read, but lost before it was written down.
    POINTS = ("mail", "rcpt", "data", "body", "end", "answer")

    def __init__(self, where, text, recipients, sender="sender@client.test", again_at_once=False, before_end=lambda: None,
                 hello="queue.test", timeout=30):
        self.where, self.text, self.sender, self.again_at_once = where, text, sender, again_at_once
        self.before_end, self.hello, self.timeout = before_end, hello, timeout
        self.recipients, self.left = list(recipients), list(recipients)
        self.settled, self.history, self.attempts = {}, [], 0

    def run(self, attempts=12, drops=()):
        """Until nothing is left. `drops` has a point (or None) for each of the first attempts."""
        drops = list(drops)
        for _ in range(attempts):
            if not self.left:
                return self
            self.attempt(drops.pop(0) if drops else None)
        assert not self.left, f"still in the queue after {self.attempts} attempts: {self}"
        return self

    def attempt(self, drop=None):
        """One connection. Whatever ends it, recipients without a final answer stay in the queue."""
        assert drop is None or drop in self.POINTS, drop
        self.attempts += 1
        try:
            with Client(self.where, hello=self.hello, timeout=self.timeout) as client:
                put_off = self._transaction(client, list(self.left), drop)
                while self.again_at_once and put_off:
                    before, put_off = put_off, self._transaction(client, put_off, drop)
                    if put_off == before:
                        break
                client.quit()
        except (Dropped, Gone, OSError):
            pass
        return self

    def _transaction(self, client, recipients, drop):
        """The recipients that were put off with 452 while others were taken."""
        wire = stuff(self.text)  # before there is a clock for the body
        client.mail(self.sender)
        self._drop(client, drop, "mail")
        accepted, put_off = [], []
        for recipient in recipients:
            answer = self._note("rcpt", recipient, client.rcpt(recipient))
            if answer.code // 100 == 2:
                accepted.append(recipient)
            elif answer.code // 100 == 5:
                self._settle([recipient], answer)
            elif answer == 452:
                put_off.append(recipient)
        self._drop(client, drop, "rcpt")
        if not accepted:
            client.cmd("RSET")
            return []
        answer = self._note("data", None, client.data())
        self._drop(client, drop, "data")
        if answer == 354:
            answer = self._note("end", None, self._body(client, wire, drop))
            self._drop(client, drop, "answer")
        if answer.code // 100 in (2, 5):
            self._settle(accepted, answer)
        return put_off

    def _body(self, client, wire, drop):
        client.send(wire[:len(wire) // 2])
        self._drop(client, drop, "body")
        client.send(wire[len(wire) // 2:])
        self.before_end()
        client.send(b".\r\n")
        self._drop(client, drop, "end")
        return client.reply()

    def _note(self, stage, recipient, answer):
        self.history.append((self.attempts, stage, recipient, answer))
        return answer

    def _drop(self, client, drop, point):
        if drop == point:
            client.reset()
            raise Dropped

    def _settle(self, recipients, answer):
        for recipient in recipients:
            self.left.remove(recipient)
            self.settled[recipient] = answer

    def said(self, attempt, stage, recipient=None):
        """The reply of that attempt, None if there was none."""
        return next((answer for at, what, whom, answer in self.history if (at, what, whom) == (attempt, stage, recipient)), None)

    def __repr__(self):
        lines = [f"{at}: {what} {whom or ''} {answer}" for at, what, whom, answer in self.history]
        return "\n".join([f"<{self.attempts} attempts, left {self.left}", *lines, ">"])
