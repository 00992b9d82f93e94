"""
Upstreams that are hostile in their words (design: law 3, section 5; RFC 5321 4.2): at every stage what is no reply, or none that ends.

What test_fault_table.py has of a refusal, a loss, silence and an early reply is not said again here. Every case has an upstream,
a relay and a recipient of its own at one daemon; all are played together, twice, and then nothing may be left of them.
"""

import contextlib
import re
import socket
import threading
import time

import pytest

from splitmx_test.daemon import await_quiet, daemons, is_sanitized
from splitmx_test.faults import play_all
from splitmx_test.identified import Identified
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import EXTENSIONS, ScriptedUpstream, call, close, early, raw, reply
from splitmx_test.waiting import free_port, poll

MIB = 1024 * 1024
SHORT = 2  # seconds that an upstream has for a reply, whatever it says meanwhile


# ---- what is no reply ----


def until_it_is_left(say):
    """Again and again, until the other side has had enough."""
    def act(connection):
        while not connection.upstream.stopped.is_set():
            say(connection)

    return call(act)


def endless(octets):
    return until_it_is_left(lambda connection: connection.send(octets))


def drip(octets):
    """One octet after another; the other side's words are left where they are."""
    def say(connection):
        for octet in octets:
            connection.send(bytes([octet]))
            connection.upstream.stopped.wait(0.02)

    return until_it_is_left(say)


def lines(code, count, octets=0):
    """So many lines, the last one as a last line is; filled up to so many octets each."""
    filler = "x" * max(0, octets - 6)
    return raw("".join(f"{code}{' ' if n == count else '-'}{filler}\r\n" for n in range(1, count + 1)).encode())


NONSENSE = {
    "half a code": raw(b"25\r\n"), "a letter in the code": raw(b"2x0 yes\r\n"), "000": raw(b"000 zero\r\n"), "199": raw(b"199 one\r\n"),
    "600": raw(b"600 six\r\n"), "999": raw(b"999 nine\r\n"), "a long code": raw(b"2500 yes\r\n"), "a blank first": raw(b" 250 yes\r\n"),
    "a sign first": raw(b"+250 yes\r\n"), "a tab behind it": raw(b"250\tyes\r\n"), "a NUL behind it": raw(b"250\0yes\r\n"),
    "a NUL before it": raw(b"\x00250 yes\r\n"), "a CR behind it": raw(b"250\rno\r\n"), "other digits": raw("٢٥٠ yes\r\n".encode()),
    "an empty line": raw(b"\r\n"), "a bare LF": raw(b"\n"), "another code in the second line": raw(b"250-yes\r\n354 go on\r\n"),
    "a refusal in the second line": raw(b"250-yes\r\n550 no\r\n"), "no code in the second line": raw(b"250-yes\r\nyes\r\n250 yes\r\n"),
    "HTTP": raw(b"HTTP/1.1 200 OK\r\n\r\n"), "SSH": raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "TLS": raw(b"\x15\x03\x01\0\x02\x02\x46\r\n"),
    "101 lines": lines(250, 101), "1,000 lines": lines(250, 1000), "more than 64 KiB": lines(250, 90, 800),
    "64 KiB without a line end": raw(b"250 " + b"x" * 65536),
    "half a reply and the end": raw(b"250-yes\r\n"), "a line without its end, and the end": raw(b"250 yes"),
    "lines without end": endless(b"250-and so on\r\n" * 100), "empty lines without end": endless(b"250-\r\n" * 100),
    "a line without end": endless(b"250 " + b"x" * 4096), "NULs without end": endless(b"\0" * 4096),
    "lines without end, slowly": drip(b"250-a\r\n"), "a line without end, slowly": drip(b"2" * 50),
}
ENDS = {"half a reply and the end", "a line without its end, and the end"}  # by FIN; else it would be silence

# What an upstream may say that is odd, and a reply for all that: (its octets, the code that it has).
ODD = {
    "100 lines": lines(250, 100), "a line of 2,049 octets": lines(250, 1, 2049), "lines of 30,000 octets": lines(250, 2, 30_000), "without words": raw(b"250\r\n"),
    "a blank and no words": raw(b"250 \r\n"), "bare LF": raw(b"250-yes\n250 yes\n"), "a bare CR inside": raw(b"250 yes\rno\r\n"),
    "a NUL inside": raw(b"250 yes\0no\r\n"), "CR CR LF": raw(b"250 yes\r\r\n"), "no UTF-8": raw(b"250 \xff\xfe\xc0\x80\r\n"),
    "an odd enhanced code": raw(b"250 2.999999.1 yes\r\n"), "another class's enhanced code": raw(b"250 5.1.1 yes\r\n"),
    "a byte at a time": call(lambda connection: [connection.send(bytes([octet])) for octet in b"250-one\r\n250 two\r\n"] and True),
}

