"""What makes a relay unavailable and what does not, and what becomes of its recipients (design: section 6)."""

import threading
import time

import pytest

from splitmx_test.messages import assert_relayed, message, split_trace
from splitmx_test.upstream import assert_no_copy, close, raw, reply, reset, silence
from splitmx_test.waiting import free_port, poll

BOSS, ONLY, OTHER = "boss@example.com", "only@example.com", "boss@example.net"


class Town:
    def __init__(self, daemon, local, gmail):
        self.daemon, self.local, self.gmail = daemon, local, gmail

    def ask(self, recipient=BOSS, **keywords):
        with self.daemon.client(**keywords) as client:
            client.mail()
            return client.rcpt(recipient)

    def send_to_end(self, recipient=BOSS, sent=None):
        """The first answer that is not as it should be, or the last."""
        with self.daemon.client() as client:
            client.mail()
            said = client.rcpt(recipient)
            said = client.data() if said == 250 else said
            return client.body(sent or message()) if said == 354 else said


@pytest.fixture
def start(start_daemon, start_upstream):
    """start(): boss@ may go to gmail, only@ may not. `relay` is added to local, `gmail` to gmail."""

    def start(relay=None, gmail=None, routes=None, relays=None, **settings):
        local, there = start_upstream("local.test"), start_upstream("gmail.test")
        settings = {"timeouts": {"greeting": "400ms", "connect": "1s"}, "workers": 1, **settings}
        daemon = start_daemon(
            domains=["example.com", "example.net"],
            relays={"local": {"next-hop": local.next_hop, **(relay or {})},
                    "gmail": {"hosts": [{"host": "127.0.0.1", "priority": 1}], "port": there.port, "tls": "none", **(gmail or {})}, **(relays or {})},
            routes=routes or {BOSS: {"to": "local", "fallback": "gmail"}, OTHER: {"to": "local", "fallback": "gmail"}, ONLY: "local",
                              "example.com": {"to": "local", "fallback": "gmail"}, "example.net": "gmail"}, **settings)
        return Town(daemon, local, there)

    return start


def is_fallback(there):
    return b"(splitmx fallback)" in split_trace(there.data)[0]


# Triggers, and what is none


TRIGGERS = {
    "refused": lambda local: local.stop(), "fin": lambda local: local.on("connect", close()), "rst": lambda local: local.on("connect", reset()),
    "silent": lambda local: local.on("connect", silence()), "half a greeting": lambda local: local.on("greeting", raw(b"220 loc"), silence()),
    "endless greeting": lambda local: local.on("greeting", raw(b"220-x\r\n" * 200), silence()),
    "no SMTP": lambda local: local.on("greeting", raw(b"SSH-2.0-OpenSSH_9.2\r\n")), "greeting 354": lambda local: local.on("greeting", reply("354 go")),
    "greeting 421": lambda local: local.on("greeting", reply("421 4.3.2 no"), close()),
    "greeting 450": lambda local: local.on("greeting", reply("450 4.3.2 no")), "greeting 451": lambda local: local.on("greeting", reply("451 no")),
    "ehlo 421": lambda local: local.on("ehlo", reply("421 4.3.2 no"), close()), "ehlo fin": lambda local: local.on("ehlo", close()),
    "ehlo rst": lambda local: local.on("ehlo", reset()), "ehlo silent": lambda local: local.on("ehlo", silence()),
}


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_unavailable(start, trigger):
    town = start()
    TRIGGERS[trigger](town.local)
    sent = message()
    with town.daemon.client() as client:
        client.mail()
        assert client.rcpt(BOSS) == 250
        assert client.rcpt(ONLY) == "451 4.4.1"
        assert client.data() == 354
        assert client.body(sent) == 250
    there = town.gmail.only_message()
    assert there.recipients == [BOSS] and is_fallback(there)
    assert_relayed(there.data, sent)
    town.local.assert_has_nothing()


