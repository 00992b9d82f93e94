"""`max-connections` counts over all workers, and what lies idle in one keeps nobody in another waiting."""

import threading
import time

import pytest

from splitmx_test.messages import message
from splitmx_test.waiting import poll

pytestmark = pytest.mark.threads

USER, OTHER = "user@example.com", "other@example.com"


@pytest.fixture
def few(start_daemon, start_upstream):
    """Many workers before upstreams that take few connections; the most that `a` had at once is counted."""

    def start(limit, workers=8, **settings):
        a, b = start_upstream("a.test"), start_upstream("b.test")
        daemon = start_daemon(workers=workers, routes={USER: "a", OTHER: "b"}, **settings, relays={
            "a": {"next-hop": a.next_hop, "max-connections": limit}, "b": {"next-hop": b.next_hop}})
        return daemon, a, b

    return start


def open_now(upstream):
    with upstream.board:
        return sum(c.ended is None for c in upstream.connections)


def test_an_idle_connection_of_another_worker_gives_its_place_up_at_once(few):
    daemon, a, _ = few(2)
    most, slowest = 0, 0.0
    for _ in range(40):  # a session each, so that the workers take turns
        begun = time.monotonic()
        assert daemon.send(message(), USER) == 250
        slowest = max(slowest, time.monotonic() - begun)
        most = max(most, open_now(a))
    assert slowest < 0.5
    assert most <= 2
    assert len(a.connections) > 2, "else it was one worker all the time"


def test_a_place_that_lies_idle_elsewhere_is_no_reason_for_452(few):
    daemon, a, b = few(1)
    for _ in range(30):
        assert daemon.send(message(), OTHER, USER) == 250
    assert len(a.connections) > 1
    assert open_now(a) <= 1


def test_a_place_in_use_is_a_reason_for_452_soon(few):
    daemon, _, _ = few(1)
    with daemon.client() as holder, daemon.client() as client:
        holder.mail()
        assert holder.rcpt(USER) == 250
        client.mail()
        assert client.rcpt(OTHER) == 250
        begun = time.monotonic()
        assert client.rcpt(USER) == "452 4.5.3"
        assert time.monotonic() - begun < 2


def test_the_upstream_never_sees_more_connections_than_allowed(few):
    daemon, a, _ = few(3)
    seen, over = [], threading.Event()

    def watch():
        while not over.is_set():
            seen.append(open_now(a))
            time.sleep(0.001)

    def send():
        for _ in range(15):
            assert daemon.send(message(), USER) == 250

    watcher = threading.Thread(target=watch)
    senders = [threading.Thread(target=send) for _ in range(6)]
    watcher.start()
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join()
    over.set()
    watcher.join()
    assert len(a.messages) == 90
    assert max(seen) <= 3


def test_a_connection_to_another_upstream_is_left_alone(few):
    daemon, a, b = few(1, workers=1)
    assert daemon.send(message(), OTHER) == 250
    with daemon.client() as holder, daemon.client() as client:
        holder.mail()
        assert holder.rcpt(USER) == 250
        client.mail()
        client.send(f"RCPT TO:<{USER}>\r\n")  # waits for a's only place
        assert client.silent_for(1.2), "longer than the pool's round"
        assert daemon.send(message(), OTHER) == 250
        holder.cmd("RSET")
        assert client.reply() == 250
    assert len(b.connections) == 1


def test_pool_idle_0_keeps_none(few):
    daemon, a, _ = few(5, timeouts={"pool-idle": "0s"})
    for _ in range(3):
        assert daemon.send(message(), USER) == 250
        poll(lambda: open_now(a) == 0, "the end of the connection", timeout=0.5)
    assert a.await_all_ended() == ["quit"] * 3


def test_pool_idle_is_kept_to(few):
    daemon, a, _ = few(5, timeouts={"pool-idle": "300ms"})
    begun = time.monotonic()
    assert daemon.send(message(), USER) == 250
    assert a.await_all_ended() == ["quit"]
    assert 0.3 <= time.monotonic() - begun < 0.8
