"""What an upstream is told of the client by XCLIENT (Postfix, XCLIENT_README)."""

import pytest

from splitmx_test.messages import message
from splitmx_test.upstream import EXTENSIONS, reply

USER = "user@example.com"
LISTED = "NAME REVERSE_NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"


def _start(start_daemon, start_upstream, listed=LISTED, **settings):
    upstream = start_upstream("local.test", extensions=(*EXTENSIONS, f"XCLIENT {listed}"))
    upstream.on("unknown", reply("220 local.test ESMTP"), when=lambda step: step.line.startswith(b"XCLIENT "))
    daemon = start_daemon(workers=1, relays={"local": {"next-hop": upstream.next_hop, "identity": "xclient"}},
                          routes={"example.com": "local"}, **settings)
    return daemon, upstream


def told(connection):
    """What all XCLIENT lines of a connection say."""
    lines = [line.decode() for line in connection.commands if line.startswith(b"XCLIENT ")]
    return dict(word.split("=", 1) for line in lines for word in line.split(" ")[1:])


HERE = "127.0.0.5"
REVERSE = "5.0.0.127.in-addr.arpa"
NONE, LATER = "[UNAVAILABLE]", "[TEMPUNAVAIL]"


def confirmed(dns):
    dns.add(REVERSE, "PTR", "good.test")
    dns.add("good.test", "A", HERE)


def unconfirmed(dns):
    dns.add(REVERSE, "PTR", "liar.test")
    dns.add("liar.test", "A", "192.0.2.99")


def second_confirmed(dns):
    dns.add(REVERSE, "PTR", "liar.test")
    dns.add(REVERSE, "PTR", "good.test")
    dns.add("liar.test", "A", "192.0.2.99")
    dns.add("good.test", "A", HERE)


def absent(dns):
    pass


def no_name(dns):
    dns.add(REVERSE, "PTR", "no_host name\r\n.test")


def reverse_fails(dns):
    dns.fail(REVERSE)


def forward_fails(dns):
    dns.add(REVERSE, "PTR", "broken.test")
    dns.fail("broken.test")


def silent(dns):
    """Not known within the five seconds that RCPT waits."""
    dns.silent(REVERSE)


@pytest.mark.parametrize("names, name, reverse", [
    (confirmed, "good.test", "good.test"), (unconfirmed, NONE, "liar.test"), (second_confirmed, "good.test", "good.test"),
    (absent, NONE, NONE), (no_name, NONE, NONE), (reverse_fails, LATER, LATER), (forward_fails, LATER, "broken.test"),
    (silent, LATER, LATER)])
def test_names_confirmed_or_not(start_daemon, start_upstream, dns, names, name, reverse):
    names(dns)
    daemon, upstream = _start(start_daemon, start_upstream)
    with daemon.client(source=HERE, hello="helo.test") as client:
        assert client.send_mail(message(), USER) == 250
    said = told(upstream.only_message().connection)
    assert (said["NAME"], said["REVERSE_NAME"]) == (name, reverse)
    assert (said["ADDR"], said["HELO"], said["PROTO"], said["LOGIN"]) == (HERE, "helo.test", "ESMTP", NONE)
    assert set(said) == set(LISTED.split())
    field = upstream.only_message().data.split(b"by mx.splitmx.test")[0]
    assert (b"(good.test [" if name == "good.test" else b"(unknown [") in field


NO_HOST_NAMES = ["a b.test", "a\r\nXCLIENT ADDR=192.0.2.9\r\n.test", "a\0.test", "a ADDR=192.0.2.9 .test", "a+0D+0A.test", "a=b.test", "a\x1b[2J.test",
                 "a\x7f.test", "a_b.test", "-a.test", "a-.test", '"a".test', "<a>.test", "(a).test", "1.2.3.4", "[192", "*.test"]


def test_a_confirmed_name_that_is_no_host_name_is_nobodys(start_daemon, start_upstream, dns):
    """[A-Za-z0-9.-] (CVE-2026-28753): neither told, nor in our Received field."""
    daemon, upstream = _start(start_daemon, start_upstream)
    for number, name in enumerate(NO_HOST_NAMES, 20):
        dns.add(f"{number}.0.0.127.in-addr.arpa", "PTR", name)
        dns.add(name, "A", f"127.0.0.{number}")
        with daemon.client(source=f"127.0.0.{number}") as client:
            assert client.send_mail(message(), USER) == 250
        there = upstream.messages[-1]
        said = told(there.connection)
        assert (said["NAME"], said["REVERSE_NAME"], said["ADDR"]) == (NONE, NONE, f"127.0.0.{number}"), name
        assert f"from client.test (unknown [127.0.0.{number}])".encode() in there.data, name
        assert set(there.connection.verbs()) <= {"EHLO", "XCLIENT", "MAIL", "RCPT", "DATA", "QUIT"}, name


def test_what_is_not_listed_is_not_said(start_daemon, start_upstream, dns):
    confirmed(dns)
    daemon, upstream = _start(start_daemon, start_upstream, "NAME ADDR HELO")
    with daemon.client(source=HERE) as client:
        assert client.send_mail(message(), USER) == 250
    assert set(told(upstream.only_message().connection)) == {"NAME", "ADDR", "HELO"}


def test_another_helo_of_the_same_client_is_told_anew(start_daemon, start_upstream):
    daemon, upstream = _start(start_daemon, start_upstream)
    with daemon.client(hello="one.test") as client:
        for hello in ("one.test", "one.test", "two.test"):
            assert client.cmd(f"EHLO {hello}") == 250
            assert client.send_mail(message(), USER) == 250
        assert client.cmd("HELO two.test") == 250
        assert client.send_mail(message(), USER) == 250
    found = [told(copy.connection) for copy in upstream.await_messages(4)]
    assert [(said["HELO"], said["PROTO"]) for said in found] == [
        ("one.test", "ESMTP"), ("one.test", "ESMTP"), ("two.test", "ESMTP"), ("two.test", "SMTP")]
    assert upstream.messages[0].connection is upstream.messages[1].connection
