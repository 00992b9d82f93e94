"""`splitmx route`: the keys it tried, addresses and their health, policy in words, and what a probe finds (design: section 8)."""

import json
import os
import threading
import time

import pytest

from splitmx_test.daemon import splitmx
from splitmx_test.messages import message
from splitmx_test.upstream import close, reply, silence
from splitmx_test.waiting import poll

XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"
CONTRACT = ["address", "matched", "source", "relay", "action", "next_hops", "fallback", "unknown_recipient", "tls"]
BEHIND = ["tried", "endpoints", "daemon"]
WHO = "user@example.com"


@pytest.fixture
def local(start_upstream):
    upstream = start_upstream("local.test", extensions=("PIPELINING", "8BITMIME", XCLIENT))
    return upstream.on("unknown", reply("220 2.0.0 local.test ESMTP"), when="XCLIENT")


@pytest.fixture
def other(start_upstream):
    return start_upstream("other.test")


class Route:
    """Asks `splitmx route` with a configuration of which nothing runs."""

    def __init__(self, start_daemon, **settings):
        self.daemon = start_daemon(start=False, **{"routes": {WHO: "local"}, **settings})

    def text(self, *arguments, status=0):
        result = self.daemon.command("route", *arguments)
        assert result.status == status, result
        return result.out

    def probe(self, *addresses, status):
        result = self.daemon.command("route", "--json", "--probe", *(addresses or (WHO,)))
        assert result.status == status, result
        answers = [json.loads(line) for line in result.out.splitlines()]
        for answer in answers:
            assert list(answer) == [*CONTRACT, *BEHIND, "probe"]
        return answers[0]["probe"] if len(answers) == 1 else [answer["probe"] for answer in answers]


@pytest.fixture
def route(start_daemon):
    return lambda **settings: Route(start_daemon, **settings)


def relays(local, other=None, **settings):
    found = {"local": {"next-hop": local.next_hop, **settings}}
    return found if other is None else {**found, "other": {"next-hop": other.next_hop}}


# what the table says


def test_what_is_no_address_is_told_what_one_is(route, local):
    said = route(relays=relays(local)).text("Name <a@b>", "example.com", WHO)
    assert said.count("refused    501 5.1.3 bad recipient address syntax\n  because    that is no address: one is `user@domain`") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_who_may_not_look_is_not_told_that_there_is_no_table(start_daemon, local):
    daemon = start_daemon(relays=relays(local), routes={WHO: "local"})
    said = splitmx("route", "-c", daemon.folder.config_path, WHO, user="daemon")
    assert "this user may not read which table is in force in " in said.err and "no table" not in said.err


def test_every_key_that_was_tried_is_told_in_order(route, local):
    asked = route(relays=relays(local), routes={"*": "local", ".example.com": "local", "a@b.example.com": "local"}, domains=["b.c.example.com"])
    lines = asked.text("User+ext@b.c.example.com").splitlines()
    assert lines[1:7] == [
        "  tried      user+ext@b.c.example.com: no such key",
        "             user@b.c.example.com: no such key",
        "             b.c.example.com: no such key",
        "             .c.example.com: no such key",
        "             .example.com: this one",
        f"  matched    .example.com, {asked.daemon.folder.path}/routes.yaml:2"], lines


def test_no_key_is_tried_for_a_domain_that_is_not_ours(route, local):
    asked = route(relays=relays(local))
    result = json.loads(asked.text("--json", "x@elsewhere.test"))
    assert result["tried"] == [] and result["action"].startswith("error:5.7.1") and list(result) == [*CONTRACT, *BEHIND]
    assert "tried" not in asked.text("x@elsewhere.test")


def test_postmaster_is_looked_for_at_the_hostname(route, local):
    text = route(relays=relays(local)).text("postmaster")
    assert "tried      postmaster@mx.splitmx.test: no such key" in text and "because    postmaster has to be somebody" in text


def test_names_are_shown_with_what_they_lead_to(route, dns):
    dns.add("king.test", "A", "127.0.0.7")
    dns.add("hub.test", "MX", (10, "mx1.hub.test"))
    dns.add("mx1.hub.test", "A", "192.0.2.9")
    dns.fail("broken.test")
    asked = route(relays={"local": {"next-hop": "smtp:[king.test], hub.test, [broken.test], [absent.test]"}})
    text = asked.text(WHO)
    assert "next hop   [king.test]:25 (the host itself, no MX)\n             - king.test 127.0.0.7:25\n" in text, text
    assert "next hop   hub.test:25 (by the MX records of hub.test)\n             - mx1.hub.test 192.0.2.9:25\n" in text, text
    assert text.count("- leads nowhere now: ") == 2, text
    result = json.loads(asked.text("--json", WHO))
    assert [(one["next_hop"], one["host"], one["address"], one["health"]) for one in result["endpoints"]] == [
        (0, "king.test", "127.0.0.7:25", None), (1, "mx1.hub.test", "192.0.2.9:25", None)]


