"""Next hops as DNS has them: brackets, MX, changes, and answers that must not be followed."""

import contextlib
import time

import pytest

from lab.laboratory import KING, KING6, TRAP, scripted
from lab.names import host, mx, null_mx
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import reply
from splitmx_test.waiting import poll

FIRST, SECOND, THIRD, MOVED = "192.0.2.31", "192.0.2.32", "192.0.2.33", "192.0.2.34"
DOCKS = ["192.0.2.35", "192.0.2.36"]
OWN = "192.0.2.10"

ROUTES = {
    "kingmail@example.com": "smtp:[kingmailer.org]",
    "six@example.com": "smtp:[six.test]",
    "ordered@example.com": "smtp:ordered.test",
    "no-mx@example.com": "smtp:no-mx.test",
    "moving@example.com": "smtp:[moving.test]",
    "moving-mx@example.com": "smtp:moving-mx.test",
    "docked@example.com": "smtp:[docked.test]",
    "docked-mx@example.com": "smtp:docked-mx.test",
    "late@example.com": "smtp:[late.test]",
    "null@example.com": "smtp:null.test",
    "absent@example.com": "smtp:[absent.test]",
    "absent-mx@example.com": "smtp:absent.test",
    "evil@example.com": "smtp:evil.test",
    "evil6@example.com": "smtp:evil6.test",
    "evil-port@example.com": "smtp:evil.test:2526",
    "evil6-port@example.com": "smtp:evil6.test:2526",
    "loopback@example.com": "smtp:loopback.test",
    "null.test": "smtp:",
    "ordered.test": "smtp:",
}

NAMES = [
    host("six.test", KING6), mx("six.test", (10, "trap.test")),
    host("first.test", FIRST), host("second.test", SECOND), host("third.test", THIRD),
    # Written in another order than their preferences say.
    mx("ordered.test", (30, "third.test"), (10, "first.test"), (20, "second.test")), host("ordered.test", TRAP),
    host("no-mx.test", KING),
    host("evil.test", TRAP), mx("evil.test", (10, "mx.example.com")),
    host("evil6.test", TRAP), mx("evil6.test", (10, "own6.test")), host("own6.test", "2001:db8::10"),
    host("loopback.test", TRAP), mx("loopback.test", (10, "localhost.test")), host("localhost.test", "127.0.0.1", "::1"),
]


@pytest.fixture(scope="module")
def names(lab):
    with lab.names.also(*NAMES):
        yield lab.names


@pytest.fixture(scope="module")
def splitmx(names, module_daemon):
    # One worker, since each asks for itself: what one has learnt it keeps for the time to live.
    return module_daemon(domains=["example.com", "null.test", "ordered.test"], routes=ROUTES, timeouts={"connect": "2s"}, workers=1)


@pytest.fixture
def servers(lab):
    """Scripted servers at all the far addresses; the one at TRAP must not hear of anything."""
    places = {"king": KING, "king6": KING6, "first": FIRST, "second": SECOND, "third": THIRD, "moved": MOVED, "dock0": DOCKS[0], "dock1": DOCKS[1], "trap": TRAP}
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(scripted(lab.far, f"{name}.test", address)) for name, address in places.items()}
        yield found
        assert found["trap"].connections == []


def send(splitmx, recipient, **client):
    sent = message()
    with splitmx.client(**client) as session:
        answer = session.send_mail(sent, recipient)
        assert answer == 250, answer
        session.quit()
    return sent


def test_brackets_mean_the_host_itself_whatever_its_mx(splitmx, names, servers):
    before = names.asked("kingmailer.org", "MX")
    sent = send(splitmx, "kingmail@example.com")
    assert_relayed(servers["king"].only_message().data, sent)
    assert servers["king"].clients() == [OWN]
    assert names.asked("kingmailer.org", "A") > 0
    assert names.asked("kingmailer.org", "MX") == before


def test_a_bracketed_host_that_has_ipv6_only(splitmx, servers):
    sent = send(splitmx, "six@example.com", six=True)
    field = assert_relayed(servers["king6"].only_message().data, sent)
    assert servers["king6"].clients() == ["2001:db8::10"]
    assert "from helo.client.test (client.test [IPv6:2001:db8::50])" in field


def test_the_received_field_has_the_name_that_dns_gives_the_client(splitmx, servers):
    sent = send(splitmx, "kingmail@example.com")
    assert "from helo.client.test (client.test [192.0.2.50])" in assert_relayed(servers["king"].only_message().data, sent)