POLICY = [
    ("greeting", "554 5.3.2 no", "451 4.3.0"), ("greeting", "521 5.3.2 no", "451 4.3.0"),
    ("ehlo", "450 4.3.2 later", "451 4.3.0"), ("ehlo", "550 5.7.1 no", "451 4.3.0"),
    ("mail", "451 4.7.1 greylisted", "451 4.7.1"), ("mail", "421 4.7.0 slow", "451 4.7.0"), ("mail", "550 5.7.1 no", "550 5.7.1"),
    ("mail", "552 5.3.4 big", "554 5.3.4"), ("mail", "503 5.5.1 what", "451 4.3.5"), ("mail", "530 5.7.0 tls", "451 4.3.5"),
    ("rcpt", "450 4.2.0 greylisted", "450 4.2.0"), ("rcpt", "421 4.7.0 slow", "451 4.7.0"), ("rcpt", "452 4.2.2 quota", "452 4.2.2"),
    ("rcpt", "550 5.1.1 unknown", "550 5.1.1"), ("rcpt", "553 5.1.10 null", "553 5.1.10"), ("rcpt", "555 5.5.4 what", "451 4.3.5"),
    ("data", "451 4.3.0 later", "451 4.3.0"), ("data", "421 4.3.2 going", "451 4.3.2"), ("data", "554 5.7.1 no", "554 5.7.1"),
    ("eod", "451 4.3.0 later", "451 4.3.0"), ("eod", "452 4.3.1 full", "452 4.3.1"), ("eod", "421 4.3.2 going", "451 4.3.2"),
    ("eod", "554 5.7.1 spam", "554 5.7.1"),
]


@pytest.mark.parametrize("stage, answer, said", POLICY)
def test_policy_is_no_absence(start, stage, answer, said):
    town = start()
    town.local.on(stage, reply(answer), *([close()] if answer.startswith("421") else []))
    if stage == "ehlo":
        town.local.on("helo", reply(answer))
    for _ in range(5):  # more than would open a circuit
        assert town.send_to_end() == said
    assert town.gmail.connections == []


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body", "eod"])
@pytest.mark.parametrize("how", [reset(), close()], ids=["rst", "fin"])
def test_a_connection_lost_later_is_no_absence(start, stage, how):
    town = start()
    town.local.on(stage, how, **({"at": 20} if stage == "body" else {}))
    for _ in range(4):
        assert town.send_to_end() == "451 4.4.2"
    assert town.gmail.connections == []


def test_a_lost_connection_whose_second_opening_fails_does_not_take_the_accepted_elsewhere(start):
    """Some were accepted here already; they cannot be moved."""
    town = start()
    with town.daemon.client() as client:
        client.mail()
        assert client.rcpt(BOSS) == 250
        town.local.stop()
        said = client.data()
        assert said.code == 451, said
    assert town.gmail.connections == []


def test_all_connections_in_use_is_no_absence(start):
    town = start(relay={"max-connections": 1}, timeouts={"recipient": "1s"})
    with town.daemon.client() as holder:
        holder.mail()
        assert holder.rcpt(BOSS) == 250
        said = town.ask()
        assert said.code == 451 and said.enhanced in ("4.3.2", "4.4.1")
    assert town.gmail.connections == []


# Names


def test_a_name_without_address_is_absence(start, dns):
    town = start(relay={"next-hop": "smtp:[absent.test]:25"})
    assert town.send_to_end() == 250
    assert town.ask(ONLY) == "451 4.4.3"
    assert is_fallback(town.gmail.only_message())


def test_a_name_server_that_fails_is_absence(start, dns):
    dns.fail("local.test")
    town = start(relay={"next-hop": "smtp:[local.test]:25"})
    assert town.send_to_end() == 250
    assert town.ask(ONLY) == "451 4.4.3"


def test_a_next_hop_with_null_mx_is_absence(start, dns):
    dns.add("null.test", "MX", (0, ""))
    town = start(relay={"next-hop": "smtp:null.test"})
    assert town.ask(ONLY) == "451 4.4.4"
    assert town.send_to_end() == 250