@pytest.mark.parametrize("domain", ["example.com", "null.test"])
def test_smtp_alone_goes_by_the_recipients_domain(route, dns, domain):
    dns.add("example.com", "MX", (10, "mx.example.com"))
    dns.add("mx.example.com", "A", "192.0.2.8")
    dns.add("null.test", "MX", (0, "."))
    text = route(routes={"example.com": "smtp:", "null.test": "smtp:"}).text(f"x@{domain}")
    assert f"MX of {domain}, port 25\n             - " in text
    assert ("mx.example.com 192.0.2.8:25" if domain == "example.com" else "leads nowhere now: ") in text, text


def test_name_servers_that_are_silent_do_not_hold_it_up(route, dns):
    """The first name is answered, so that the server is not given up for dead by the others."""
    dns.add("one.test", "A", "127.0.0.7")
    for name in ("two", "three"):
        dns.silent(f"{name}.test")
    began = time.monotonic()
    text = route(relays={"local": {"next-hop": "smtp:[one.test],two.test,three.test"}}).text(WHO)
    assert "- one.test 127.0.0.7:25" in text and "fallback   none" in text, text
    assert text.count("leads nowhere now: ") == 2 and "have not answered in time" in text, (time.monotonic() - began, text)


@pytest.mark.parametrize("settings, words", [
    ({"tls": "none"}, "tls        none: in clear text"),
    ({}, "tls        may: encrypted where it is offered"),
    ({"tls": "encrypt"}, "tls        encrypt: always encrypted, for any certificate; else 451 4.7.5"),
    ({"tls": "verify", "tls-name": "king.test"}, "the certificate is for king.test, by an authority of this system; else 451 4.7.5"),
    ({"identity": "xclient"}, "identity   xclient: the server is told who the client is"),
    ({"identity": "proxy"}, "identity   proxy: "),
    ({"fallback": "other"}, "fallback   other, when no next hop can be used"),
    ({}, "fallback   none: 451 4.4.1"),
    ({"unknown-recipient": "other"}, "unknown    other (asked for recipients that local does not know)"),
    ({}, "unknown    nobody else is asked"),
])
def test_policy_is_told_in_words(route, local, other, settings, words):
    assert words in route(relays=relays(local, other, **settings)).text(WHO)


# the running daemon


def test_without_a_daemon_that_is_said(route, local):
    asked = route(relays=relays(local))
    assert f"health     not known: no splitmx runs with state directory {asked.daemon.folder.path}/state" in asked.text(WHO)
    assert json.loads(asked.text("--json", WHO))["daemon"] is False


def test_health_with_and_without_a_proxy_header_is_told_apart(start_daemon, local):
    both = {"local": {"next-hop": local.next_hop, "identity": "none"}, "other": {"next-hop": local.next_hop, "identity": "proxy"}}
    daemon = start_daemon(relays=both, routes={WHO: "local", "proxied@example.com": "other"})
    assert daemon.send(message(), WHO) == 250
    assert [(one["proxy"], one["state"]) for one in daemon.status()["endpoints"]] == [(False, "ok")]
    assert ": ok" in daemon.command("route", WHO).out
    assert ": no mail lately" in daemon.command("route", "proxied@example.com").out


def test_health_is_the_running_daemons(start_daemon, local):
    daemon = start_daemon(relays=relays(local), routes={WHO: "local"})
    where = f"127.0.0.1:{local.port}"

    def told():
        result = daemon.command("route", "--json", WHO)
        assert result.status == 0 and result.err == "", result
        answer = json.loads(result.out)
        assert answer["daemon"] is True and [one["address"] for one in answer["endpoints"]] == [where]
        return answer["endpoints"][0]["health"]

    def said():
        return daemon.command("route", WHO).out

    assert told() is None and f"[127.0.0.1]:{local.port}: no mail lately" in said()
    assert daemon.send(b"Subject: x\r\n\r\nx\r\n", WHO) == 250
    assert told() == "ok" and f"[127.0.0.1]:{local.port}: ok\n" in said()
    local.stop()
    with daemon.client() as client:
        assert client.mail() == 250
        client.rcpt(WHO)
    assert f"[127.0.0.1]:{local.port}: ok, but 1 failure in a row" in said()

    def down():
        with daemon.client() as client:
            assert client.mail() == 250
            client.rcpt(WHO)
        return told() == "down"

    poll(down, "the relay to be known as down")
    assert f"[127.0.0.1]:{local.port}: down for " in said() and "failures in a row" in said()
    daemon.stop()
    assert "no splitmx runs" in said()