@pytest.mark.parametrize("recipient", ["ordered@example.com", "somebody@ordered.test"])
def test_without_brackets_the_best_mx_gets_it(splitmx, servers, recipient):
    for _ in range(4):
        send(splitmx, recipient)
    assert len(servers["first"].await_messages(4)) == 4
    assert servers["second"].connections == servers["third"].connections == []


def test_the_next_mx_in_order_when_the_best_cannot_be_reached(splitmx, servers):
    servers["first"].stop()
    send(splitmx, "ordered@example.com")
    assert len(servers["second"].await_messages()) == 1
    servers["second"].on("greeting", reply("421 4.3.2 not now"))
    servers["second"].stop()
    servers["second"].start()
    send(splitmx, "ordered@example.com")
    assert len(servers["third"].await_messages()) == 1
    servers["third"].stop()
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt("ordered@example.com") == "451 4.4.1"


def test_without_brackets_and_without_mx_the_host_itself(splitmx, servers):
    send(splitmx, "no-mx@example.com")
    servers["king"].only_message()


TTL = 2


@pytest.mark.parametrize("recipient, records", [
    ("moving@example.com", lambda address: [host("moving.test", address, ttl=TTL)]),
    ("moving-mx@example.com", lambda address: [host("at-moving.test", address, ttl=TTL), mx("moving-mx.test", (10, "at-moving.test"))]),
])
def test_a_changed_record_is_followed_within_its_ttl(splitmx, names, servers, recipient, records):
    loaded = splitmx.status()["reload"]["at"]
    with names.also(*records(KING)): # one that was never down
        send(splitmx, recipient)
        servers["king"].only_message()
    with names.also(*records(MOVED)):
        changed = time.monotonic()

        def has_moved():
            send(splitmx, recipient)
            return servers["moved"].messages

        poll(has_moved, "mail at the new address", timeout=10, interval=0.1)
        assert time.monotonic() - changed < TTL + 1
    assert splitmx.status()["reload"]["at"] == loaded


@pytest.mark.parametrize("number, recipient, records", [
    (0, "docked@example.com", lambda address: [host("docked.test", address, ttl=600)]),
    (1, "docked-mx@example.com", lambda address: [host("at-docked.test", address, ttl=600), mx("docked-mx.test", (10, "at-docked.test"))]),
], ids=["host", "mx"])
def test_a_host_that_is_gone_is_looked_for_anew_whatever_its_ttl(splitmx, names, servers, number, recipient, records):
    """As a container's name is, which is answered with minutes."""
    with names.also(*records(DOCKS[number])):
        send(splitmx, recipient)
        servers[f"dock{number}"].only_message()
    servers[f"dock{number}"].stop()
    with names.also(*records(KING)):
        def arrives():
            with splitmx.client() as client:
                client.mail()
                return client.rcpt(recipient) == 250

        began = time.monotonic()
        poll(arrives, "mail at the new address", timeout=20, interval=0.2)
        assert time.monotonic() - began < 10


def test_a_name_that_was_not_there_is_asked_for_again_soon(splitmx, names, servers):
    """Its absence would be kept for minutes."""
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt("late@example.com") == "451 4.4.3"
    with names.also(host("late.test", KING)):
        def arrives():
            with splitmx.client() as client:
                client.mail()
                return client.rcpt("late@example.com") == 250

        poll(arrives, "mail at the name that has come", timeout=9, interval=0.2)


def test_a_null_mx_of_the_recipient_is_final_and_of_a_next_hop_is_not(splitmx, servers):
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt("somebody@null.test") == "556 5.1.10"
        assert client.rcpt("null@example.com") == "451 4.4.4"


@pytest.mark.parametrize("recipient", ["absent@example.com", "absent-mx@example.com"])
def test_a_name_that_does_not_exist_is_no_bounce(splitmx, servers, recipient):
    with splitmx.client() as client:
        client.mail()
        answer = client.rcpt(recipient)
        assert answer.code == 451 and answer.enhanced in ("4.4.1", "4.4.3"), answer


@pytest.mark.parametrize("recipient", ["evil@example.com", "evil6@example.com", "evil-port@example.com", "evil6-port@example.com",
                                       "loopback@example.com"])
def test_an_mx_that_points_at_ourselves_is_not_followed(splitmx, servers, recipient):
    before = splitmx.status()["sessions"]["total"]
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(recipient) == "451 4.4.6"
    assert splitmx.status()["sessions"]["total"] == before + 1


def test_no_name_server_defers(splitmx, names, servers):
    names.stop()
    try:
        with splitmx.client() as client:
            client.mail()
            assert client.rcpt("absent@example.com") == "451 4.4.3"
    finally:
        names.start()