def test_the_next_next_hop_comes_before_the_fallback(start, start_upstream):
    second = start_upstream("second.test")
    town = start(relay={"next-hop": f"smtp:[127.0.0.1]:{free_port()}, [127.0.0.1]:{free_port()}, [127.0.0.1]:{second.port}"})
    assert town.send_to_end() == 250
    assert not is_fallback(second.only_message())
    assert town.gmail.connections == []


def test_every_address_of_a_host_is_tried(start, dns, start_upstream):
    second = start_upstream("second.test", address="127.0.0.9")
    for address in ("127.0.0.7", "127.0.0.8", "127.0.0.9"):
        dns.add("several.test", "A", address)
    town = start(relay={"next-hop": f"smtp:[several.test]:{second.port}"})
    assert town.send_to_end() == 250
    assert not is_fallback(second.only_message())


# Time


def test_the_time_of_a_recipient_is_for_all_attempts_together(start, start_upstream):
    silent = [start_upstream(f"silent{n}.test") for n in range(4)]
    for one in silent:
        one.on("connect", silence())
    hops = ", ".join(f"[127.0.0.1]:{one.port}" for one in silent)
    town = start(relay={"next-hop": f"smtp:{hops}"}, timeouts={"greeting": "600ms", "recipient": "1500ms"})
    began = time.monotonic()
    said = town.ask()
    took = time.monotonic() - began
    # A quarter of it is the fallback's.
    assert said == 250 and 1.0 < took < 1.5, (said, took)
    assert len(town.gmail.connections) == 1 and silent[3].connections == []


def test_a_slow_fallback_shares_the_time(start):
    town = start(timeouts={"greeting": "1s", "recipient": "1500ms"})
    town.local.on("connect", silence())
    town.gmail.on("rcpt", silence())
    began = time.monotonic()
    assert town.ask() == "451 4.4.1"
    assert time.monotonic() - began < 2.2


def test_a_fallback_within_the_time_is_taken(start):
    town = start(timeouts={"greeting": "700ms", "recipient": "5s"})
    town.local.on("connect", silence())
    assert town.send_to_end() == 250
    assert is_fallback(town.gmail.only_message())


# What a fallback says


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "eod"])
@pytest.mark.parametrize("answer, said", [
    ("550 5.1.1 unknown", "451 4.4.1"), ("554 5.7.1 no", "451 4.4.1"), ("552 5.2.2 full", "451 4.4.1"), ("550 unadorned", "451 4.4.1"),
    ("503 5.5.1 order", "451"), ("450 4.2.1 rate", "450 4.2.1"), ("452 4.2.2 full", "452 4.2.2")])
def test_a_fallback_never_bounces(start, stage, answer, said):
    town = start()
    town.local.stop()
    town.gmail.on(stage, reply(answer))
    got = town.send_to_end()
    assert got == said or got.code == int(said), got


def test_a_fallback_that_is_away_too(start):
    town = start()
    town.local.stop()
    town.gmail.stop()
    assert town.ask() == "451 4.4.1"


def test_a_fallback_takes_one_step(start, start_upstream):
    third = start_upstream("third.test")
    town = start(relay={"fallback": "second"}, routes={"example.com": "local"}, relays={
        "second": {"next-hop": f"smtp:[127.0.0.1]:{free_port()}", "fallback": "third"}, "third": {"next-hop": third.next_hop}})
    town.local.stop()
    assert town.ask() == "451 4.4.1"
    assert third.connections == []


def test_the_fallback_of_a_pattern_goes_before_that_of_its_relay(start, start_upstream):
    third = start_upstream("third.test")
    town = start(relay={"fallback": "third"}, relays={"third": {"next-hop": third.next_hop}})
    town.local.stop()
    assert town.send_to_end(BOSS) == 250
    assert town.send_to_end(ONLY) == 250
    assert town.gmail.only_message().recipients == [BOSS] and third.only_message().recipients == [ONLY]


# Legs


