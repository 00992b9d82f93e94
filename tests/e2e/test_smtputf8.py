"""Addresses beyond ASCII (RFC 6531) where `smtputf8: true` offers to take them, and where a server behind does not (design: sections 4 and 9)."""

import os

import pytest

from splitmx_test import peers
from splitmx_test.daemon import Daemon
from splitmx_test.messages import assert_relayed, message
from splitmx_test.tls import TlsClient
from splitmx_test.upstream import EXTENSIONS, ScriptedUpstream, close, reply, reset

JURGEN, GOOD, NARROW = "j\u00fcrgen@example.com", "user@example.com", "user@narrow.test"
OFFERS = (*EXTENSIONS, "SMTPUTF8")


class Town:
    def __init__(self, daemon, **upstreams):
        self.daemon, self.upstreams = daemon, upstreams
        self.__dict__.update(upstreams)

    def asked(self):
        """What the upstreams were told: name of the relay and line."""
        return [(name, line.decode("utf-8", "surrogateescape")) for name, upstream in self.upstreams.items() for line in upstream.commands()
                if line[:5] in (b"MAIL ", b"RCPT ")]


@pytest.fixture(scope="module")
def _town(mx_certificate):
    with ScriptedUpstream("wide.test", extensions=OFFERS) as wide, ScriptedUpstream("king.test", extensions=OFFERS) as king, \
            ScriptedUpstream("narrow.test") as narrow:
        with Daemon(relays={"wide": {"next-hop": wide.next_hop}, "king": {"next-hop": king.next_hop}, "narrow": {"next-hop": narrow.next_hop}},
                    routes={"king@example.com": "king", "b\u00e9a@example.com": "king", "example.com": "wide", "b\u00fccher.test": "wide",
                            "xn--bcher-kva.test": "king", "narrow.test": "narrow"},
                    domains=["example.com", "B\u00fccher.test", "xn--bcher-kva.test", "narrow.test"],
                    smtputf8=True, workers=1, tls=mx_certificate.settings) as daemon:
            yield Town(daemon, wide=wide, king=king, narrow=narrow)


@pytest.fixture
def town(_town):
    for upstream in _town.upstreams.values():
        upstream.forget()
    return _town


def octets(text):
    return text.encode("utf-8", "surrogateescape")


def test_it_is_offered(town):
    with town.daemon.client() as client:
        assert "SMTPUTF8" in client.capabilities.texts and "8BITMIME" in client.capabilities.texts


# What follows MAIL, the answer, what the upstream is told.
MAILS = [
    ("FROM:<j\u00fcrgen@client.test> SMTPUTF8", "250 2.1.0", "FROM:<j\u00fcrgen@client.test> SMTPUTF8"),
    ("FROM:<j\u00fcrgen@b\u00fccher.test> smtputf8 SIZE=9 BODY=8BITMIME", "250 2.1.0", "FROM:<j\u00fcrgen@b\u00fccher.test> SIZE=9 BODY=8BITMIME SMTPUTF8"),
    ('FROM:<"\u00fc \u4e2d"@client.test> SMTPUTF8', "250 2.1.0", 'FROM:<"\u00fc \u4e2d"@client.test> SMTPUTF8'),
    ("FROM:<a@client.test> SMTPUTF8", "250 2.1.0", "FROM:<a@client.test> SMTPUTF8"), ("FROM:<> SMTPUTF8", "250 2.1.0", "FROM:<> SMTPUTF8"),
    ("FROM:<a@client.test>", "250 2.1.0", "FROM:<a@client.test>"),
    ("FROM:<j\u00fcrgen@client.test>", "553 5.6.7", None), ("FROM:<a@b\u00fccher.test> BODY=8BITMIME", "553 5.6.7", None),
    ("FROM:<a@client.test> SMTPUTF8=1", "501 5.5.4", None), ("FROM:<a@client.test> SMTPUTF8 SMTPUTF8", "501 5.5.4", None),
    # no characters: bytes that are no UTF-8, C1 controls, too many
    ("FROM:<\udcfc@client.test> SMTPUTF8", "501 5.1.7", None), ("FROM:<\udcc0\udcaf@client.test> SMTPUTF8", "501 5.1.7", None),
    ("FROM:<\udced\udca0\udc80@client.test> SMTPUTF8", "501 5.1.7", None), ("FROM:<\u0085@client.test> SMTPUTF8", "501 5.1.7", None),
    ("FROM:<a@\u009b.test> SMTPUTF8", "501 5.1.7", None), ("FROM:<" + "\u00fc" * 155 + "@client.test> SMTPUTF8", "501 5.1.7", None),
    ("FROM:<\u00fc> SMTPUTF8", "501 5.1.7", None), ("FROM:<a\uff20client.test> SMTPUTF8", "501 5.1.7", None),
]


