"""Look-alikes of the end of data before servers that may fall for them: Debian's Postfix, Exim and a recorder, all in one transaction."""

import contextlib
import itertools
import os
import re

import pytest

from splitmx_test import peers
from splitmx_test.client import Client
from splitmx_test.daemon import Daemon
from splitmx_test.messages import assert_relayed, message
from splitmx_test.tls import TlsClient
from splitmx_test.upstream import ScriptedUpstream
from splitmx_test.waiting import poll

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and Exim want to be started by root")

USER, KING, THIRD = "user@example.com", "kingmail@example.com", "somebody@example.com"
EVERY_SERVER = f"RCPT TO:<{USER}>\r\nRCPT TO:<{KING}>\r\nRCPT TO:<{THIRD}>\r\n".encode()
SMUGGLED = b"MAIL FROM:<smuggler@client.test>\r\n" + EVERY_SERVER + b"DATA\r\nSubject: smuggled\r\n\r\nSMUGGLED\r\n"

# What some server somewhere takes for the end of a line.
LINE_ENDS = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r"]
LOOK_ALIKES = [front + b"." + back for front, back in itertools.product(LINE_ENDS, LINE_ENDS) if (front, back) != (b"\r\n", b"\r\n")]
# CVE-2023-51764, -51765, -51766, with a NUL at every place.
KNOWN = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\r\n.\r\n"]
WITH_NUL = sorted({end[:at] + b"\0" + end[at:] for end in KNOWN for at in range(len(end) + 1)} - {b"\r\n.\r\n\0"})
# Of the smuggled commands some are read behind an end that is true at last: a session that goes on would obey them.

_numbers = itertools.count()

UNCLEAN = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")

# What these servers log of a message that ended, or of commands that it should not have seen.
MORE_AT_POSTFIX = r"qmgr\[\d+\]|smuggler|status=|NOQUEUE|improper"
MORE_AT_EXIM = r" <= | => |smuggler|incomplete transaction|rejected"


class Town:
    def __init__(self, postfix, exim, recorder, daemon, context):
        self.postfix, self.exim, self.recorder, self.daemon, self.context = postfix, exim, recorder, daemon, context

    def client(self, secure):
        client = TlsClient(self.daemon.where)
        return client.starttls(self.context) if secure else client


class Log:
    """What a real server has written since."""

    def __init__(self, path):
        self.path, self.start = path, path.stat().st_size if path.exists() else 0

    def lines(self):
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read().decode("latin-1").splitlines()

    def count(self, pattern):
        return sum(bool(re.search(pattern, line)) for line in self.lines()) if self.path.exists() else 0

    def await_count(self, pattern, count):
        poll(lambda: self.count(pattern) >= count, f"{count} lines like {pattern} in {self.path}")
        assert self.count(pattern) == count, "\n".join(self.lines())


@pytest.fixture(scope="module")
def town(mx_certificate, ca):
    with peers.Postfix(recipients=("user", "bait")) as postfix, \
            peers.Exim(recipients=("kingmail", "bait"), options="log_selector = +smtp_incomplete_transaction +smtp_connection") as exim, \
            ScriptedUpstream("recorder.test", lax=True) as recorder:
        with Daemon(map=f"{KING} {exim.next_hop}\n{USER} {postfix.next_hop}\nexample.com {recorder.next_hop}\n", domains=["example.com"],
                    tls=mx_certificate.settings) as daemon:
            yield Town(postfix, exim, recorder, daemon, ca.client_context())


