"""Connections to upstreams are kept, trusted only as far as they deserve, and used up (design: sections 5 and 6)."""

import threading

import pytest

from splitmx_test.messages import message
from splitmx_test.upstream import close, raw, reply, reset, wait
from splitmx_test.waiting import poll

USER = "user@example.com"


@pytest.fixture
def one(start_daemon, start_upstream):
    """One worker, one upstream, so that it is known which pool a connection comes from."""

    def start(extensions=None, **settings):
        upstream = start_upstream("local.test", **({} if extensions is None else {"extensions": extensions}))
        settings.setdefault("relays", {"local": {"next-hop": upstream.next_hop}})
        daemon = start_daemon(workers=1, routes={"example.com": "local"}, **settings)
        return daemon, upstream

    return start


def test_a_connection_is_used_again(one):
    daemon, upstream = one()
    for _ in range(10):
        assert daemon.send(message(), USER) == 250
    assert len(upstream.await_messages(10)) == 10
    assert len(upstream.connections) == 1
    assert upstream.connections[0].verbs().count("EHLO") == 1


def test_a_connection_carries_at_most_a_hundred_messages(one):
    daemon, upstream = one()
    with daemon.client() as client:
        for _ in range(205):
            assert client.send_mail(b"Subject: x\r\n\r\n", USER) == 250
    assert len(upstream.messages) == 205
    per_connection = [sum(m.connection is c for m in upstream.messages) for c in upstream.connections]
    assert per_connection == [100, 100, 5]
    upstream.wait_for(lambda: [c.ended for c in upstream.connections[:2]] == ["quit", "quit"], "QUIT on the used-up ones")


def test_idle_connections_are_given_back(one):
    daemon, upstream = one(timeouts={"pool_idle": "200ms"})
    assert daemon.send(message(), USER) == 250
    assert upstream.await_all_ended() == ["quit"]


@pytest.mark.parametrize("staleness", ["fin", "421", "rst"])
def test_a_stale_connection_is_replaced_unnoticed(one, staleness):
    daemon, upstream = one()
    assert daemon.send(message(), USER) == 250
    if staleness == "421":
        upstream.on("mail", reply("421 4.4.2 idle too long"), close(), times=1)
        upstream.on("rset", reply("421 4.4.2 idle too long"), close(), times=1)
    elif staleness == "rst":
        upstream.on("mail", reset(), times=1)
        upstream.on("rset", reset(), times=1)
    else:
        upstream.stop()
        upstream.start()
    assert daemon.send(message(), USER) == 250
    assert len(upstream.messages) == 2
    assert len(upstream.connections) == 2


def test_a_421_on_a_fresh_connection_is_an_answer(one):
    daemon, upstream = one()
    upstream.on("mail", reply("421 4.7.0 go away"), close())
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(USER) == 451


def test_what_one_transaction_left_open_does_not_leak_into_the_next(one):
    daemon, upstream = one()
    with daemon.client() as client:
        client.mail("first@client.test")
        client.rcpt("leftover@example.com")
        client.cmd("RSET")
        assert client.send_mail(message(), USER, sender="second@client.test") == 250
    kept = upstream.only_message()
    assert (kept.sender, kept.recipients) == ("second@client.test", [USER])


def test_a_connection_after_a_refusal_is_clean(one):
    daemon, upstream = one()
    upstream.on("eod", reply("554 5.7.1 spam"), times=1)
    upstream.on("rcpt", reply("550 5.1.1 no"), when="nobody@")
    assert daemon.send(message(), USER) == 554
    with daemon.client() as client:
        client.mail()
        assert client.rcpt("nobody@example.com") == 550
    assert daemon.send(message(), USER, sender="clean@client.test") == 250
    kept = upstream.only_message()
    assert (kept.sender, kept.recipients) == ("clean@client.test", [USER])


def test_unsolicited_words_on_an_idle_connection_end_it(one):
    daemon, upstream = one()
    assert daemon.send(message(), USER) == 250
    upstream.connections[0].send(b"250 2.0.0 surprise\r\n")
    upstream.wait_for(lambda: upstream.connections[0].ended, "the end of that connection")
    assert daemon.send(message(), USER) == 250
    assert len(upstream.connections) == 2