def test_recipients_of_the_fallback_have_a_leg_of_their_own(start):
    """somebody@example.net goes to gmail anyway: the same relay and domain, but another leg, whose 5xx are its own."""
    town = start(routes={OTHER: {"to": "local", "fallback": "gmail"}, "example.net": "gmail"})
    town.local.stop()
    sent = message()
    town.gmail.on("rcpt", reply("550 5.1.1 unknown"), when="nobody@")
    with town.daemon.client() as client:
        client.mail()
        assert client.rcpt(OTHER) == 250
        assert client.rcpt("somebody@example.net") == 250
        assert client.rcpt("nobody@example.net") == "550 5.1.1", "not a fallback's"
        assert client.data() == 354
        assert client.body(sent) == 250
    plain, fallback = sorted(town.gmail.await_messages(2), key=is_fallback)
    assert not is_fallback(plain) and plain.recipients == ["somebody@example.net"]
    assert is_fallback(fallback) and fallback.recipients == [OTHER]


def test_some_here_some_there(start):
    """The relay goes away in the middle: who was accepted stays, who comes later takes the way round."""
    town = start(routes={BOSS: "local", ONLY: "elsewhere"},
                 relays={"elsewhere": {"next-hop": f"smtp:[127.0.0.1]:{free_port()}", "fallback": "gmail"}})
    sent = message()
    assert town.daemon.send(sent, BOSS, ONLY) == 250
    assert_relayed(town.local.only_message().data, sent)
    assert town.gmail.only_message().recipients == [ONLY]


@pytest.mark.parametrize("lost", ["local", "gmail"])
def test_a_fallback_leg_is_within_the_barrier(start, lost):
    town = start(routes={BOSS: "local", ONLY: "elsewhere"},
                 relays={"elsewhere": {"next-hop": f"smtp:[127.0.0.1]:{free_port()}", "fallback": "gmail"}})
    getattr(town, lost).on("body", reset(), at=100)
    with town.daemon.client() as client:
        client.begin(BOSS, ONLY)
        assert client.body(message(size=100_000)) == 451
    assert_no_copy(town.local, town.gmail)


def test_split_defer_with_a_fallback(start):
    town = start(split="defer", routes={BOSS: {"to": "local", "fallback": "gmail"}, ONLY: "local", OTHER: "gmail"})
    town.local.stop()
    with town.daemon.client() as client:
        client.mail()
        assert client.rcpt(BOSS) == 250
        assert client.rcpt(OTHER) == "452 4.5.3"
        assert client.rcpt(ONLY).code in (451, 452)
        assert client.data() == 354
        assert client.body(message()) == 250
    there = town.gmail.only_message()
    assert there.recipients == [BOSS] and is_fallback(there)


def test_split_defer_and_unknown_recipient(start):
    town = start(relay={"unknown-recipient": "gmail"}, routes={"example.com": "local"}, split="defer")
    town.local.on("rcpt", reply("550 5.1.1 unknown"), when="absent")
    with town.daemon.client() as client:
        client.mail()
        assert client.rcpt("here@example.com") == 250
        assert client.rcpt("absent1@example.com") == "452 4.5.3"
        assert client.data() == 354
        assert client.body(message()) == 250
        client.mail()
        assert client.rcpt("absent1@example.com") == 250
        assert client.rcpt("here@example.com") == "452 4.5.3"
        assert client.data() == 354
        assert client.body(message()) == 250
    assert town.local.only_message().recipients == ["here@example.com"]
    assert town.gmail.only_message().recipients == ["absent1@example.com"]


# Circles


OWN = b"Received: from x (x [192.0.2.1]) by mx.splitmx.test (splitmx fallback) with ESMTP id abc-1;\r\n\tSun, 22 Nov 2026 12:00:00 +0000\r\n"
CIRCLES = {
    "own": (OWN, True), "folded": (OWN.replace(b" by ", b"\r\n\tby ").replace(b" (splitmx", b"\r\n\t(splitmx"), True),
    "other case": (OWN.replace(b"mx.splitmx.test", b"MX.SplitMX.test").replace(b"Received", b"RECEIVED"), True),
    "of another host": (OWN.replace(b"mx.splitmx.test", b"mx.other.test"), False),
    "not a detour": (OWN.replace(b" fallback", b""), False), "in the body": (b"Subject: x\r\n\r\n" + OWN, False),
    "in another field": (b"X-" + OWN, False),
}


