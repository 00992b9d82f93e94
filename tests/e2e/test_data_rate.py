"""
How slowly a message may come (design: section 9, "idle or too slow"): in each window of `timeouts: data` in which the client is
read it sends 500 octets a second on the average, or the end of data; else 421 4.4.2, and no copy anywhere.
"""

import contextlib
import time

import pytest

from splitmx_test.client import Gone, stuff
from splitmx_test.daemon import daemons
from splitmx_test.faults import play_all
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import ScriptedUpstream, assert_no_copy, slow
from splitmx_test.waiting import poll

WINDOW = 2  # seconds
RATE = 500  # octets a second
LOCAL, KING = "user@example.com", "kingmail@example.com"


class Pair:
    """Two upstreams, and whom they serve."""

    def __init__(self, local, king, recipients):
        self.local, self.king, self.recipients = local, king, recipients


def pour(client, octets, rate, step=0.1):
    """So many octets a second; what is said meanwhile, if anything is."""
    piece = max(1, int(rate * step))
    client.sock.settimeout(step)
    due = time.monotonic()
    for at in range(0, len(octets), piece):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(octets[at:at + piece])
        due += step
        while time.monotonic() < due:
            try:
                return client.reply()
            except AssertionError:  # nothing yet
                client.sock.settimeout(max(0.01, due - time.monotonic()))
    return None


def told(client, already):
    """If all of it was poured, it ends, and would have been fast enough."""
    if already is None:
        client.send(b"\r\n.\r\n")
    answer = already or client.reply(timeout=20)
    with contextlib.suppress(Gone):
        client.await_end()
    return answer


def too_slow(rate):
    def play(client, pair):
        client.begin(*pair.recipients)
        return told(client, pour(client, stuff(message(size=int(rate * 5 * WINDOW))), rate))

    return play


def one_octet_a_window(client, pair):
    client.begin(*pair.recipients)
    return told(client, pour(client, b"Subject: x", 1, step=WINDOW * 0.75))


def a_burst_and_then_a_drip(client, pair):
    """What came before the window does not count for it."""
    client.begin(*pair.recipients)
    client.send(stuff(message(size=200_000)))
    return told(client, pour(client, b"x" * 200, 20))


def a_drip_at_the_end(client, pair):
    """Of the end of data all but the last octet."""
    client.begin(*pair.recipients)
    client.send(stuff(message()) + b".\r")
    return told(client, client.reply(timeout=20))


def empty_lines(client, pair):
    client.begin(*pair.recipients)
    return told(client, pour(client, b"Subject: x\r\n" + b"\r\n" * 400, 60))


SLOW = {"100 octets a second": too_slow(100), "250 octets a second": too_slow(RATE / 2), "an octet now and then": one_octet_a_window,
        "a burst and then a drip": a_burst_and_then_a_drip, "the end of data but its last octet": a_drip_at_the_end,
        "empty lines": empty_lines}


def fast_enough(client, pair):
    client.begin(*pair.recipients)
    sent = message(size=int(2.2 * WINDOW * RATE * 4))
    answer = pour(client, stuff(sent), RATE * 4)
    assert answer is None, answer
    client.send(b".\r\n")
    return client.reply(timeout=20), sent


def short_and_whole(client, pair):
    """Of a message that ends there is no more to come."""
    client.begin(*pair.recipients)
    sent = b"Subject: x\r\n\r\nx\r\n"
    client.send(sent)
    client.silent_for(WINDOW / 2)
    client.send(b".\r\n")
    return client.reply(timeout=20), sent


FINE = {"four times that rate": fast_enough, "short and whole": short_and_whole}
CASES = {**SLOW, **FINE}


class Rate:
    def __init__(self, start_daemon, stack):
        self.pairs = {words: Pair(ScriptedUpstream("local.test"), ScriptedUpstream("king.test"),
                                  [f"local{number}@example.com", f"king{number}@example.com"]) for number, words in enumerate(CASES)}
        relays, routes = {}, {}
        for pair in self.pairs.values():
            for address, upstream in zip(pair.recipients, (pair.local, pair.king)):
                stack.callback(upstream.stop)
                relay = address.split("@")[0]
                relays[relay], routes[address] = {"next-hop": upstream.next_hop}, relay
        self.daemon = start_daemon(timeouts={"data": f"{WINDOW}s"}, relays=relays, routes=routes)

    def play(self, words):
        with self.daemon.client(timeout=20) as client:
            return CASES[words](client, self.pairs[words])


@pytest.fixture(scope="module")
def rate():
    with contextlib.ExitStack() as stack:
        town = Rate(stack.enter_context(daemons()), stack)
        town.played = play_all({words: (lambda words=words: town.play(words)) for words in CASES}, at_once=len(CASES))
        poll(lambda: town.daemon.status()["sessions"]["open"] == 0, "the end of all sessions")
        yield town


@pytest.mark.parametrize("words", SLOW)
def test_a_message_that_comes_too_slowly_is_421_and_leaves_no_copy(rate, words):
    assert rate.played[words]() == "421 4.4.2"
    assert_no_copy(rate.pairs[words].local, rate.pairs[words].king)


@pytest.mark.parametrize("words", FINE)
def test_a_message_that_is_slow_for_good_reasons_arrives(rate, words):
    answer, sent = rate.played[words]()
    assert answer == 250
    for upstream in (rate.pairs[words].local, rate.pairs[words].king):
        assert_relayed(upstream.only_message().data, sent)


def test_a_slow_upstream_is_not_held_against_the_client(start_daemon, start_upstream):
    """Several windows long it is read now and then only, and has nothing more to send for a part of one in the end."""
    king = start_upstream("king.test", receive_buffer=65536)
    daemon = start_daemon(timeouts={"data": "1s"}, relays={"king": {"next-hop": king.next_hop}}, routes={KING: "king"})
    king.on("data", slow(2 * 1024 * 1024))
    sent = message(size=6 * 1024 * 1024)
    wire = stuff(sent)
    with daemon.client(timeout=60) as client:
        client.begin(KING)
        began = time.monotonic()
        client.send(wire)
        king.await_body(5 * 1024 * 1024, timeout=30)
        assert time.monotonic() - began > 2
        client.send(b".\r\n")
        assert client.reply() == 250
    assert_relayed(king.only_message().data, sent)


def test_the_same_in_tls(start_secured):
    secured = start_secured(timeouts={"data": f"{WINDOW}s"})
    with secured.secure_client() as client:
        assert too_slow(100)(client, Pair(secured.local, secured.kingmailer, [LOCAL, KING])) == "421 4.4.2"
    assert_no_copy(secured.local, secured.kingmailer)
    with secured.secure_client() as client:
        assert client.send_mail(message(), LOCAL) == 250