def test_words_behind_a_refused_data_are_not_taken_for_the_answer_to_rset(one):
    """Else each answer on that connection would be taken for that to the command behind."""
    daemon, upstream = one()
    go = threading.Event()
    upstream.on("data", raw(b"550 5.7.1 no\r\n250 2.0.0 Ok\r\n"), times=1)
    upstream.on("rset", wait(go), times=1)
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(USER) == 250 and client.data() == "550 5.7.1"
        upstream.on("rcpt", reply("550 5.1.1 unknown"))
        client.mail()
        client.send(f"RCPT TO:<{USER}>\r\n")
        go.set()
        assert client.reply() == "550 5.1.1"
    assert len(upstream.connections) == 2


def test_mail_and_the_first_rcpt_come_in_one_segment_where_pipelining_is_offered(one):
    daemon, upstream = one()
    for n in range(2):  # on a fresh connection and on a pooled one
        assert daemon.send(message(), USER, sender=f"s{n}@client.test") == 250
    segments = [s for s in upstream.connections[0].segments if b"MAIL" in s]
    assert len(segments) == 2
    for segment in segments:
        assert b"MAIL FROM:" in segment and b"RCPT TO:<user@example.com>\r\n" in segment, segment


def test_nothing_is_pipelined_where_it_is_not_offered(one):
    daemon, upstream = one(extensions=("SIZE", "8BITMIME"))
    assert daemon.send(message(), USER, "user2@example.com") == 250
    for segment in upstream.connections[0].segments:
        assert segment.count(b"\r\n") == 1, segment


def test_no_more_connections_than_allowed(one, start_upstream):
    upstream = start_upstream("few.test")
    daemon, _ = one(relays={"local": {"next-hop": upstream.next_hop, "max-connections": 2}})
    go = threading.Event()
    clients = [daemon.client() for _ in range(3)]
    for client in clients[:2]:
        client.mail()
        assert client.rcpt(USER) == 250
    clients[2].mail()
    clients[2].send(f"RCPT TO:<{USER}>\r\n")
    assert clients[2].silent_for(0.3), "waits for a slot"
    clients[0].cmd("RSET")
    clients[0].quit()
    assert clients[2].reply() == 250
    go.set()
    assert len([c for c in upstream.connections if c.ended is None]) <= 2
    for client in clients[1:]:
        client.close()


def test_mail_waits_for_a_slot_ten_seconds_and_no_longer(one, start_upstream):
    upstream = start_upstream("few.test")
    daemon, _ = one(relays={"local": {"next-hop": upstream.next_hop, "max-connections": 1}})
    with daemon.client() as holder, daemon.client(timeout=20) as waiter:
        holder.mail()
        assert holder.rcpt(USER) == 250
        waiter.mail()
        assert waiter.rcpt(USER) == "451 4.3.2"


def test_a_slot_is_never_awaited_while_another_leg_is_held(start_daemon, start_upstream):
    a, b = start_upstream("a.test"), start_upstream("b.test")
    daemon = start_daemon(workers=1, routes={"a@example.com": "a", "b@example.com": "b"},
                          relays={"a": {"next-hop": a.next_hop}, "b": {"next-hop": b.next_hop, "max-connections": 1}})
    with daemon.client() as holder, daemon.client() as other:
        holder.mail()
        assert holder.rcpt("b@example.com") == 250
        other.mail()
        assert other.rcpt("a@example.com") == 250
        assert other.rcpt("b@example.com") == "452 4.5.3"


def test_sessions_leave_no_descriptor_behind(one):
    daemon, upstream = one(timeouts={"pool_idle": "100ms"})
    assert daemon.send(message(), USER) == 250
    upstream.await_all_ended()
    before = daemon.descriptors()
    for n in range(50):
        client = daemon.client()
        if n % 2:
            client.begin(USER).send(b"half")
        client.reset()
    poll(lambda: daemon.descriptors() <= before + 1, f"{before} descriptors again")
