"""`splitmx doctor` on loopback: its form, its exit statuses, and what it says of relays and names that are at fault."""

import json
import os
import pty
import re
import subprocess
import threading
import time

import pytest

from splitmx_test.daemon import BINARY, splitmx
from splitmx_test.upstream import close, reply, silence, wait

DENIED = "554 5.7.1 Relay access denied"
XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"


class Finding:
    def __init__(self, line):
        self.level, rest = line.split(None, 1)
        self.subject, self.text = rest.split(": ", 1)

    def __repr__(self):
        return f"{self.level} {self.subject}: {self.text}"


class Diagnosis:
    def __init__(self, result, took):
        self.status, self.err, self.took = result.status, result.err, took
        *lines, self.total = result.out.splitlines()
        self.findings = [Finding(line) for line in lines]

    def __repr__(self):
        return "\n".join(map(repr, self.findings)) + f"\n{self.total}\n{self.err}status {self.status}, {self.took:.1f} s"

    def has(self, level, subject, *texts):
        """The one finding of this kind."""
        fitting = [f for f in self.findings if f.subject == subject and all(text in f.text for text in texts)]
        assert [f.level for f in fitting] == [level], (level, subject, texts, self)
        return self

    def about(self, subject):
        return [finding.level for finding in self.findings if finding.subject == subject]


@pytest.fixture
def doctor(start_daemon):
    """doctor(relays=...): what it finds with such a configuration, of which nothing runs."""

    def doctor(*domains, routes=None, **settings):
        daemon = start_daemon(start=False, routes=routes or {"user@example.com": "local"}, **settings)
        began = time.monotonic()
        result = daemon.command("doctor", *domains, timeout=90)
        diagnosis = Diagnosis(result, time.monotonic() - began)
        errors = sum(finding.level == "error" for finding in diagnosis.findings)
        assert diagnosis.status == (1 if errors else 0), diagnosis
        assert re.match(rf"{errors} errors?, ", diagnosis.total), diagnosis
        return diagnosis

    return doctor


@pytest.fixture
def local(start_upstream):
    """A local server that takes mail for its own domain, and knows XCLIENT."""
    upstream = start_upstream("local.test", extensions=("PIPELINING", "SIZE 1000000", "8BITMIME", XCLIENT))
    upstream.on("unknown", reply("220 2.0.0 local.test ESMTP"), when="XCLIENT")
    return upstream.on("rcpt", reply(DENIED), when=lambda step: b"@example.com>" not in step.line)


def relay(upstream, **settings):
    return {"local": {"next-hop": upstream.next_hop, **settings}}


# its form


def test_help_says_what_it_does():
    result = splitmx("doctor", "--help")
    assert result.status == 0 and "doctor [-c FILE] [--json] [DOMAIN…]" in result.out and result.err == ""


@pytest.mark.parametrize("arguments", [("--jsno",), ("two words",), ("[192.0.2.1]",), ("192.0.2.1",), ("",), ("-c",)])
def test_what_is_no_domain_or_option_is_wrong_usage(arguments):
    result = splitmx("doctor", *arguments)
    assert result.status == 64 and result.err and not result.out


def test_a_wrong_configuration_is_78(start_daemon):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[127.0.0.1]:25", "tsl": "may"}})
    result = daemon.command("doctor")
    assert result.status == 78 and "tsl" in result.err and not result.out


def test_the_same_is_found_twice_in_the_same_words(doctor, local):
    settings = {"relays": {**relay(local), "other": {"next-hop": local.next_hop}, "third": {"next-hop": local.next_hop}}}
    listings = [repr(doctor(**settings).findings) for _ in range(2)]
    assert listings[0] == listings[1]


def test_a_daemon_that_runs_is_not_disturbed(start_daemon, local):
    daemon = start_daemon(relays=relay(local), routes={"user@example.com": "local"})
    generation = daemon.status()["routes"]
    daemon.command("doctor")
    assert daemon.status()["routes"] == generation
    assert daemon.send(b"Subject: x\r\n\r\nx\r\n", "user@example.com") == 250


def test_json_is_an_object_a_finding(start_daemon, local):
    daemon = start_daemon(start=False, relays=relay(local), routes={"user@example.com": "local"})
    plain, result = daemon.command("doctor"), daemon.command("doctor", "--json")
    findings = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == plain.status == 1 and all(list(one) == ["level", "subject", "text"] for one in findings)
    assert [f"{one['level']:8} {one['subject']}: {one['text']}" for one in findings] == plain.out.splitlines()[:-1]
    assert {one["level"] for one in findings} == {"ok", "note", "warning", "error"}