@pytest.mark.parametrize("field, circle", CIRCLES.values(), ids=CIRCLES)
def test_a_message_that_took_a_detour_takes_no_other(start, field, circle):
    town = start(relay={"unknown-recipient": "gmail"})
    town.local.on("rcpt", reply("550 5.1.1 unknown"), when="absent")
    assert town.send_to_end("absent@example.com", field + message()) == ("554 5.4.6" if circle else 250)
    town.local.stop()
    assert town.send_to_end(BOSS, field + message()) == ("451 4.4.6" if circle else 250)
    town.local.start()
    assert town.send_to_end(BOSS, field + message()) == 250, "the straight way is open"
    assert len(town.gmail.messages) == (0 if circle else 2)


@pytest.mark.parametrize("order", [(BOSS, ONLY), (ONLY, BOSS)])
def test_a_circle_is_seen_before_any_commit(start, order):
    town = start(routes={ONLY: "local", BOSS: "elsewhere"}, relays={"elsewhere": {"next-hop": f"smtp:[127.0.0.1]:{free_port()}", "fallback": "gmail"}})
    with town.daemon.client() as client:
        client.begin(*order)
        assert client.body(OWN + message()) == "451 4.4.6"
    assert_no_copy(town.local, town.gmail)


# Unknown recipients


def test_the_twenty_first_question_in_a_minute_is_not_asked(start):
    town = start(relay={"unknown-recipient": "gmail"}, routes={"example.com": "local"}, limits={"errors": 100})
    town.local.on("rcpt", reply("550 5.1.1 unknown here"))
    town.gmail.on("rcpt", reply("550 5.1.1 unknown there"))
    answers = []
    for _ in range(5):  # sessions of one client
        with town.daemon.client() as client:
            client.mail()
            answers += [client.rcpt(f"guess{n}@example.com") for n in range(5)]
    assert ["there" in answer.text for answer in answers] == [True] * 20 + [False] * 5
    assert sum(line.startswith(b"RCPT") for line in town.gmail.commands()) == 20
    assert "there" in town.ask("x@example.com", source="127.0.0.5").text, "another client"


@pytest.mark.parametrize("trigger", ["refused", "silent", "greeting 421"])
def test_unknown_here_and_nobody_there(start, trigger):
    town = start(relay={"unknown-recipient": "gmail"}, routes={"example.com": "local"})
    town.local.on("rcpt", reply("550 5.1.1 unknown"))
    TRIGGERS[trigger](town.gmail)
    for _ in range(5):
        assert town.ask() == "451 4.4.1"


def test_absence_is_no_question(start):
    town = start(relay={"unknown-recipient": "gmail"}, routes={"example.com": "local"})
    town.local.stop()
    assert town.ask() == "451 4.4.1"
    assert town.gmail.connections == []


def test_unknown_at_a_fallback_is_no_question(start, start_upstream):
    """One step, not two."""
    third = start_upstream("third.test")
    town = start(relay={"fallback": "second", "unknown-recipient": "gmail"}, routes={"example.com": "local"},
                 relays={"second": {"next-hop": third.next_hop, "unknown-recipient": "gmail"}})
    town.local.stop()
    third.on("rcpt", reply("550 5.1.1 unknown"))
    assert town.ask() == "451 4.4.1"
    assert town.gmail.connections == []


# Health


def failures(upstream):
    with upstream.board:
        return len(upstream.connections)


@pytest.mark.parametrize("trigger, why", [
    ("silent", "timed out, waiting for the greeting"),
    ("greeting 421", "the greeting was 421 4.3.2 no"),
    ("ehlo rst", "connection reset by peer, waiting for the answer to EHLO"),
])
def test_after_the_first_failures_nobody_asks(start, trigger, why):
    town = start()
    TRIGGERS[trigger](town.local)
    for _ in range(3):
        assert town.ask() == 250

    def opened():
        before = failures(town.local)
        began = time.monotonic()
        assert town.ask() == 250
        return failures(town.local) == before and time.monotonic() - began < 0.2

    poll(opened, "the circuit to open", timeout=5)
    began = time.monotonic()
    for _ in range(20):
        assert town.ask(ONLY) == "451 4.4.1"
    assert time.monotonic() - began < 2
    for event in ("event=endpoint-suspected", "event=endpoint-down"):
        assert town.daemon.fields(town.daemon.await_log(event))["why"] == why


