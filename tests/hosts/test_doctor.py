"""`splitmx doctor` between hosts: what it says when all is well, and of each thing that is not."""

import contextlib
import re
import time

import pytest

from lab.laboratory import KING, TRAP
from lab.names import Names, host, mx, null_mx
from lab.network import Network
from lab.servers import HostPostfix
from splitmx_test import daemon as daemon_module
from splitmx_test.daemon import Daemon, Result
from splitmx_test.upstream import reply, silence

LOWER = "192.0.2.20"
PLAIN = "10.89.0.25"


class Findings:
    def __init__(self, result, took):
        self.result, self.took = result, took
        self.lines = [tuple(line.split(None, 1)) for line in result.out.splitlines()]

    def __repr__(self):
        return f"{self.result.out}{self.result.err}status {self.result.status}, {self.took:.1f} s"

    def of(self, level):
        return [text for found, text in self.lines if found == level]

    def has(self, level, *texts):
        assert any(all(text in line for text in texts) for line in self.of(level)), (level, texts, self)
        return self

    def has_no(self, *levels, about=""):
        assert [line for level in levels for line in self.of(level) if about in line] == [], self
        return self


class Doctor:
    """Calls `splitmx doctor` on the host mx, with a configuration of which nothing runs."""

    def __init__(self, lab, there=None):
        self.lab, self.there = lab, there or lab.mx

    def __call__(self, *domains, **settings):
        settings = {"hostname": "mx.example.com", "domains": ["example.com"], "dns": None,
                    "relays": {"local": {"next-hop": f"smtp:[{PLAIN}]"}},
                    "routes": {f"{user}@example.com": "local" for user in ("user", "user2", "postmaster")},
                    "tls": {"certificate": str(self.lab.mx_certificate.chain), "private-key": str(self.lab.mx_certificate.key)},
                    "listen": [{"address": "[::]:25"}], **settings}
        splitmx = Daemon(start=False, **settings)
        try:
            began = time.monotonic()
            done = self.there.run("env", f"SSL_CERT_FILE={self.lab.ca.file}", daemon_module.BINARY, "doctor", "-c", splitmx.config, *domains,
                                   text=True, timeout=90)
            return Findings(Result(done), time.monotonic() - began)
        finally:
            splitmx.destroy()


@pytest.fixture
def doctor(lab):
    return Doctor(lab)


@pytest.fixture
def here(lab, start_server):
    """A local server that relays for nobody."""
    server = start_server(lab.local_host, "local.test", PLAIN)
    return server.on("rcpt", reply("554 5.7.1 Relay access denied"), when=lambda step: b"@example.com" not in step.line)


@pytest.fixture
def lower(lab, start_server):
    return start_server(lab.lower, "lower.example.com", LOWER)


def test_all_is_well(doctor, here, lower):
    found = doctor()
    assert found.result.status == 0, found
    found.has_no("warning", "error")
    found.has("ok", "hostname mx.example.com", "192.0.2.10", "2001:db8::10")
    found.has("ok", "address 192.0.2.10", "mx.example.com, which leads back")
    found.has("ok", "address 2001:db8::10", "mx.example.com, which leads back")
    found.has("ok", "certificate", "is for mx.example.com, for another")
    found.has("ok", "domain example.com", "MX 10 mx.example.com is this host, before all others")
    found.has("ok", "domain example.com", "MX 20 lower.example.com takes all of the 3 addresses", "(3 are routed here by name)")
    found.has("ok", "postmaster", "goes to local")
    found.has("ok", "relay local", f"{PLAIN}:25 answers as local.test, in clear text", "PIPELINING SIZE 8BITMIME")
    found.has("ok", "relay local", "does not relay for this host (10.89.0.10)", "554 5.7.1")
    assert found.result.out.endswith("\n0 errors, 0 warnings\n")


def test_no_mail_is_sent_anywhere_and_every_conversation_ends_in_order(doctor, here, lower):
    doctor()
    for server in (here, lower):
        server.await_all_ended()
        assert {ended for ended in server.await_all_ended()} == {"quit"}
        assert not any(line.startswith(b"DATA") for line in server.commands())
        server.assert_has_nothing()
    asked = lower.connections[0]
    assert asked.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "RSET", "QUIT"]
    assert asked.commands[0] == b"EHLO mx.example.com"
    assert asked.commands[1].startswith(b"MAIL FROM:<>")
    assert {line for line in asked.commands if line.startswith(b"RCPT")} == {
        b"RCPT TO:<user@example.com>", b"RCPT TO:<user2@example.com>", b"RCPT TO:<postmaster@example.com>"}


# MX


def test_an_address_that_the_lower_mx_bounces_is_an_error(doctor, here, lower):
    lower.on("rcpt", reply("550 5.1.1 no such account"), when="user2@")
    found = doctor()
    assert found.result.status == 1
    found.has("error", "user2@example.com would be bounced by MX 20 lower.example.com", "550 5.1.1 no such account", "alias")
    assert len(found.of("error")) == 1