def test_a_daemon_of_another_configuration_is_told(start_daemon, local):
    daemon = start_daemon(relays=relays(local), routes={WHO: "local"})
    daemon.folder.write("more.yaml", daemon.config.read_text())
    text = daemon.command("route", "-c", daemon.folder.path / "more.yaml", WHO).out
    assert f"daemon     the splitmx that runs serves {daemon.folder.path}/splitmx.yaml" in text


# the probe


def test_a_probe_asks_and_sends_nothing(route, local):
    local.on("rcpt", reply("250 2.1.5 she is here"))
    asked = route(relays=relays(local))
    text = asked.text("--probe", "User+x@example.com")
    assert f"probe      127.0.0.1:{local.port} answers as local.test, in clear text\n" in text
    assert "RCPT TO:<User+x@example.com>: 250 2.1.5 she is here\n  verdict    would be accepted: 250 2.1.5 she is here\n" in text
    assert local.await_all_ended() == ["quit"]
    assert local.connections[0].verbs() == ["EHLO", "MAIL", "RCPT", "RSET", "QUIT"]
    assert local.commands()[1].startswith(b"MAIL FROM:<>") and local.commands()[2] == b"RCPT TO:<User+x@example.com>"
    local.assert_has_nothing()


@pytest.mark.parametrize("stage, words, code, enhanced", [
    ("rcpt", "550 5.1.1 no such user", 550, "5.1.1"),
    ("rcpt", "550 no such user", 550, "5.0.0"),
    ("rcpt", "450 4.2.0 greylisted", 450, "4.2.0"),
    ("rcpt", "421 4.3.2 going down", 451, "4.3.2"),
    ("rcpt", "530 5.7.0 who are you", 451, "4.3.5"),
    ("mail", "552 5.3.4 too big", 554, "5.3.4"),
    ("mail", "554 5.7.1 go away", 554, "5.7.1"),
])
def test_an_answer_that_is_no_yes_is_told_as_a_client_would_hear_it(route, local, stage, words, code, enhanced):
    local.on(stage, reply(words))
    probe = route(relays=relays(local)).probe(status=1)
    assert (probe["accepted"], probe["code"], probe["enhanced"]) == (False, code, enhanced), probe
    assert [(one["command"], one["reply"]) for one in probe["attempts"]] == [(stage.upper(), words)]


def test_all_lines_of_an_answer_are_told(route, local):
    local.on("rcpt", reply("550-5.1.1 The account does not exist.", "550 5.1.1 Look for typing errors."))
    assert route(relays=relays(local)).probe(status=1)["text"] == "The account does not exist. Look for typing errors."


def test_one_that_is_refused_of_several_is_status_1(route, local):
    local.on("rcpt", reply("550 5.1.1 no"), when="nobody@")
    good, bad = route(relays=relays(local), routes={"example.com": "local"}).probe(WHO, "nobody@example.com", status=1)
    assert good["accepted"] and not bad["accepted"]


def test_what_the_table_answers_itself_asks_nobody(route, local):
    asked = route(relays=relays(local), routes={"gone@example.com": "error:5.1.6 moved", "d@example.com": "discard:", WHO: "local"})
    assert asked.probe("gone@example.com", status=1) == {"accepted": False, "code": 550, "enhanced": "5.1.6", "text": "moved", "attempts": []}
    assert asked.probe("d@example.com", status=0)["accepted"] is True
    assert asked.probe("x@elsewhere.test", status=1)["enhanced"] == "5.7.1"
    assert local.connections == []


@pytest.mark.parametrize("identity, line", [("xclient", "XCLIENT"), ("proxy", "PROXY TCP4 192.0.2.1 ")])
def test_the_identity_goes_with_it(route, local, identity, line):
    local.on("unknown", lambda connection: True, when="PROXY TCP4 192.0.2.1 ")
    text = route(relays=relays(local, identity=identity)).text("--probe", WHO)
    assert f"told by {identity.upper()} that the client is 192.0.2.1" in text and "verdict    would be accepted" in text
    assert any(command.startswith(line.encode()) for command in local.commands())


def test_an_identity_that_is_not_taken_is_no_mail(route, other):
    probe = route(relays=relays(other, other, identity="xclient", fallback="other")).probe(status=1)
    assert (probe["code"], probe["enhanced"]) == (451, "4.3.5") and len(probe["attempts"]) == 1


def test_the_next_next_hop_and_then_the_fallback_is_asked(route, local, other, start_upstream):
    second = start_upstream("second.test").on("greeting", reply("421 4.3.2 not now"), close())
    local.stop()
    settings = relays(local, other, fallback="other")
    settings["local"]["next-hop"] += ", " + second.next_hop.removeprefix("smtp:")
    asked = route(relays=settings)
    probe = asked.probe(status=0)
    assert [(one["role"], one["relay"], one["reply"]) for one in probe["attempts"]][:2] == [("relay", "local", None)] * 2
    assert probe["attempts"][2]["role"] == "fallback" and probe["attempts"][2]["name"] == "other.test"
    other.on("rcpt", reply("550 5.1.1 unknown"))
    probe = asked.probe(status=1)
    assert (probe["code"], probe["enhanced"]) == (451, "4.4.1"), "a fallback is no authority on who exists"