SAID = {"greeting": "451 4.4.1", "ehlo": "451", "helo": "451", "starttls": "451", "xclient": "451", "mail": "451", "rcpt": "451",
        "data": "451", "eod": "451"}


class Case:
    """One upstream that says `words` at `stage`."""

    def __init__(self, stage, words):
        self.stage, self.words = stage, words
        self.recipient = None

    def __str__(self):
        return f"{self.stage}, {self.words}"

    def script(self, upstream):
        odd = self.words in ODD
        action = ODD[self.words] if odd else NONSENSE[self.words]
        if self.stage == "helo":
            upstream.on("ehlo", reply("502 5.5.1 what is that"))
        actions = [action, close()] if self.words in ENDS else [action]
        if odd and self.stage in ("mail", "rcpt", "eod"):  # what the polite answer would have made known besides
            actions.insert(0, call(self.take))
        upstream.on(self.stage, *actions)

    def take(self, connection):
        if self.stage == "mail":
            connection._sender = "sender@client.test"
        elif self.stage == "rcpt":
            connection._recipients.append(self.recipient)


CASES = [Case(stage, words) for stage in SAID for words in NONSENSE]
TAKEN = [Case(stage, words) for stage in ("helo", "mail", "rcpt", "eod") for words in ODD]


class Town:
    """An upstream for each case at one daemon."""

    def __init__(self, start_daemon, stack, ca, cases):
        certificate, port = ca.issue("hostile.test"), free_port()
        relays, routes = {}, {}
        self.upstreams = {}
        for number, case in enumerate(cases):
            where = f"127.80.{number // 200}.{number % 200 + 1}"
            case.recipient = f"case{number}@example.com"
            self.upstreams[case] = stack.enter_context(Identified(
                "hostile.test", address=where, port=port, certificate=certificate if case.stage == "starttls" else None,
                attributes="ADDR NAME" if case.stage == "xclient" else ""))
            case.script(self.upstreams[case])
            relays[f"c{number}"] = {"next-hop": f"smtp:[{where}]:{port}", "tls": "encrypt" if case.stage == "starttls" else "none",
                                    "identity": "xclient" if case.stage == "xclient" else "none"}
            routes[case.recipient] = f"c{number}"
        time_out = f"{SHORT}s"
        self.daemon = start_daemon(relays=relays, routes=routes, timeouts={
            "greeting": time_out, "recipient": time_out, "data": time_out, "end-of-data": time_out, "pool-idle": "100ms"})

    def play(self, case):
        """The answer to the transaction, or to RCPT where it went no further."""
        sent = message(b"short\r\n")
        with self.daemon.client(timeout=30) as client:
            client.mail()
            answer = client.rcpt(case.recipient)
            if answer == 250:
                answer = client.data()
            if answer == 354:
                answer = client.body(sent)
            assert client.cmd("NOOP") == 250, f"the session does not go on: {answer}"
            client.quit()
        return answer, sent

    def play_all(self, cases):
        played = play_all({case: (lambda case=case: self.play(case)) for case in cases}, at_once=24)
        poll(lambda: self.daemon.status()["sessions"]["open"] == 0, "the end of all sessions", timeout=20)
        poll(lambda: self.daemon.status()["upstreams"]["open"] == 0, "the end of all connections", timeout=20)
        return played


@pytest.fixture(scope="module")
def town(ca):
    with contextlib.ExitStack() as stack:
        cases = CASES + TAKEN
        town = Town(stack.enter_context(daemons()), stack, ca, cases)
        idle = town.daemon.descriptors()
        town.played = town.play_all(cases)
        before = town.daemon.pss()
        town.again = town.play_all(cases)
        await_quiet(town.daemon, idle)
        town.grown = town.daemon.pss() - before
        yield town


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_no_reply_is_451_and_no_acceptance(town, case):
    for played in (town.played, town.again):
        answer, _ = played[case]()
        said = SAID[case.stage]
        assert answer == (said if " " in said else int(said)), answer
    if case.stage != "eod":
        town.upstreams[case].assert_has_nothing()


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_an_odd_reply_is_a_reply(town, case):
    for number, played in enumerate((town.played, town.again)):
        answer, sent = played[case]()
        assert answer == 250, answer
        assert re.fullmatch(rb"(250[- ]2\.0\.0( [ -~]*)?\r\n)+", answer.wire), answer.wire
        assert_relayed(town.upstreams[case].ended_bodies[number].data, sent)


def test_nothing_is_left_of_them(town):
    """The descriptors are those of before, as the fixture has seen; what memory the first time took does for the second."""
    if not is_sanitized():
        assert town.grown < MIB, f"{town.grown / MIB:.2f} MiB more"


