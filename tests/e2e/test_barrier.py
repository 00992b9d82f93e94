"""No end-of-data before the client's own and before all have the whole body (design: section 5)."""

import threading

import pytest

from splitmx_test.client import stuff
from splitmx_test.messages import message
from splitmx_test.upstream import assert_no_copy, close, reset, wait

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"

# Larger than what sockets hold on both sides (about 10 MB), so that "mid-body" is mid-body for everybody.
LARGE = 24 * 1024 * 1024


def test_no_upstream_sees_end_of_data_before_the_clients_own(split):
    sent = message(size=300_000)
    wire = stuff(sent)
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(wire)
        for upstream in (split.local, split.kingmailer):
            body = upstream.await_body(len(wire))  # the Received field comes on top
            assert not body.complete
        assert client.silent_for(0.1)
        split.local.assert_has_nothing()
        split.kingmailer.assert_has_nothing()
        client.send(b".\r\n")
        assert client.reply() == 250


@pytest.mark.parametrize("held_back", [b".", b".\r"])
def test_half_an_end_of_data_is_none(split, held_back):
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(b"text\r\n" + held_back)
        split.local.await_body(b"text")
        assert client.silent_for(0.1)
        split.local.assert_has_nothing()
        client.reset()
    assert_no_copy(split.local, split.kingmailer)


@pytest.mark.parametrize("leave", ["reset", "half_close", "close"])
@pytest.mark.parametrize("size", [10, 200_000, LARGE])
def test_a_client_that_leaves_in_mid_body_leaves_no_copy(split, leave, size):
    client = split.client()
    client.begin(LOCAL, KING)
    client.send(stuff(message(size=max(size, 400))))
    split.local.await_body(300)
    split.kingmailer.await_body(300)
    getattr(client, leave)()
    assert_no_copy(split.local, split.kingmailer)
    assert [c.ended for c in split.local.connections if c.ended] == ["rst"], "abandoned by RST"
    client.close()


def test_a_client_that_leaves_with_quit_in_its_body_leaves_no_copy(split):
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(b"text\r\nQUIT\r\n")
        split.local.await_body(b"QUIT")
    assert_no_copy(split.local, split.kingmailer)


def test_b_dying_in_mid_body_is_451_after_the_whole_body_and_no_copy_anywhere(split):
    split.kingmailer.on("body", reset(), at=100_000)
    with split.client() as client:
        client.begin(LOCAL, KING)
        answer = client.body(message(size=LARGE))
        assert answer == "451 4.4.2", answer
        assert client.send_mail(message(), THIRD) == 250
    split.local.await_incomplete()
    split.local.assert_has_nothing()
    split.kingmailer.assert_has_nothing()


@pytest.mark.parametrize("action", [close(), reset()], ids=["fin", "rst"])
@pytest.mark.parametrize("at", [1, 150_000, b"LAST-OCTETS\r\n"])
def test_one_leg_dying_in_its_body_is_451(split, action, at):
    split.local.on("body", action, at=at)
    with split.client() as client:
        client.begin(LOCAL)
        assert client.body(message(size=300_000) + b"LAST-OCTETS\r\n") == "451 4.4.2"
        assert client.cmd("NOOP") == 250
    split.local.assert_has_nothing()


def test_the_slowest_upstream_sets_the_pace(start_split):
    split = start_split(timeouts={"data": "20s"})
    go = threading.Event()
    split.kingmailer.on("body", wait(go), at=1000)
    size = 40 * 1024 * 1024
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.sock.settimeout(1.0)
        with pytest.raises(OSError):  # sending blocks while kingmailer does not read
            client.send(message(size=size))
        local_has = split.local.body_octets()
        assert local_has < size / 4, f"local was sent {local_has} octets while kingmailer read nothing"
        client.reset()
        go.set()
    assert_no_copy(split.local)


def test_bytes_that_only_our_kernel_holds_are_not_taken(split):
    """B reads nothing, but all of the body fits into send buffers here: A may not be committed before B has it."""
    go = threading.Event()
    for b, a in ((split.local, split.kingmailer), (split.kingmailer, split.local)):  # whichever has its turn first
        split.fresh()
        go.clear()
        b.on("body", wait(go), reset(), at=1000)
        with split.client() as client:
            client.begin(LOCAL, KING)
            client.send(stuff(message(size=3 * 1024 * 1024)) + b".\r\n")
            try:
                assert client.silent_for(0.3)
                a.assert_has_nothing()
            finally:
                go.set()
            assert client.reply() == "451 4.4.2"
        a.await_incomplete()
        a.assert_has_nothing()