@pytest.mark.parametrize("environment, colored", [
    ({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": ""}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ({"TERM": "dumb"}, False), ({}, False), (None, False)], ids=["terminal", "empty", "NO_COLOR", "dumb", "no TERM", "pipe"])
@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
def test_colors_are_for_terminals(start_daemon, local, environment, colored, option):
    daemon = start_daemon(start=False, relays=relay(local), routes={"user@example.com": "local"})
    command = [BINARY, "doctor", "-c", daemon.config, *option]
    if environment is None:
        said = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, env={**os.environ, "TERM": "xterm"}).stdout
    else:
        said = on_a_terminal(command, {**{k: v for k, v in os.environ.items() if k not in ("TERM", "NO_COLOR")}, **environment})
    assert (b"\x1b[" in said) == (colored and not option), said
    if colored and not option:
        assert b"\x1b[1;31merror   \x1b[0m domain example.com: " in said and b"\nnote     hostname" in said
        assert said.count(b"\x1b[0m") * 2 == said.count(b"\x1b[")


def on_a_terminal(command, environment):
    terminal, its_end = pty.openpty()
    said = b""
    with subprocess.Popen(command, stdout=its_end, stderr=its_end, env=environment):
        os.close(its_end)
        try:
            while chunk := os.read(terminal, 65536):
                said += chunk
        except OSError:  # EIO: nobody writes any more
            pass
    os.close(terminal)
    return said


ADVICE = re.compile(
    r"; (?:correct|make|have|give|say|name|see|ask|get|look|add|mend|list|take|renew|register|route|put|whoever|leave)\b|: (?:add|correct|get|give|say) |has to")


def test_what_is_wrong_says_what_to_do(doctor, start_upstream, dns, local):
    dns.fail("failing.test")
    away = start_upstream("away.test")
    away.stop()
    found = doctor(
        routes={"user@example.com": "local", "a@failing.test": "local", "postmaster@mx.splitmx.test": "discard:"},
        relays={**relay(local, identity="xclient"), "trusting": {"next-hop": start_upstream("MX.splitmx.test").next_hop},
                "away": {"next-hop": away.next_hop}, "strict": {"next-hop": local.next_hop, "tls": "encrypt"},
                "nowhere": {"next-hop": "smtp:[absent.test]"},
                "none": {"next-hop": start_upstream("none.test").next_hop, "identity": "xclient"},
                "refusing": {"next-hop": start_upstream("no.test").on("greeting", reply("554 5.3.2 no")).next_hop}},
        smtputf8=True)
    wrong = [finding for finding in found.findings if finding.level in ("warning", "error")]
    assert len(wrong) > 10
    assert [finding for finding in wrong if not ADVICE.search(finding.text)] == []


# relays


def test_a_relay_that_answers_is_fine(doctor, local):
    found = doctor(relays=relay(local))
    where = f"127.0.0.1:{local.port}"
    found.has("ok", "relay local", f"{where} answers as local.test, in clear text; offers PIPELINING SIZE 8BITMIME XCLIENT")
    found.has("ok", "relay local", f'{where} does not relay for this host (127.0.0.1) ("{DENIED}")')
    assert found.about("relay local") == ["ok", "ok"]
    connection = local.connections[0]
    assert local.await_all_ended() == ["quit"]
    assert connection.verbs() == ["EHLO", "MAIL", "RCPT", "RSET", "QUIT"]
    local.assert_has_nothing()


def test_a_relay_that_is_not_there_is_an_error(doctor, local):
    local.stop()
    doctor(relays=relay(local)).has("error", "relay local", "cannot be used: connection refused")


@pytest.mark.parametrize("stage, actions, words", [
    ("greeting", [reply("421 4.3.2 going down"), close()], "cannot be used: the greeting was 421 4.3.2 going down"),
    ("greeting", [reply("554 5.3.2 no service"), close()], "refuses this host: the greeting was 554 5.3.2 no service"),
    ("ehlo", [reply("450 4.7.1 not you")], "refuses this host: the answer to EHLO was 450 4.7.1 not you"),
    ("connect", [silence()], "cannot be used: timed out, waiting for the greeting"),
], ids=["421", "554", "ehlo", "silent"])
def test_a_relay_that_does_not_serve_is_an_error(doctor, local, stage, actions, words):
    local.on(stage, *actions)
    doctor(relays=relay(local), timeouts={"greeting": "300ms"}).has("error", "relay local", words)


def test_a_name_that_leads_nowhere_is_an_error(doctor, dns):
    dns.fail("broken.test")
    found = doctor(relays={"local": {"next-hop": "smtp:[absent.test]"}, "other": {"next-hop": "smtp:broken.test"}})
    found.has("error", "relay local", "[absent.test]:25 leads nowhere")
    found.has("error", "relay other", "the MX of broken.test:25 leads nowhere")


def test_a_name_that_is_built_in_and_leads_nowhere_is_a_matter_of_name_servers(doctor, local):
    found = doctor(relays=relay(local, fallback="gmail"))
    nowhere = [f.text for f in found.findings if f.subject == "relay gmail" and "leads nowhere" in f.text]
    assert nowhere and all("look at `dns: servers`" in text and "next-hop" not in text for text in nowhere), found
    other = doctor(relays={**relay(local, fallback="gmail"), "gmail": {"next-hop": "smtp:[absent.test]"}})
    other.has("error", "relay gmail", "[absent.test]:25 leads nowhere", "`next-hop`")


def test_the_mx_of_each_domain_as_a_relay_has_a_name_that_can_be_read(doctor, local):
    doctor(relays=relay(local), routes={"user@example.com": "local", "example.net": "smtp:"}).has(
        "note", "relay `smtp:`", "goes to the MX of each recipient's domain")


def test_a_relay_that_is_reached_by_its_mx_is_asked_there(doctor, dns, local):
    dns.add("hub.test", "A", "127.0.0.1")
    doctor(relays={"local": {"next-hop": f"smtp:[hub.test]:{local.port}"}}).has(
        "ok", "relay local", f"hub.test 127.0.0.1:{local.port} answers as local.test")


def test_routes_without_a_relay_of_the_configuration_are_tried_too(doctor, local):
    found = doctor(routes={"user@example.com": local.next_hop})
    found.has("ok", f"relay {local.next_hop}", "answers as local.test")


def test_gmail_is_looked_at_only_where_something_leads_to_it(doctor, local):
    assert doctor(relays=relay(local)).about("relay gmail") == []
    for settings in ({"routes": {"user@example.com": "local", "example.com": "gmail"}, "relays": relay(local)},
                     {"relays": relay(local, fallback="gmail")}):
        doctor(**settings).has("note", "relay gmail", "inbound gateway")


def test_tls_that_is_wanted_and_not_offered_is_an_error(doctor, local):
    doctor(relays=relay(local, tls="encrypt")).has("error", "relay local", "STARTTLS is not offered", "451 4.7.5")


def test_a_relay_with_our_own_name_is_a_warning(doctor, start_upstream):
    upstream = start_upstream("MX.splitmx.test").on("rcpt", reply(DENIED))
    doctor(relays=relay(upstream)).has("warning", "relay local", "calls itself MX.splitmx.test, as `hostname` does")


# whom the server behind goes by


def test_a_server_that_relays_for_us_is_a_warning(doctor, start_upstream):
    upstream = start_upstream("local.test")
    found = doctor(relays=relay(upstream))
    found.has("warning", "relay local", "relays anywhere for this host (127.0.0.1)", "`domains` keeps strangers")
    assert upstream.connections[0].commands[2] == b"RCPT TO:<postmaster@example.net>"
    upstream.await_all_ended()
    upstream.assert_has_nothing()


def test_by_xclient_it_is_told_that_we_are_a_stranger(doctor, local):
    found = doctor(relays=relay(local, identity="xclient"))
    found.has("ok", "relay local", "goes by the client's address, and does not relay for 192.0.2.1 by XCLIENT", DENIED)
    line = local.await_command("XCLIENT").decode()
    assert " ADDR=192.0.2.1" in line
    local.await_command("QUIT")
    assert local.connections[0].verbs() == ["EHLO", "XCLIENT", "EHLO", "MAIL", "RCPT", "RSET", "QUIT"]


def test_by_proxy_it_is_told_that_we_are_a_stranger(doctor, local):
    local.on("unknown", lambda connection: True, when="PROXY TCP4 192.0.2.1 ")
    doctor(relays=relay(local, identity="proxy")).has("ok", "relay local", "does not relay for 192.0.2.1 by PROXY", DENIED)


def test_a_server_that_relays_for_a_stranger_is_an_error(doctor, start_upstream):
    upstream = start_upstream("local.test", extensions=(XCLIENT,)).on("unknown", reply("220 2.0.0 ok"), when="XCLIENT")
    doctor(relays=relay(upstream, identity="xclient")).has("error", "relay local", "relays for strangers", "192.0.2.1")


def test_a_server_that_does_not_know_xclient_is_an_error(doctor, start_upstream):
    upstream = start_upstream("local.test")
    found = doctor(relays=relay(upstream, identity="xclient"))
    found.has("error", "relay local", "451 4.3.5", "XCLIENT is not offered", "smtpd_authorized_xclient_hosts")
    assert not any(line.startswith((b"MAIL", b"RCPT")) for line in upstream.commands())


@pytest.mark.parametrize("answer", ["450 4.7.1 greylisted", "550 5.1.2 no such domain", "556 5.1.10 null MX"])
def test_refusals_for_other_reasons_tell_nothing(doctor, start_upstream, answer):
    upstream = start_upstream("local.test").on("rcpt", reply(answer))
    doctor(relays=relay(upstream)).has("note", "relay local", "whether it relays for this host (127.0.0.1) is not known", answer)


def test_a_refused_mail_is_told_as_what_it_is(doctor, start_upstream):
    upstream = start_upstream("local.test").on("mail", reply("554 5.7.1 go away"))
    doctor(relays=relay(upstream)).has("ok", "relay local", "does not relay for this host (127.0.0.1)", "554 5.7.1 go away")


def test_a_server_that_stops_talking_is_not_waited_for_long(doctor, local):
    local.forget()
    local.on("rcpt", silence())
    found = doctor(relays=relay(local), timeouts={"recipient": "500ms"})
    found.has("warning", "relay local", "whether it relays for this host (127.0.0.1) is not known: it took too long")
    assert found.took < 8


def test_many_relays_are_tried_at_once(doctor, start_upstream):
    upstreams = [start_upstream(f"local{n}.test").on("greeting", silence()) for n in range(40)]
    relays = {f"r{n}": {"next-hop": upstream.next_hop} for n, upstream in enumerate(upstreams)}
    found = doctor(routes={"user@example.com": "r0"}, relays=relays, timeouts={"greeting": "1s"})
    for name in relays:
        found.has("error", f"relay {name}", "timed out, waiting for the greeting")
    assert found.took < 8


# names


def test_the_hostname_has_to_lead_here(doctor, dns, local):
    doctor(relays=relay(local)).has("error", "hostname mx.splitmx.test", "has no address in DNS")
    dns.add("mx.splitmx.test", "A", "127.0.0.1")
    doctor(relays=relay(local)).has("ok", "hostname mx.splitmx.test", "leads to this host (127.0.0.1)")


def test_a_name_server_that_fails_is_a_warning_and_no_verdict(doctor, dns, local):
    dns.fail("mx.splitmx.test")
    dns.fail("example.com")
    found = doctor(relays=relay(local))
    found.has("warning", "hostname mx.splitmx.test", "cannot be looked up")
    found.has("warning", "domain example.com", "its MX records cannot be looked up")


def test_the_hosts_file_does_not_count_for_what_the_world_sees(doctor, local):
    found = doctor(relays=relay(local), hostname="localhost")
    found.has("error", "hostname localhost", "has no address in DNS")


def test_no_listener_on_port_25_is_a_note(doctor, local):
    doctor(relays=relay(local)).has("note", "hostname mx.splitmx.test", "nothing here listens on port 25")


def test_a_domain_that_is_not_in_dns_is_an_error(doctor, local):
    doctor(relays=relay(local)).has("error", "domain example.com", "is not in DNS")


def test_each_domain_that_mail_is_accepted_for_is_looked_at_once(doctor, local):
    found = doctor(relays=relay(local), routes={"a@one.test": "local", "b@one.test": "local", "two.test": "local", ".two.test": "local"})
    assert [f.subject for f in found.findings if f.subject.startswith("domain ") and "not in DNS" in f.text] == [
        "domain one.test", "domain two.test"]
    found.has("note", "domains", "stand for subdomains")


def test_more_domains_than_fifty_are_counted(doctor, local):
    found = doctor(relays=relay(local), routes={f"a@d{n}.test": "local" for n in range(60)})
    found.has("note", "domains", "10 more are not looked at")


def test_findings_come_as_soon_as_those_before_them_are_over(start_daemon, local):
    """What is slow at the end does not hold up what is known before."""
    hanging = threading.Event()
    local.on("greeting", wait(hanging))
    daemon = start_daemon(start=False, relays=relay(local), routes={"user@example.com": "local"})
    process = subprocess.Popen([BINARY, "doctor", "-c", daemon.config], stdout=subprocess.PIPE, text=True)
    with process:
        lines = [process.stdout.readline() for _ in range(5)]
        hanging.set()
        rest = process.stdout.read()
    assert lines[0].startswith("error    hostname ") and any("domain example.com" in line for line in lines), lines
    assert "relay local" in rest and "relay local" not in "".join(lines)


def test_a_unix_socket_is_asked_like_any_other(doctor, start_upstream, reachable_folder):
    path = str(reachable_folder / "mail")
    start_upstream("local.test", unix=path).on("rcpt", reply(DENIED))
    found = doctor(relays={"local": {"next-hop": f"smtp:[unix:{path}]"}})
    found.has("ok", "relay local", f"unix:{path} answers as local.test").has("ok", "relay local", "does not relay for this host (\"554")


@pytest.mark.parametrize("answer, level", [("554 5.7.1 not from there", "ok"), ("421 4.3.2 going down", "warning")])
def test_a_stranger_that_is_turned_away(doctor, local, answer, level):
    local.forget()
    local.on("greeting", reply(answer), close())
    doctor(relays=relay(local, identity="proxy")).has(level, "relay local", "192.0.2.1", answer)
