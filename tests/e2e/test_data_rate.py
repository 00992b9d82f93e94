"""
How slowly a message may come (design: section 9, "idle or too slow"): in each window of `timeouts: command` in which the client is
read it sends 500 octets a second on the average, or the end of data; else 421 4.4.2, and no copy anywhere.
"""

import contextlib
import threading
import time

import pytest

from splitmx_test.client import Gone, stuff
from splitmx_test.daemon import daemons
from splitmx_test.faults import play_all
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import ScriptedUpstream, assert_no_copy, wait
from splitmx_test.waiting import poll

WINDOW = 2  # seconds
RATE = 500  # octets a second
LOCAL, KING = "user@example.com", "kingmail@example.com"


class Pair:
    """Two upstreams for each case, so that what they have is the case's."""

    def __init__(self, number):
        self.local, self.king = ScriptedUpstream("local.test"), ScriptedUpstream("king.test")
        self.recipients = [f"local{number}@example.com", f"king{number}@example.com"]


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
    answer = already or client.reply(timeout=20)
    with contextlib.suppress(Gone):
        client.await_end()
    return answer


def too_slow(rate):
    def play(client, pair):
        client.begin(*pair.recipients)
        return told(client, pour(client, stuff(message(size=20_000)), rate))

    return play


def one_octet_a_window(client, pair):
    client.begin(*pair.recipients)
    return told(client, pour(client, b"Subject: x", 1, step=WINDOW * 0.75))


def a_burst_and_then_a_drip(client, pair):
    """What came before the window does not count for it."""
    client.begin(*pair.recipients)
    client.send(stuff(message(size=200_000)))
    return told(client, pour(client, b"x" * 400, 20))


def a_drip_at_the_end(client, pair):
    """Of the end of data all but the last octet."""
    client.begin(*pair.recipients)
    client.send(stuff(message()) + b".\r")
    return told(client, None)


def empty_lines(client, pair):
    client.begin(*pair.recipients)
    return told(client, pour(client, b"Subject: x\r\n" + b"\r\n" * 2000, 60))


SLOW = {"100 octets a second": too_slow(100), "250 octets a second": too_slow(RATE / 2), "an octet now and then": one_octet_a_window,
        "a burst and then a drip": a_burst_and_then_a_drip, "the end of data but its last octet": a_drip_at_the_end,
        "empty lines": empty_lines}


def fast_enough(client, pair):
    client.begin(*pair.recipients)
    sent = message(size=int(3 * WINDOW * RATE * 2))
    answer = pour(client, stuff(sent), RATE * 2)
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


def held_up_by_an_upstream(client, pair):
    """While nobody reads what it sends, its time does not run: many windows long."""
    go = threading.Event()
    pair.king.on("body", wait(go), at=1000)
    sent = message(size=16 * 1024 * 1024)
    wire = stuff(sent) + b".\r\n"
    client.begin(*pair.recipients)
    sender = threading.Thread(target=client.send, args=(wire,))
    client.sock.settimeout(60)
    sender.start()
    sender.join(2.5 * WINDOW)
    assert sender.is_alive(), "all of it was read"
    go.set()
    sender.join(60)
    return client.reply(timeout=30), sent


def held_up_and_then_slow_to_begin(client, pair):
    """The window begins anew when it is read again."""
    go = threading.Event()
    pair.king.on("body", wait(go), at=1000)
    sent = message(size=8 * 1024 * 1024)
    wire = stuff(sent)
    client.begin(*pair.recipients)
    client.sock.settimeout(60)
    sender = threading.Thread(target=client.send, args=(wire,))
    sender.start()
    sender.join(1.5 * WINDOW)
    go.set()
    sender.join(60)
    client.silent_for(WINDOW / 2)
    client.send(b".\r\n")
    return client.reply(timeout=30), sent


FINE = {"twice that rate": fast_enough, "short and whole": short_and_whole, "held up by an upstream": held_up_by_an_upstream,
        "held up and then slow to begin": held_up_and_then_slow_to_begin}
CASES = {**SLOW, **FINE}


class Rate:
    def __init__(self, start_daemon, stack):
        self.pairs = {words: Pair(number) for number, words in enumerate(CASES)}
        relays, routes = {}, {}
        for pair in self.pairs.values():
            for address, upstream in zip(pair.recipients, (pair.local, pair.king)):
                stack.callback(upstream.stop)
                relay = address.split("@")[0]
                relays[relay], routes[address] = {"next-hop": upstream.next_hop}, relay
        self.daemon = start_daemon(timeouts={"command": f"{WINDOW}s"}, relays=relays, routes=routes)

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


def test_the_same_in_tls(start_secured):
    secured = start_secured(timeouts={"command": f"{WINDOW}s"})
    with secured.secure_client() as client:
        assert too_slow(100)(client, Pair_of(secured)) == "421 4.4.2"
    assert_no_copy(secured.local, secured.kingmailer)
    assert secured.secure_client().send_mail(message(), LOCAL) == 250


class Pair_of:
    def __init__(self, split):
        self.local, self.king, self.recipients = split.local, split.kingmailer, [LOCAL, KING]