class Smuggler:
    """One session: the transaction is begun, the message comes in two pieces, or its look-alike in many."""

    def __init__(self, town, end, at, secure):
        self.end, self.at = end, at  # at None: octet by octet
        self.head, self.sender = message(b"before"), f"{next(_numbers)}@client.test"  # its own, lest a failed test touch the next
        self.client = town.client(secure)
        self.client.send(f"MAIL FROM:<{self.sender}>\r\n".encode() + EVERY_SERVER + b"DATA\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def send(self, octets):
        with contextlib.suppress(OSError):  # the answer may have come already
            self.client.send(octets)

    def first(self):
        assert [reply.code for reply in self.client.replies(5)] == [250, 250, 250, 250, 354]
        self.send(self.head + self.end[:self.at or 0])

    def second(self):
        rest = self.end[self.at or 0:]
        for octet in rest if self.at is None else b"":
            self.send(bytes([octet]))
        self.send((b"" if self.at is None else rest) + SMUGGLED + b".\r\n")

    def has_been_read(self, recorder):
        """The first piece: it is at the recorder, or there was dirt in it and the recorder is left alone."""
        connection, = (c for c in recorder.connections if c.sender == self.sender)
        return self.head in connection.arrived or connection.ended

    def is_turned_away(self):
        answer = self.client.reply()
        assert answer == "550 5.5.2", (self, answer)
        how, said = self.client.await_end()
        assert said == b"" and how in ("fin", "rst"), (self, how, said)

    def __repr__(self):
        return f"<{self.end!r} cut at {self.at}>"


def assert_broken_off(town, smugglers):
    """The recorder: one transaction a connection, of its message nothing but what was clean, and no end of it."""
    bodies = {body.sender: body for body in town.recorder.await_incomplete(len(smugglers))}
    assert len(bodies) == len(smugglers) == len(town.recorder.connections)
    town.recorder.assert_has_nothing()
    for smuggler in smugglers:
        body = bodies[smuggler.sender]
        assert body.connection.verbs() == ["EHLO", "MAIL", "RCPT", "DATA"] and body.connection.ended == "rst", body.connection
        assert not UNCLEAN.search(body.wire), body.wire
        trace, start, rest = body.wire.partition(b"From: Sender")
        assert (smuggler.head + smuggler.end).startswith(start + rest), (smuggler, body.wire)


def assert_nothing_at(town, postfix_log, exim_log, count):
    """The real ones: so many connections lost in mid-message, no other transaction, nothing in queues or mailboxes."""
    postfix_log.await_count(r"smtpd\[\d+\]: lost connection after DATA", count)
    assert postfix_log.count(r"smtpd\[\d+\]: \w+: client=") == count
    assert postfix_log.count(MORE_AT_POSTFIX) == 0, "\n".join(postfix_log.lines())
    exim_log.await_count(r"SMTP connection from \S* ?.*lost", count)
    assert exim_log.count(MORE_AT_EXIM) == 0, "\n".join(exim_log.lines())
    for folder in ("incoming", "active", "deferred", "hold", "corrupt", "maildrop"):
        poll(lambda: not [p for p in (town.postfix.queue / folder).rglob("*") if p.is_file()], f"Postfix's {folder} to be empty")
    poll(lambda: not [p for p in (town.exim.folder / "spool" / "input").rglob("*") if p.is_file()], "Exim's spool to be empty")
    assert town.postfix.mailbox("user") == [] and town.exim.mailbox("kingmail") == []


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("end", LOOK_ALIKES + WITH_NUL, ids=[repr(e)[2:-1] for e in LOOK_ALIKES + WITH_NUL])
def test_nobody_behind_sees_more_than_a_message_that_breaks_off(town, end, secure):
    town.recorder.forget()
    logs = Log(town.postfix.folder / "log"), Log(town.exim.folder / "log-main")
    with contextlib.ExitStack() as sessions:
        smugglers = [sessions.enter_context(Smuggler(town, end, at, secure)) for at in (*range(len(end) + 1), None)]
        for smuggler in smugglers:
            smuggler.first()
        for smuggler in smugglers:
            town.recorder.wait_for(lambda: smuggler.has_been_read(town.recorder), "the first piece")
            smuggler.second()  # so that it is another piece
        for smuggler in smugglers:
            smuggler.is_turned_away()
    assert_broken_off(town, smugglers)
    assert_nothing_at(town, *logs, len(smugglers))


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n"], ids=["LF.LF", "LF.CRLF", "CRLF.LF"])
def test_postfix_by_itself_falls_for_it(town, end):
    """Else the tests above would show nothing."""
    before, log = len(town.postfix.mailbox("bait")), Log(town.postfix.folder / "log")
    with Client(("127.0.0.1", town.postfix.port)) as client:
        client.begin("bait@example.com")
        client.send(message(b"before") + end + SMUGGLED.replace(USER.encode(), b"bait@example.com") + b".\r\n")
        client.reply()
        client.quit()
    mails = town.postfix.await_mail("bait", before + 2)[before:]
    assert sum(b"SMUGGLED" in mail and b"smuggler@" in mail for mail in mails) == 1
    assert log.count(MORE_AT_POSTFIX) > 1


def test_a_dot_that_was_stuffed_and_lines_of_dots_arrive_at_all_three(town):
    """What is no look-alike is not turned away."""
    town.recorder.forget()
    log = Log(town.exim.folder / "log-main")
    sent = message(b".\r\n..\r\n. \r\n .\r\nMAIL FROM:<x@client.test>\r\n...\r\n")
    before = len(town.postfix.mailbox("user")), len(town.exim.mailbox("kingmail"))
    assert town.daemon.send(sent, USER, KING, THIRD) == 250
    assert_relayed(town.recorder.only_message().data, sent)
    for peer, user, count in ((town.postfix, "user", before[0]), (town.exim, "kingmail", before[1])):
        mails = peer.await_mail(user, count + 1)
        peers.in_front_of(mails[-1], sent)
        os.unlink(max((peer.mail / user / "new").iterdir(), key=lambda path: path.stat().st_mtime_ns))
    assert log.count(MORE_AT_EXIM) > 1