@pytest.mark.parametrize("argument, answer, told", MAILS, ids=[repr(row[0])[1:60] for row in MAILS])
def test_mail(town, argument, answer, told):
    with town.daemon.client() as client:
        assert client.cmd(octets(f"MAIL {argument}")) == answer
        if told is not None:
            assert client.rcpt(GOOD) == 250
    assert town.asked() == ([] if told is None else [("wide", f"MAIL {told}"), ("wide", f"RCPT TO:<{GOOD}>")])


# Recipient, the answer, the relay that was asked for it (None: nobody). Only A to Z are folded, and nothing is another spelling of anything.
RECIPIENTS = [
    (JURGEN, "250 2.1.5", "wide"), ("J\u00dcRGEN@EXAMPLE.com", "250 2.1.5", "wide"), ("B\u00e9A@Example.com", "250 2.1.5", "king"),
    ("b\u00c9a@example.com", "250 2.1.5", "wide"), ("be\u0301a@example.com", "250 2.1.5", "wide"), ("b\u00e9a+x@example.com", "250 2.1.5", "king"),
    ("KING@example.com", "250 2.1.5", "king"), ("\u212aing@example.com", "250 2.1.5", "wide"), ("k\u200bing@example.com", "250 2.1.5", "wide"),
    ("user@b\u00fccher.test", "250 2.1.5", "wide"), ("user@B\u00fcCHER.test", "250 2.1.5", "wide"), ("user@xn--bcher-kva.test", "250 2.1.5", "king"),
    ("user@b\u00dccher.test", "550 5.7.1", None), ("user@bu\u0308cher.test", "550 5.7.1", None), ("user@exam\u00adple.com", "550 5.7.1", None),
    ("user@ex\u0430mple.com", "550 5.7.1", None), ("user@example\u3002com", "550 5.7.1", None), ("user@example.com\u200b", "550 5.7.1", None),
    ("user\uff20example.com", "501 5.1.3", None), ("user\uff05elsewhere.test@example.com", "250 2.1.5", "wide"), ("\u00fc%x.test@example.com", "550 5.7.1", None),
    ("\u00fc@x.test@example.com", "550 5.7.1", None), ("postmaster\u200b", "501 5.1.3", None), ("\udcff@example.com", "501 5.1.3", None),
    ("\u009b31m@example.com", "501 5.1.3", None), ("\u00fc" * 154 + "@example.com", "250 2.1.5", "wide"), ("\u00fc" * 155 + "@example.com", "501 5.1.3", None),
]


@pytest.mark.parametrize("recipient, answer, relay", RECIPIENTS, ids=[ascii(row[0])[1:50] for row in RECIPIENTS])
def test_rcpt(town, recipient, answer, relay):
    with town.daemon.client() as client:
        client.mail(parameters="SMTPUTF8")
        assert client.cmd(octets(f"RCPT TO:<{recipient}>")) == answer
    assert town.asked() == ([] if relay is None else [(relay, "MAIL FROM:<sender@client.test> SMTPUTF8"), (relay, f"RCPT TO:<{recipient}>")])


@pytest.mark.parametrize("recipient", [JURGEN, "user@b\u00fccher.test", "\udcff@example.com"])
def test_rcpt_in_a_transaction_that_did_not_ask_for_it(town, recipient):
    with town.daemon.client() as client:
        client.mail()
        assert client.cmd(octets(f"RCPT TO:<{recipient}>")) == "553 5.6.7"
        assert client.rcpt(GOOD) == 250
    assert town.asked() == [("wide", "MAIL FROM:<sender@client.test>"), ("wide", f"RCPT TO:<{GOOD}>")]


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
def test_a_message_says_in_its_received_field_what_it_is(town, ca, secure):
    sent = message("Subject in the body: \u00fc\r\n".encode(), subject="Gr\u00fc\u00dfe")
    client = TlsClient(town.daemon.where)
    with client.starttls(ca.client_context()) if secure else client:
        client.mail("j\u00fcrgen@client.test", "SMTPUTF8")
        assert client.rcpt(JURGEN) == 250
        assert client.data() == 354
        assert client.body(sent) == 250
        assert client.send_mail(message(), GOOD) == 250
    first, second = town.wide.await_messages(2)
    field = assert_relayed(first.data, sent).encode("latin-1").decode()
    assert f" with UTF8SMTP{'S' * secure} id " in field and f" for <{JURGEN}>; " in field
    assert b" with ESMTP" in second.data  # which did not ask for it