def test_a_lower_mx_that_takes_nothing_is_told_once(doctor, here, lower):
    lower.on("rcpt", reply("554 5.7.1 relay access denied"))
    found = doctor()
    found.has("error", "MX 20 lower.example.com takes none of the 3 addresses", "554 5.7.1")
    assert len(found.of("error")) == 1


def test_greylisting_at_the_lower_mx_tells_nothing(doctor, here, lower):
    lower.on("rcpt", reply("450 4.7.1 greylisted"))
    found = doctor().has("note", "MX 20 lower.example.com has not told of 3 of 3 addresses")
    assert found.result.status == 0


def test_of_many_addresses_twenty_are_asked_about(doctor, here, lower):
    found = doctor(routes={**{f"user{n}@example.com": "local" for n in range(60)}, "example.com": "local", "gone@example.com": "error:5.1.1 gone"})
    found.has("ok", "takes all of the 21 addresses asked about (60 are routed here by name)")
    asked = [line for line in lower.commands() if line.startswith(b"RCPT")]
    assert len(set(asked)) == 21 and b"RCPT TO:<gone@example.com>" not in asked and b"RCPT TO:<postmaster@example.com>" in asked


def test_the_sample_is_the_same_each_time_and_does_not_go_by_the_place_in_the_table(doctor, here, lower):
    def asked(first, last):
        before = len(lower.connections)
        doctor(routes={f"user{n:02}@example.com": "local" for n in range(first, last)})
        return [line for line in lower.connections[before].commands if line.startswith(b"RCPT")]

    whole = asked(0, 60)
    assert asked(0, 60) == whole
    assert set(whole) <= set(asked(0, 30)) | set(asked(30, 60))
    assert {line[:14] for line in whole} != {b"RCPT TO:<user0", b"RCPT TO:<user1"}


def test_a_lower_mx_that_is_away_is_a_warning(doctor, here):
    found = doctor().has("warning", "MX 20 lower.example.com cannot be asked", "connection refused")
    assert found.result.status == 0


def test_a_lower_mx_that_refuses_mail_from_here_cannot_be_asked(doctor, here, lower):
    lower.on("mail", reply("550 5.7.1 blocked"))
    doctor().has("warning", "cannot be asked", 'answer to MAIL was "550 5.7.1 blocked"').has_no("error")


MX_CASES = [
    (mx("example.com", (20, "mx.example.com"), (10, "lower.example.com")), "warning", "others are before it (10 lower.example.com)"),
    (mx("example.com", (10, "mx.example.com"), (10, "lower.example.com")), "warning", "others have the same preference"),
    (mx("example.com", (10, "mx.example.com"), (10, "lower.example.com")), "ok", "MX 10 lower.example.com takes all"),
    (mx("example.com", (10, "lower.example.com")), "error", "none of its MX is this host (10 lower.example.com)"),
    (mx("example.com", (10, "mx.example.com")), "note", "no other MX"),
    (null_mx("example.com"), "error", "takes no mail"),
    (host("example.com", TRAP), "error", "has no MX, and its own address is not this host's"),
    (host("example.com", "192.0.2.10"), "note", "servers take its own address"),
    ([], "error", "has neither an MX nor an address"),
    (mx("example.com", (10, "mx.example.com"), (20, "loop.test")) + host("loop.test", "127.0.0.1"), "warning", "leads to a loopback"),
    (mx("example.com", (10, "loop.test")) + host("loop.test", "127.0.0.1"), "error", "none of its MX is this host"),
    (mx("example.com", (10, "mx.example.com"), (20, "nowhere.test")), "warning", "MX 20 nowhere.test has no address"),
    (mx("example.com", (10, "other.test")) + host("other.test", "192.0.2.10"), "warning", "no certificate is for the MX name other.test"),
    (mx("example.com", (10, "both.test")) + host("both.test", "192.0.2.10") + host("both.test", TRAP), "warning", "addresses that are not this host's, too"),
]


@contextlib.contextmanager
def records(lab, *lines, without="example.com"):
    """The lab's names, but for one whose records are these now."""
    before = lab.names.records
    # The wrong name goes with all its records: "host-record=NAME,…" and "mx-host=NAME,…".
    kept = [line for line in before if not re.match(rf"[a-z-]+={re.escape(without)},", line)]
    try:
        lab.names.change(kept + list(lines))
        yield
    finally:
        lab.names.change(before)


@pytest.mark.parametrize("lines, level, text", MX_CASES)
def test_what_mx_records_say(lab, doctor, here, lower, lines, level, text):
    with records(lab, *lines):
        found = doctor().has(level, "domain example.com", text)
    assert found.result.status == (1 if level == "error" else 0), found