def test_who_never_has_time_to_see_the_failure_learns_of_it(start):
    """With less time for a recipient than for a greeting nobody sees the server's time run out; it is down all the same."""
    town = start(timeouts={"greeting": "1500ms", "recipient": "300ms"})
    town.local.on("connect", silence())
    for _ in range(4):
        assert town.ask(ONLY) == "451 4.4.1"
    town.daemon.await_log("event=endpoint-down", timeout=8)
    before = len(town.local.connections)
    assert town.ask() == 250
    assert len(town.local.connections) == before


def test_back_seconds_after_a_local_endpoint_returns(start):
    town = start()
    town.local.stop()
    for _ in range(6):
        assert town.send_to_end() == 250
    town.local.start()
    began = time.monotonic()
    poll(lambda: town.send_to_end() == 250 and town.local.messages, "mail at the local server", timeout=25, interval=0.2)
    assert time.monotonic() - began < 22
    assert town.ask(ONLY) == 250


def test_one_good_answer_starts_the_count_anew(start):
    """Two failures in a row are none of three; nor are they half of all."""
    town = start(timeouts={"pool_idle": "0s"})
    for _ in range(6):
        town.local.on("greeting", reply("421 4.3.2 no"), close(), times=2)
        assert [town.send_to_end(ONLY).code for _ in range(5)] == [451, 451, 250, 250, 250]


@pytest.mark.threads
def test_health_is_known_to_all_workers(start):
    town = start(workers=4)
    town.local.on("greeting", reply("421 4.3.2 no"), close())
    for _ in range(12):
        town.ask()
    town.daemon.await_log("event=endpoint-down")
    before = failures(town.local)
    for _ in range(20):
        assert town.ask(ONLY) == "451 4.4.1"
    assert failures(town.local) - before <= 1  # a probe, perhaps


def test_a_reload_keeps_what_is_known(start):
    town = start()
    town.local.on("greeting", reply("421 4.3.2 no"), close())
    for _ in range(8):
        town.ask()
    town.daemon.await_log("event=endpoint-down")
    assert town.daemon.reload().status == 0
    before = failures(town.local)
    for _ in range(5):
        assert town.ask(ONLY) == "451 4.4.1"
    assert failures(town.local) - before <= 1


# Places


def test_who_waits_for_a_place_gets_the_next(start):
    town = start(relay={"max-connections": 1})
    with town.daemon.client() as holder, town.daemon.client() as waiting:
        holder.mail()
        assert holder.rcpt(BOSS) == 250
        waiting.mail()
        waiting.send(f"RCPT TO:<{BOSS}>\r\n")
        assert waiting.silent_for(0.3)
        holder.cmd("RSET")
        assert waiting.reply() == 250
    assert town.gmail.connections == []


def test_who_holds_a_leg_does_not_wait(start):
    town = start(relay={"max-connections": 1})
    with town.daemon.client() as holder, town.daemon.client() as client:
        holder.mail()
        assert holder.rcpt(BOSS) == 250
        client.mail()
        assert client.rcpt("somebody@example.net") == 250
        began = time.monotonic()
        assert client.rcpt(BOSS) == "452 4.5.3"
        assert time.monotonic() - began < 2
        assert client.data() == 354
        assert client.body(message()) == 250


# The built-in rule


def test_one_domain_a_transaction(start):
    town = start(routes={"example.com": "gmail", "example.net": "gmail"})
    sent = message()
    assert town.daemon.send(sent, "a@example.com", "b@example.net", "c@EXAMPLE.com", "d@example.net") == 250
    assert sorted(m.recipients for m in town.gmail.await_messages(2)) == [["a@example.com", "c@EXAMPLE.com"], ["b@example.net", "d@example.net"]]