# Servers that do not offer it


def test_a_server_that_does_not_offer_it_is_not_asked(town):
    """Nor harmed: its connection serves the next one. The others get theirs."""
    sent = message()
    with town.daemon.client() as client:
        client.mail(parameters="SMTPUTF8")
        for _ in range(3):
            assert client.rcpt(NARROW) == "550 5.6.7"
        assert client.rcpt(JURGEN) == 250
        assert client.data() == 354
        assert client.body(sent) == 250
        assert client.send_mail(message(), NARROW) == 250
    assert_relayed(town.wide.only_message().data, sent)
    assert town.narrow.only_message().connection.verbs()[-3:] == ["MAIL", "RCPT", "DATA"]
    assert len(town.narrow.connections) == 1 and town.narrow.connections[0].verbs().count("MAIL") == 1


def test_of_a_fallback_that_does_not_offer_it_nobody_hears_5xx(start_daemon, start_upstream):
    local, other = start_upstream("local.test", extensions=OFFERS), start_upstream("other.test")
    local.on("greeting", reply("421 4.3.2 away"), close())
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop, "fallback": "other"}, "other": {"next-hop": other.next_hop}},
                          routes={"example.com": "local"}, smtputf8=True)
    with daemon.client() as client:
        client.mail(parameters="SMTPUTF8")
        assert client.rcpt(GOOD) == "451 4.4.1"
        assert client.cmd("RSET") == 250
        client.mail()
        assert client.rcpt(GOOD) == 250


def test_a_second_connection_that_does_not_offer_it_is_451(start_daemon, start_upstream):
    """The first was lost behind RCPT."""
    local = start_upstream("local.test", extensions=OFFERS)
    local.on("data", reset(), times=1)
    local.on("ehlo", reply("250-local.test", "250 PIPELINING"), after=1)
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes={"example.com": "local"}, smtputf8=True)
    with daemon.client() as client:
        client.mail(parameters="SMTPUTF8")
        assert client.rcpt(GOOD) == 250
        assert client.data() == "451 4.4.2"
    assert local.messages == [] and local.connections[1].verbs().count("MAIL") == 0


# Commands


def test_route_and_doctor_know_it(start_daemon, start_upstream):
    wide, narrow = start_upstream("wide.test", extensions=OFFERS), start_upstream("narrow.test")
    daemon = start_daemon(start=False, relays={"wide": {"next-hop": wide.next_hop}, "narrow": {"next-hop": narrow.next_hop}},
                          routes={JURGEN: "wide", "example.com": "narrow"}, smtputf8=True)
    checked = daemon.command("check")
    assert checked.status == 0 and "never used" not in checked.err, checked
    found = daemon.command("route", JURGEN)
    assert found.status == 0 and "wide" in found.out, found
    lines = [line for line in daemon.command("doctor", timeout=90).out.splitlines() if "does not offer SMTPUTF8" in line]
    assert len(lines) == 1 and lines[0].split()[:3] == ["warning", "relay", "narrow:"], lines


# Postfix


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix wants to be started by root")
def test_postfix_takes_it():
    with peers.Postfix(recipients=("user",), smtputf8_enable="yes") as postfix:
        with Daemon(relays={"local": {"next-hop": postfix.next_hop}}, routes={"example.com": "local"}, smtputf8=True) as daemon:
            sent = message(subject="Gr\u00fc\u00dfe")
            with daemon.client() as client:
                client.mail("j\u00fcrgen@client.test", "SMTPUTF8")
                assert client.rcpt("\u00fc@example.com") == "550 5.1.1"
                assert client.rcpt(GOOD) == 250
                assert client.data() == 354
                assert client.body(sent) == 250
        trace = peers.in_front_of(postfix.await_mail("user")[0], sent)
        assert any("with UTF8SMTP id" in line and "(splitmx)" in line for line in trace), trace