def test_only_the_domains_named_are_looked_at(lab, doctor, here):
    with lab.names.also(mx("other.test", (10, "mx.example.com"))):
        found = doctor("Other.TEST.")
    found.has("error", "domain other.test", "not accepted here")
    found.has("ok", "domain other.test", "is this host, before all others")
    assert "domain example.com" not in found.result.out
    doctor("absent.test").has("error", "domain absent.test", "is not in DNS")


# names


def test_an_address_without_a_name_is_an_error(lab, doctor, here, lower):
    with records(lab, "address=/mx.example.com/192.0.2.10", without="mx.example.com"):
        found = doctor().has("error", "address 192.0.2.10", "has no name (PTR)", "set its PTR record to mx.example.com")
    assert found.result.status == 1


def test_a_name_that_does_not_lead_back_is_an_error(lab, doctor, here, lower):
    with records(lab, "address=/mx.example.com/192.0.2.10", "ptr-record=10.2.0.192.in-addr.arpa,far.test", *host("far.test", KING),
                 without="mx.example.com"):
        doctor().has("error", "address 192.0.2.10", "is far.test, which does not lead back")


def test_a_name_that_is_not_the_hostname_is_a_note(lab, doctor, here, lower):
    with records(lab, "address=/mx.example.com/192.0.2.10", *host("vps17.test", "192.0.2.10"), without="mx.example.com"):
        doctor().has("note", "address 192.0.2.10", "is vps17.test, which leads back to it, but is not `hostname`")


def test_a_hostname_that_leads_elsewhere_or_nowhere(lab, doctor, here, lower):
    doctor(hostname="lower.example.com").has("warning", "hostname lower.example.com", "leads to 192.0.2.20, which this host does not have")
    found = doctor(hostname="absent.test").has("error", "hostname absent.test", "has no address in DNS")
    assert found.result.status == 1


def test_postmaster_has_to_be_somebody(doctor, here, lower):
    found = doctor(routes={"user@example.com": "here"}, relays={"here": {"next-hop": f"smtp:[{PLAIN}]"}})
    found.has("warning", "domain example.com", "postmaster@example.com is answered with 550 5.7.1")
    found.has("warning", "postmaster", "add a route for postmaster@mx.example.com").has_no("error")
    assert not any(b"postmaster@" in line for line in lower.commands())  # what is refused here may be refused there


def test_behind_nat_the_address_of_the_hostname_is_ours(lab):
    names = [host("mx.example.com", "192.0.2.10"), mx("example.com", (10, "mx.example.com"))]
    with Network({"dns": ["10.90.0.53/24"], "mx": ["10.90.0.10/24"]}, nameserver="10.90.0.53") as network:
        with Names(network.hosts["dns"], [line for part in names for line in part]):
            found = Doctor(lab, network.hosts["mx"])()
    found.has("note", "hostname mx.example.com", "leads to 192.0.2.10, which no interface here has: as it is behind NAT")
    found.has("ok", "address 192.0.2.10", "mx.example.com, which leads back")
    found.has("ok", "domain example.com", "MX 10 mx.example.com is this host")


# certificates


def test_certificates_are_held_against_dates_and_names(lab, doctor, here, lower):
    def with_certificate(certificate):
        return doctor(user="root", tls={"certificate": str(certificate.chain), "private-key": str(certificate.key)})

    found = with_certificate(lab.ca.issue("mx.example.com", days=-1)).has("error", "certificate", "expired 1 day ago")
    assert found.result.status == 1
    with_certificate(lab.ca.issue("mx.example.com", days=5)).has("warning", "certificate", "expires in ").has_no("error")
    found = with_certificate(lab.wrong_name).has("warning", "certificate", "none is for `hostname` (mx.example.com)")
    assert found.result.status == 0


def test_a_listener_without_tls_is_a_warning(doctor, here, lower):
    doctor(tls=None).has("warning", "certificate", "there is none").has_no("error")


# relays


def test_a_relay_that_cannot_be_reached_is_an_error(doctor, lower):
    found = doctor().has("error", "relay local", f"{PLAIN}:25 cannot be used: connection refused")
    assert found.result.status == 1


def test_one_address_of_two_that_is_away_is_a_warning(doctor, here, lower):
    found = doctor(relays={"local": {"next-hop": f"smtp:[10.89.0.99]:2525,[{PLAIN}]"}}, timeouts={"connect": "1s"})
    found.has("warning", "relay local", "10.89.0.99:2525 cannot be used").has("ok", f"{PLAIN}:25 answers").has_no("error")


def test_a_silent_relay_does_not_hold_it_up(doctor, here, lower):
    here.on("connect", silence())
    found = doctor(timeouts={"greeting": "1s"}).has("error", "relay local", "timed out, waiting for the greeting")
    assert found.took < 20, found