def test_whom_the_relay_does_not_know_is_asked_for_elsewhere(route, local, other):
    local.on("rcpt", reply("550 5.1.1 unknown"))
    asked = route(relays=relays(local, other, **{"unknown-recipient": "other"}))
    probe = asked.probe(status=0)
    assert [one["role"] for one in probe["attempts"]] == ["relay", "unknown_recipient"] and probe["accepted"]
    other.on("rcpt", reply("550 5.1.1 not here either"))
    assert asked.probe(status=1)["text"] == "not here either"


def test_a_relay_that_is_away_or_silent_is_put_off(route, local):
    local.on("rcpt", silence())
    asked = route(relays=relays(local), timeouts={"recipient": "500ms"})
    assert asked.probe(status=1)["code"] == 451
    local.stop()
    probe = asked.probe(status=1)
    assert (probe["enhanced"], probe["attempts"][0]["why"]) == ("4.4.1", "connection refused")
    assert probe["text"] == "local: connection refused", "as a client hears it"


def test_names_without_addresses_are_put_off(route, dns):
    dns.add("null.test", "MX", (0, "."))
    asked = route(relays={"local": {"next-hop": "smtp:[absent.test]"}}, routes={WHO: "local", "null.test": "smtp:"})
    assert asked.probe(status=1)["enhanced"] == "4.4.3"
    assert asked.probe("x@null.test", status=1)["code"] == 556


def test_tls_is_as_the_relay_has_it(route, local, start_tls_upstream, ca, stranger):
    certificate = ca.issue("king.test")
    king = start_tls_upstream("king.test", certificate)
    asked = route(relays=relays(king, tls="verify", **{"tls-name": "king.test", "ca-file": str(ca.file)}))
    assert asked.probe(status=0)["attempts"][0]["tls"].startswith("TLSv1.")
    asked = route(relays=relays(king, tls="verify", **{"tls-name": "king.test", "ca-file": str(stranger.file)}))
    assert asked.probe(status=1)["enhanced"] == "4.7.5"
    assert route(relays=relays(local, tls="encrypt")).probe(status=1)["enhanced"] == "4.7.5"


def test_an_address_beyond_ascii_says_smtputf8(route, local, start_upstream):
    who = "grüße@example.com"
    able = start_upstream("able.test", extensions=("PIPELINING", "8BITMIME", "SMTPUTF8"))
    settings = {"smtputf8": True, "routes": {"example.com": "local"}}
    assert route(relays=relays(able), **settings).probe(who, status=0)["accepted"]
    assert b"SMTPUTF8" in able.await_command("MAIL")
    assert route(relays=relays(local), **settings).probe(who, status=1)["enhanced"] == "5.6.7"


def test_our_own_listener_is_not_asked(route, dns, local):
    dns.add("us.test", "A", "127.0.0.1")
    asked = route(relays=relays(local))
    asked.daemon.write_config(relays={"local": {"next-hop": f"smtp:[us.test]:{asked.daemon.port}", "identity": "none"}})
    probe = asked.probe(status=1)
    assert (probe["enhanced"], probe["attempts"][0]["why"]) == ("4.4.6", "this server itself")


def test_a_running_daemon_is_not_disturbed_by_a_probe(start_daemon, local):
    daemon = start_daemon(relays=relays(local), routes={WHO: "local"})
    before = daemon.status()["upstreams"]
    result = daemon.command("route", "--probe", WHO)
    assert result.status == 0 and result.err == "", result
    assert daemon.status()["upstreams"] == before


def test_a_hostile_answer_does_not_reach_the_terminal(route, local):
    local.on("rcpt", reply("550 5.1.1 \x1b[2Jgone \x07"))
    asked = route(relays=relays(local))
    assert "\x1b" not in asked.text("--probe", WHO, status=1) and "\x07" not in asked.text("--probe", WHO, status=1)
    assert not asked.probe(status=1)["accepted"]


def test_many_are_probed_at_once(route, start_upstream):
    """Each waits for all the others to be asked: that is, side by side."""
    together = threading.Barrier(10)
    upstream = start_upstream("local.test").on("rcpt", lambda connection: together.wait(20) and None)
    addresses = [f"u{n}@example.com" for n in range(10)]
    probes = route(relays=relays(upstream), routes={"example.com": "local"}).probe(*addresses, status=0)
    assert all(probe["accepted"] for probe in probes)