def test_a_slow_reply_is_over_in_time(town):
    """However much of it keeps coming: the time is that of the whole reply."""
    case = next(one for one in CASES if str(one) == "rcpt, lines without end, slowly")
    began = time.monotonic()
    assert town.play(case)[0] == "451 4.4.1"
    assert time.monotonic() - began < SHORT + 5


# ---- what EHLO may list ----

LISTS = {
    "sizes that are none": ("SIZE", "SIZE 0", "SIZE -1", "SIZE abc", "SIZE=5", "SIZE 99999999999999999999999999999", "SIZE 1 2 3"),
    "a size smaller than the message": ("SIZE 10",),
    "everything twice": EXTENSIONS + EXTENSIONS,
    "parameters where there are none": ("PIPELINING now", "8BITMIME=yes", "ENHANCEDSTATUSCODES 1 2 3"),
    "a long keyword": ("X" * 500, "X" * 1000 + " Y"),
    "a long list": tuple(f"X{n}" for n in range(97)),
    "no keyword": ("", " ", " PIPELINING"),
    "controls": ("PIPELINING\x1b[31m", "X\0Y", "STARTTLS\x07", "8BITMIME\rSTARTTLS"),
    "no ASCII": ("PİPELINING", "ＳＩＺＥ 5", "X\x9b"),
    "what nobody asked for": ("CHUNKING", "BINARYMIME", "DSN", "AUTH PLAIN LOGIN", "AUTH=PLAIN", "SMTPUTF8", "VRFY", "ETRN", "XFORWARD ADDR", "BURL imap"),
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
def test_whatever_ehlo_lists_the_mail_goes_through(start_daemon, start_upstream, listed):
    upstream = start_upstream("lists.test", extensions=listed)
    daemon = start_daemon(workers=1, relays={"local": {"next-hop": upstream.next_hop}})
    sent = message()
    with daemon.client() as client:
        assert client.mail(parameters=f"SIZE={len(sent)} BODY=8BITMIME") == 250
        assert client.rcpt("user@example.com") == 250
        assert client.data() == 354
        assert client.body(sent) == 250
    assert_relayed(upstream.only_message().data, sent)
    commands = b"\n".join(upstream.commands())
    assert re.fullmatch(rb"EHLO [\w.]+\nMAIL FROM:<sender@client.test>( SIZE=\d+)?( BODY=8BITMIME)?\nRCPT TO:<user@example.com>\nDATA(\nQUIT)?", commands)


def test_a_thousand_capabilities_are_too_many(start_daemon, start_upstream):
    upstream = start_upstream("lists.test", extensions=tuple(f"X{n}" for n in range(1000)))
    daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}})
    with daemon.client() as client:
        client.mail()
        assert client.rcpt("user@example.com") == "451 4.4.1"


# What XCLIENT lists, and what is told then: no more than this.
ATTRIBUTES = {
    "ADDR " * 150: {"ADDR"}, "ADDR EVIL=1 NAME;X HELO\x0b PORT": {"ADDR", "PORT"}, "addr Name": {"ADDR", "NAME"},
    "  ADDR   NAME ": {"ADDR", "NAME"}, "X" * 1500 + " ADDR": {"ADDR"}, "ADDR LOGIN": {"ADDR", "LOGIN"}, "ADDR \x1b[31m": {"ADDR"},
    "": None, "NAME HELO": None, "ADDR=[UNAVAILABLE]": None, "\tADDR": None, "ADDRADDR": None,
}


@pytest.mark.parametrize("listed, told", ATTRIBUTES.items(), ids=[repr(listed[:30]) for listed in ATTRIBUTES])
def test_whatever_xclient_lists_no_more_is_told_than_there_is(start_daemon, start_upstream, listed, told):
    upstream = start_upstream("lists.test", kind=Identified, attributes="", extensions=(*EXTENSIONS, "XCLIENT " + listed))
    daemon = start_daemon(workers=1, relays={"local": {"next-hop": upstream.next_hop, "identity": "xclient"}})
    with daemon.client(hello="helo.test") as client:
        client.mail()
        assert client.rcpt("user@example.com") == (250 if told else "451 4.3.5")
        client.cmd("RSET")
    lines_of_it = [line for line in upstream.commands() if line.startswith(b"XCLIENT")]
    words = [word.split(b"=") for line in lines_of_it for word in line.split(b" ")[1:]]
    assert sorted(word[0].decode() for word in words) == sorted(told or ())
    assert all(re.fullmatch(rb"[A-Za-z0-9.:\[\]_-]+", word[1]) for word in words)


# ---- words on their way to the client and the log ----