def test_a_relay_of_the_same_name_is_a_warning(lab, doctor, start_server, lower):
    start_server(lab.local_host, "mx.example.com", PLAIN).on("rcpt", reply("554 5.7.1 no"))
    doctor().has("warning", "relay local", "calls itself mx.example.com, as `hostname` does")


def test_gmail_is_reached_with_its_certificate_checked(lab, doctor, gmail, here, lower):
    relays = {"local": {"next-hop": f"smtp:[{PLAIN}]"}, "gmail": lab.gmail_relay}
    routes = {"user@example.com": "local", "example.com": "gmail"}
    found = doctor(relays=relays, routes=routes)
    for number, name in enumerate(gmail.HOSTS):
        found.has("ok", "relay gmail", f"{name} 192.0.2.{101 + number}:25 answers as mx.google.com", "(certificate verified)")
    found.has("note", "relay gmail", "inbound gateway", "192.0.2.10, 2001:db8::10").has_no("error")
    gmail.await_all_ended()
    assert not any(line.startswith((b"MAIL", b"RCPT")) for line in gmail.commands())
    gmail.certificate = lab.expired
    found = doctor(relays=relays, routes=routes).has("error", "relay gmail", "expired")
    assert found.result.status == 1


def test_of_googles_hosts_one_is_asked_what_it_would_bounce(lab, doctor, gmail, here):
    names = mx("example.com", (1, "mx.example.com"), (5, "aspmx.l.google.com"), (10, "alt1.aspmx.l.google.com"), (10, "alt2.aspmx.l.google.com"))
    with records(lab, *names):
        found = doctor(routes={f"{user}@example.com": "local" for user in ("user", "absent", "postmaster")})
    found.has("error", "absent@example.com would be bounced by MX 5 aspmx.l.google.com", "550 5.1.1 The email account")
    assert "alt1" not in found.result.out and len(found.of("error")) == 1
    gmail.await_all_ended()
    assert [verb for connection in gmail.connections for verb in connection.verbs()].count("RCPT") == 3


# whether the local server goes by the client


class Trusting(HostPostfix):
    """Relays for whoever is in its mynetworks, and takes XCLIENT from splitmx."""

    def __init__(self, lab, mynetworks):
        restrictions = "permit_mynetworks,reject_unauth_destination"
        super().__init__(lab.local_host, "trusting", ["user"], ready=PLAIN, listeners=[
            f"{PLAIN}:25 inet n - n - 100 smtpd -o smtpd_authorized_xclient_hosts=10.89.0.10 -o mynetworks={mynetworks}"
            f" -o smtpd_recipient_restrictions={restrictions}"])

    def assert_has_nothing(self):
        assert "postfix/cleanup" not in self.log()


@pytest.fixture
def start_postfix(lab):
    with contextlib.ExitStack() as stack:
        yield lambda mynetworks: stack.enter_context(Trusting(lab, mynetworks))


def local_relay(at, identity):
    return {"local": {"next-hop": f"smtp:[{at}]", "identity": identity}}


@pytest.mark.parametrize("identity", ["xclient", "proxy"])
def test_a_local_server_that_goes_by_the_client(lab, doctor, lower, identity):
    at = getattr(lab.local, identity)
    found = doctor(relays=local_relay(at, identity))
    found.has("ok", "relay local", f"{at}:25 answers as local.test")
    found.has("ok", f"goes by the client's address, and does not relay for 192.0.2.1 by {identity.upper()}", "554 5.7.1")
    found.has_no("error")


@pytest.mark.parametrize("identity", ["xclient", "proxy"])
def test_a_local_server_that_does_not_take_the_identity(lab, doctor, lower, identity):
    found = doctor(relays=local_relay(lab.local.plain, identity))
    found.has("error", "relay local", "does not let this host say who the client is")
    assert found.result.status == 1


def test_a_postfix_that_relays_for_the_proxys_address(lab, doctor, lower, start_postfix):
    postfix = start_postfix(mynetworks="10.89.0.0/24")
    found = doctor(relays=local_relay(PLAIN, "none"))
    found.has("warning", "relay local", "relays anywhere for this host (10.89.0.10), and takes every client for it", "identity: xclient")
    # The same server, told who the client is, refuses: so it does go by what it is told.
    doctor(relays=local_relay(PLAIN, "xclient")).has("ok", "goes by the client's address").has_no("error", "warning", about="relay")
    postfix.assert_has_nothing()


def test_a_postfix_that_relays_for_strangers_is_an_error(doctor, lower, start_postfix):
    postfix = start_postfix(mynetworks="0.0.0.0/0")
    found = doctor(relays=local_relay(PLAIN, "xclient"))
    found.has("error", "relay local", "relays for strangers", "192.0.2.1")
    assert found.result.status == 1
    postfix.assert_has_nothing()