def test_a_hundred_recipients_a_leg_each_way_of_its_own(start):
    town = start(routes={"example.com": {"to": "local", "fallback": "gmail"}, "example.net": "gmail"})
    town.local.stop()
    with town.daemon.client() as client:
        client.mail()
        assert all(client.rcpt(f"u{n}@example.com") == 250 for n in range(100))
        assert client.rcpt("u100@example.com") == "452 4.5.3"
        assert client.rcpt("u@example.net") == 250, "of another leg"
        assert client.data() == 354
        assert client.body(message()) == 250
    assert sorted(len(m.recipients) for m in town.gmail.await_messages(2)) == [1, 100]


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "eod"])
def test_421_4_7_28_stops_it_at_every_stage(start, stage):
    town = start(routes={"example.net": "gmail", BOSS: "local"})
    town.gmail.on(stage, reply("421 4.7.28 Gmail has detected an unusual rate"), close(), times=1)
    assert town.send_to_end("x@example.net") == "451 4.7.28"
    before = failures(town.gmail)
    for _ in range(3):
        assert town.ask("x@example.net") == "451 4.7.28"
    assert failures(town.gmail) == before
    assert town.ask(BOSS) == 250
    assert {relay["name"]: relay["slowed_to"] for relay in town.daemon.status()["relays"]} == {"local": None, "gmail": 0}
    assert "slowed down to 0 at once" in town.daemon.command("status").out


def test_421_4_7_28_of_others_slows_nobody(start):
    town = start()
    town.local.on("rcpt", reply("421 4.7.28 rate"), close(), times=1)
    assert town.ask(ONLY) == "451 4.7.28"
    assert town.ask(ONLY) == 250


def test_who_is_under_way_when_it_slows_down_ends_in_peace(start):
    town = start(routes={"example.net": "gmail"})
    with town.daemon.client() as early:
        early.mail()
        assert early.rcpt("x@example.net") == 250
        town.gmail.on("mail", reply("421 4.7.28 rate"), close(), times=1)
        assert town.ask("y@example.net") == "451 4.7.28"
        assert early.rcpt("z@example.net") == 250
        assert early.data() == 354
        assert early.body(message()) == 250
    assert town.ask("y@example.net") == "451 4.7.28"


def test_a_slowed_fallback_defers(start):
    town = start()
    town.local.stop()
    town.gmail.on("mail", reply("421 4.7.28 rate"), close(), times=1)
    for _ in range(3):
        said = town.ask()
        assert said.code == 451, said
    assert failures(town.gmail) == 1


def test_hosts_in_order_and_equal_ones_in_turn(start, start_upstream):
    gmail = [start_upstream(f"mx{n}.test", address=f"127.0.1.{n}") for n in (1,)]
    port = gmail[0].port
    gmail += [start_upstream(f"mx{n}.test", address=f"127.0.1.{n}", port=port) for n in (2, 3, 4)]
    hosts = [{"host": "127.0.1.9", "priority": 1}, {"host": "127.0.1.1", "priority": 5}, {"host": "127.0.1.2", "priority": 5},
             {"host": "127.0.1.3", "priority": 5}, {"host": "127.0.1.4", "priority": 10}]
    town = start(gmail={"hosts": hosts, "port": port}, routes={"example.net": "gmail"}, timeouts={"pool_idle": "0s"})
    for _ in range(40):
        assert town.send_to_end("x@example.net") == 250
    counts = [len(one.messages) for one in gmail]
    assert sum(counts[:3]) == 40 and counts[3] == 0 and all(counts[:3]), counts


@pytest.mark.threads
def test_a_flood_of_sessions_meets_an_outage(start):
    """Everyone is answered, and no connection is left behind."""
    town = start(workers=2, relay={"max-connections": 5}, gmail={"max-connections": 20})
    town.local.on("connect", silence(), times=3)
    town.local.on("ehlo", reset(), times=5)
    answers, lock = [], threading.Lock()

    def send():
        for _ in range(5):
            said = town.send_to_end()
            with lock:
                answers.append(said.code)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [250] * 100
    kept = len(town.local.messages) + len(town.gmail.messages)
    assert kept == 100
