"""Clients that are no mail clients, or pretend to be somebody else: nothing that they say is obeyed, believed or written down as it is."""

import json
import re

import pytest

from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import early, raw

LOCAL, KING = "user@example.com", "kingmail@example.com"
TRANSACTION = f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n".encode()


def assert_nobody_was_asked(split):
    assert [line for upstream in split.upstreams for line in upstream.commands()] == []


# Before the greeting


@pytest.mark.parametrize("words", [
    b"EHLO early.test\r\n", b"E", b"\r\n", b"\n", b"\0", b"QUIT\r\n", b"EHLO early.test\r\n" + TRANSACTION, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03", b"PROXY TCP4 192.0.2.9 192.0.2.1 1 25\r\n", b"x" * 100_000])
def test_whoever_speaks_before_the_greeting_is_told_off_and_not_obeyed(split, words):
    with split.daemon.frozen():  # so that the words are there when the greeting is due
        client = split.client(hello=None, greet=False)
        client.send(words)
    with client:
        assert client.reply() == "554 5.5.1"
        assert client.await_end()[1] == b""
    assert_nobody_was_asked(split)


# Other protocols


REQUESTS = {
    "post": b"POST / HTTP/1.1\r\nHost: mx.splitmx.test:25\r\nContent-Type: text/plain\r\nContent-Length: 300\r\n\r\nEHLO browser.test\r\n" + TRANSACTION,
    "fields only": b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n\r\nEHLO browser.test\r\n" + TRANSACTION,
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nEHLO browser.test\r\n" + TRANSACTION,
    "answer": b"HTTP/1.1 200 OK\r\n\r\nEHLO server.test\r\n" + TRANSACTION,
    "ftp upload": b"PUT /x HTTP/1.0\r\n\r\nEHLO browser.test\r\n" + TRANSACTION,
}


@pytest.mark.parametrize("mode", ["clear", "may", "implicit"])
@pytest.mark.parametrize("request_of", REQUESTS)
def test_commands_in_the_body_of_another_protocol_are_not_obeyed(secured, mode, request_of):
    """A browser that is made to send them, in TLS too (ALPACA)."""
    with secured.client(hello=None) if mode == "clear" else secured.secure_client(mode, hello=None) if mode == "implicit" \
            else secured.client().starttls(secured.context, hello=None) as client:
        client.send(REQUESTS[request_of])
        assert client.reply() == "554 5.5.1"
        assert client.await_end()[1] == b""
    assert_nobody_was_asked(secured)


# Somebody else


V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\xc0\x00\x02\x01\x9c\x40\x00\x19"
SPOOFED = [
    (b"XCLIENT ADDR=192.0.2.9 NAME=trusted.test LOGIN=root", ["502 5.5.2"]), (b"xclient ADDR=192.0.2.9", ["502 5.5.2"]), (b"XCLIENT", ["502 5.5.2"]),
    (b"XFORWARD ADDR=192.0.2.9 HELO=trusted.test", ["502 5.5.2"]), (b"AUTH PLAIN AHJvb3QAcm9vdA==", ["502 5.5.2"]), (b"AUTH LOGIN", ["502 5.5.2"]),
    (b"AUTH EXTERNAL =", ["502 5.5.2"]), (b"AUTH", ["502 5.5.2"]), (b"XSMTP-ADMIN on", ["502 5.5.2"]),
    (b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 25", ["502 5.5.2"]), (b"PROXY UNKNOWN", ["502 5.5.2"]),
    (V2, ["502 5.5.2", "502 5.5.2", "500 5.5.2", "500 5.5.2", "500 5.5.2"]),  # its NUL, its LF, and what is neither
]


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("line, answers", SPOOFED, ids=[repr(line)[2:30] for line, _ in SPOOFED])
def test_nobody_is_believed_to_be_another(secured, line, answers, secure):
    sent = message()
    with secured.secure_client() if secure else secured.client() as client:
        client.send(line + b"\r\n")
        assert [said for said in answers if client.reply() != said] == []
        assert client.send_mail(sent, LOCAL) == 250
    assert " [127.0.0.1]) by mx.splitmx.test (splitmx) " in assert_relayed(secured.local.only_message().data, sent)


# Long lines


def test_a_dot_within_a_long_line_ends_nothing_wherever_a_buffer_may_end(split):
    """A reader that cuts long lines takes the dot behind its cut for one at the start of a line."""
    sizes = sorted({size * times + more for size in (512, 998, 1000, 1024, 2048, 4096, 16384, 65536) for times in (1, 2) for more in range(-3, 3)})
    sent = message(b"".join(b"x" * size + b".\r\nMAIL FROM:<smuggler@client.test>\r\n" for size in sizes))
    assert split.daemon.send(sent, LOCAL, KING) == 250
    for upstream in (split.local, split.kingmailer):
        assert_relayed(upstream.only_message().data, sent)


@pytest.mark.parametrize("end", [b".\n", b".\r", b".\0\r\n", b".\n.\r\n"], ids=repr)
def test_a_look_alike_behind_a_long_line_is_refused_like_any(split, end):
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(message(b"x" * 200_000) + end + TRANSACTION + b"\r\n.\r\n")
        assert client.reply() == "550 5.5.2"
        assert client.await_end()[1] == b""
    for upstream in (split.local, split.kingmailer):
        upstream.await_incomplete()
        upstream.assert_has_nothing()


# The log


HELO = 'x"event=forged\\'
SENDER = '"a\\" event=forged outcome=accepted b=\\"c"@client.test'
ACCEPTED = '"r=local:250;s\\" event=forged"@example.com'
REFUSED = '"refused\\" event=forged"@example.com'
NOT_ASCII = b'\x9b31m\xc2\x9b\xe2\x80\xae\xe2\x80\xa8\xff@example.com'
SAID = b'"no" \x1b[2J\x07 \x9b31m \xc2\x9b31m \xc2\x85 \xe2\x80\xa8 \xe2\x80\xa9 \xe2\x80\xae event=forged \xff\xfe \\" \x00 \r event=forged'
VALUE = r'"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\["\\]|\\x[0-9a-f]{2})*"|[^\s"\\\x00-\x1f\x7f-\x9f]*'


@pytest.mark.parametrize("format", ["text", "json"])
def test_nobody_writes_the_log_but_us(start_split, format):
    """Quotes, blanks, controls (C1 as an octet and as UTF-8), lines of Unicode's, no UTF-8; from clients and from upstreams."""
    split = start_split(log={"level": "debug", "format": format}, workers=1)
    split.third.on("rcpt", raw(b"550 5.1.1 " + SAID + b"\r\n"), when="refused")
    split.third.on("eod", raw(b"250 2.0.0 " + SAID + b"\r\n"), times=1)
    split.third.on("rcpt", early(b"250 \x1b[2J \" event=forged \x9b\r\n"), raw(b"250 Ok\r\n"), when="last@")
    with split.client(hello=HELO) as client:
        assert client.cmd(b"RCPT TO:<" + NOT_ASCII + b">") == 503
        assert client.mail(SENDER) == 250
        assert client.cmd(b"RCPT TO:<" + NOT_ASCII + b">") == "553 5.6.7"
        assert client.rcpt(REFUSED) == 550
        assert client.rcpt(ACCEPTED) == 250
        assert client.data() == 354
        assert client.body(message()) == 250
        client.mail(SENDER)
        client.rcpt("last@example.com")
        assert client.cmd("GET / HTTP/1.1") == "554 5.5.1"
    split.daemon.stop()
    events = [event_of(line, format) for line in split.daemon.lines]
    assert "forged" not in events and {"transaction", "recipient"} <= set(events)
    transaction, *_ = (line for line in split.daemon.lines if event_of(line, format) == "transaction")
    fields = json.loads(transaction) if format == "json" else {k: re.sub(r"\\(.)", r"\1", v) for k, v in split.daemon.fields(transaction).items()}
    assert (fields["helo"], fields["sender"]) == (HELO, SENDER)
    assert fields["recipients"] == f"{ACCEPTED}=third:250"


def event_of(line, format):
    """Each line is whole, and of harmless characters."""
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffd]", line), line
    assert len(line) < 8192
    if format == "json":
        return json.loads(line)["event"]
    assert re.fullmatch(rf'\S+Z (?:error|warning|info|debug)(?: [a-z_-]+=(?:{VALUE}))*', line), line
    events = re.findall(rf'(?<= )event=({VALUE})(?= |$)', re.sub(r'"(?:[^"\\]|\\.)*"', '""', line))
    assert len(events) == 1, line
    return events[0]
