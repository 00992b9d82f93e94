"""What things cost: memory bounded by configuration, not by what arrives (law 7)."""

import threading

import pytest

from splitmx_test.client import Gone
from splitmx_test.messages import assert_relayed, message
from splitmx_test.peers import smtp_source
from splitmx_test.upstream import call, slow
from splitmx_test.waiting import poll

pytestmark = pytest.mark.measures

MIB = 1024 * 1024


def warm(daemon, *recipients):
    """What is paid once (pools, first use of code, the allocator's arenas in each worker) is not a message's cost."""
    for _ in range(40):
        daemon.send(message(size=200_000), *recipients)


@pytest.mark.parametrize("recipients", [("user@example.com",), ("user@example.com", "kingmail@example.com")])
def test_fifty_megabytes_to_a_slow_upstream_cost_less_than_one(start_daemon, start_upstream, recipients):
    local, king = start_upstream("slow.test"), start_upstream("fast.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}, "king": {"next-hop": king.next_hop}},
                          routes={"user@example.com": "local", "kingmail@example.com": "king"})
    warm(daemon, *recipients)
    local.forget()
    local.on("data", slow(12 * MIB))
    sent = message(size=50 * MIB)
    before = daemon.pss()
    most = []
    done = threading.Event()

    def watch():
        while not done.wait(0.05):
            most.append(daemon.pss())

    watcher = threading.Thread(target=watch)
    with daemon.client(timeout=60) as client:
        client.begin(*recipients)
        watcher.start()
        try:
            assert client.body(sent) == 250
        finally:
            done.set()
            watcher.join()
    assert len(most) > 10
    assert max(most) - before < MIB, f"{(max(most) - before) / MIB:.2f} MiB"
    assert_relayed(local.messages[-1].data, sent)


def test_a_thousand_open_sessions_cost_less_than_four_megabytes(start_split):
    split = start_split(limits={"connections": 3000, "connections_per_client": 3000})
    daemon = split.daemon
    warm(daemon, "user@example.com")
    for client in [daemon.client() for _ in range(20)]:
        client.close()
    before = daemon.pss()
    clients = [daemon.client() for _ in range(1000)]
    cost = daemon.pss() - before
    print(f"1,000 sessions: {cost / MIB:.2f} MiB")
    assert cost < 4 * MIB, f"{cost / MIB:.2f} MiB"
    assert clients[500].send_mail(message(), "user@example.com") == 250
    for client in clients:
        client.close()


def test_ten_thousand_messages_leave_no_memory_behind(start_split):
    split = start_split()

    def load(count):
        result = smtp_source(split.daemon.port, "-d", count=count, sessions=10)
        assert result.returncode == 0, result
        for upstream in split.upstreams:
            upstream.forget()

    load(2000)
    before = split.daemon.pss()
    load(8000)
    grown = split.daemon.pss() - before
    assert grown < MIB, f"{grown / MIB:.2f} MiB more after 8,000 messages"


def test_a_flood_of_unread_replies_is_bounded(start_split):
    split = start_split()
    warm(split.daemon, "user@example.com")
    before = split.daemon.pss()
    client = split.client(receive_buffer=2048)
    client.sock.settimeout(0.5)
    with pytest.raises(OSError):
        for _ in range(2000):
            client.send(b"HELP\r\n" * 10_000)
    assert split.daemon.pss() - before < MIB
    client.reset()


def test_an_endless_line_from_an_upstream_is_bounded(start_split):
    split = start_split()
    warm(split.daemon, "kingmail@example.com")

    def endless(connection):
        for _ in range(2000):
            connection.send(b"250-" + b"x" * 65536)
        return True

    split.local.on("rcpt", call(endless))
    before = split.daemon.pss()
    with split.client(timeout=30) as client:
        client.mail()
        assert client.rcpt("user@example.com") == 451
        assert split.daemon.pss() - before < MIB


def test_running_out_of_descriptors_is_told_and_survived(start_split):
    split = start_split(wrapper=["prlimit", "--nofile=256:256"], limits={"connections": 100_000, "connections_per_client": 100_000})
    clients, told = [], 0
    for _ in range(300):
        try:
            client = split.client(hello=None, timeout=5)
        except (OSError, AssertionError):
            break
        clients.append(client)
        if client.greeting == "421 4.3.2":
            told += 1
            if told > 20:
                break
    for client in clients:
        client.close()

    def serves():
        try:
            return split.daemon.send(message(), "user@example.com") == 250
        except (AssertionError, OSError, Gone):  # a 421 and the end of the connection
            return False

    poll(serves, "service as before", interval=0.1)
    assert told or len(clients) >= 300, "connections were dropped without a word"