TRICKS = {
    "an escape": b"\x1b[2J\x1b[31mred", "a title": b"\x1b]0;evil\x07", "C1, as UTF-8": b"\xc2\x9b31m\xc2\x85\xc2\x90", "C1, as it is": b"\x9b31m\x85",
    "turned round": "\u202egnp.exe\u202c\u2066x\u2069".encode(), "a line of Unicode's": "one\u2028two\u2029three".encode(),
    "a bare CR": b"one\r250 2.0.0 two", "CR CR": b"one\r\r", "NULs": b"one\0two\0", "backspaces": b"secret\x08\x08\x08\x7f\x7f", "a form feed": b"one\x0c\x0btwo",
    "overlong": b"\xc0\x8a\xe0\x80\x8a\xf0\x80\x80\x8a", "surrogates": b"\xed\xa0\x80\xed\xb0\x80", "too high": b"\xf4\x90\x80\x80\xff",
    "half a character": b"caf\xc3", "a forged field": b'x" event=transaction sender=evil outcome=accepted "', "backslashes": b"a\\nb\\x0ac\\",
    "JSON": b'","event":"forged","x":"', "a format": b"%s%n%s%n%100000d", "very much": b"x" * 2000, "a second reply in one line": b"no 250 2.0.0 yes",
}
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def tricked():
    upstream = ScriptedUpstream("tricks.test")
    with daemons() as start_daemon:
        daemon = start_daemon(workers=1, relays={"local": {"next-hop": upstream.next_hop}}, timeouts={"pool-idle": "0s"})
        daemon.upstream = upstream
        yield daemon
    upstream.stop()


@pytest.mark.parametrize("stage", ["greeting", "mail", "rcpt", "data", "eod", "unasked"])
@pytest.mark.parametrize("number, trick", enumerate(TRICKS.values()), ids=TRICKS)
def test_words_of_an_upstream_move_nobodys_cursor(tricked, stage, number, trick):
    """Neither the client's, who has one line of 512 octets at most, nor that of who reads the log, where it is one line, too."""
    mark = f"{stage}{number}"
    upstream = tricked.upstream
    upstream.forget()
    words = f"554 5.7.1 {mark} ".encode() + trick + b"\r\n"
    if stage == "greeting":
        upstream.on("greeting", raw(words), close())
    elif stage == "unasked":
        upstream.on("body", early(words), at=1)
    else:
        upstream.on(stage, raw(words))
    with tricked.client(hello=f"{mark}.test") as client:
        client.mail()
        answer = client.rcpt("user@example.com")
        if answer == 250:
            answer = client.data()
        if answer == 354:
            client.send(b"Subject: x\r\n\r\n")
            if stage == "unasked":
                upstream.await_incomplete()
            client.send(b".\r\n")
            answer = client.reply()
        assert answer.code == (451 if stage in ("greeting", "unasked") else 554) and mark in answer.text
        assert client.cmd("NOOP").lines == ["250 2.0.0 Ok"], "what came behind it"
        client.quit()
    assert len(answer.wire) <= 512 and answer.wire.count(b"\n") == 1 and answer.wire.endswith(b"\r\n")
    assert not UNPRINTABLE.search(answer.wire[:-2].decode()), answer.wire  # and so it is valid UTF-8
    tricked.await_log(lambda line: f"{mark}.test" in line and (" event=transaction " in line or " event=recipient " in line))
    for line in [line for line in tricked.lines if mark in line]:
        assert not UNPRINTABLE.search(line) and "\ufffd" not in line, ascii(line)
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
        assert bare.count("event=") == 1 and '"' not in bare and "forged" not in bare and "outcome=accepted" not in bare, line


# ---- floods that nobody waits for ----


@pytest.mark.parametrize("stage", ["idle", "quit", "rset"])
def test_words_without_end_that_nobody_waits_for_end_the_connection(start_split, stage):
    """Behind a message that has its answer: in the pool, at the end, and where a transaction was given up."""
    split = start_split(timeouts={"pool-idle": "100ms" if stage == "quit" else "30s"})
    flood = endless(b"250 2.0.0 and more\r\n" * 100)
    if stage == "idle":
        split.local.on("eod", reply("250 2.0.0 taken"), flood)
    else:
        split.local.on(stage, flood)
    before = split.daemon.descriptors()
    with split.client() as client:
        if stage == "rset":
            client.mail()
            assert client.rcpt("user@example.com") == 250
            client.cmd("RSET")
        else:
            assert client.send_mail(message(), "user@example.com") == 250
        split.local.wait_for(lambda: split.local.connections[0].ended in ("rst", "fin"), "the end of the connection", timeout=20)
        split.local.forget()
        assert client.send_mail(message(), "user@example.com") == 250
    await_quiet(split.daemon, before + 1, timeout=20)
