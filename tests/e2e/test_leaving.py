"""Clients that leave: a half-close ends what is sent, not what is answered (design: section 5)."""

import threading

import pytest

from splitmx_test.client import stuff
from splitmx_test.messages import message
from splitmx_test.upstream import reply, wait

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"

END = b".\r\n"


@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING), (LOCAL, KING, THIRD)])
def test_a_half_close_behind_the_message_does_not_lose_its_outcome(split, recipients):
    go = threading.Event()
    first = {LOCAL: split.local, KING: split.kingmailer, THIRD: split.third}[recipients[0]]
    first.on("eod", wait(go), times=1)
    with split.client() as client:
        client.begin(*recipients)
        client.send(stuff(message()) + END)
        client.half_close()
        assert client.silent_for(0.2), "waits for the first upstream"
        go.set()
        assert client.reply() == 250
        assert client.await_end() == ("fin", b"")
    for upstream in split.upstreams[:len(recipients)]:
        upstream.only_message()


def test_a_refusal_reaches_a_client_that_has_half_closed(split):
    split.local.on("eod", reply("554 5.7.1 spam"))
    with split.client() as client:
        client.begin(LOCAL)
        client.send(stuff(message()) + END)
        client.half_close()
        assert client.reply() == "554 5.7.1"
        assert client.await_end() == ("fin", b"")


@pytest.mark.parametrize("commands, codes", [
    ("NOOP\r\n", [250]),
    ("QUIT\r\n", [221]),
    (f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\n", [250, 250]),
    (f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nRSET\r\nNOOP\r\n", [250] * 5),
    (f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nDATA\r\n", [250, 250, 354]),
])
def test_commands_before_a_half_close_are_answered(split, commands, codes):
    with split.client() as client:
        client.send(commands)
        client.half_close()
        assert [answer.code for answer in client.replies(len(codes))] == codes
        assert client.await_end() == ("fin", b"")


def test_many_commands_before_a_half_close_are_answered_however_slowly_they_are_read(start_split):
    count = 20000
    with start_split(limits={"errors": 100_000}).client(receive_buffer=4096) as client:
        sender = threading.Thread(target=lambda: (client.send("NOOP\r\n" * count), client.half_close()))
        sender.start()
        how, said = client.await_end()
        sender.join()
    assert (how, said.count(b"250 2.0.0 Ok\r\n")) == ("fin", count)


def test_no_commit_begins_for_a_client_that_half_closed_and_then_reset(split):
    go = threading.Event()
    for upstream in split.upstreams:
        upstream.on("eod", wait(go), times=1)
    client = split.client()
    client.begin(LOCAL, KING)
    client.send(stuff(message()) + END)
    client.half_close()
    split.local.wait_for(lambda: split.local.ended_bodies, "the first end of data")
    client.reset()
    go.set()
    assert "the client is gone" in split.daemon.await_log(lambda line: "outcome=client-gone" in line and "size=0" not in line)
    split.kingmailer.await_incomplete()
    split.kingmailer.assert_has_nothing()


@pytest.mark.parametrize("behind", [1, 1000])
def test_no_commit_begins_for_a_client_that_reset_with_commands_behind_its_message(split, behind):
    """So many that it is not read any further meanwhile, and so no event tells of the reset."""
    go = threading.Event()
    for upstream in split.upstreams:
        upstream.on("eod", wait(go), times=1)
    client = split.client()
    client.begin(LOCAL, KING)
    client.send(stuff(message()) + END + b"NOOP\r\n" * behind)
    split.local.wait_for(lambda: split.local.ended_bodies, "the first end of data")
    client.reset()
    go.set()
    split.daemon.await_log(lambda line: "outcome=client-gone" in line and "size=0" not in line)
    split.kingmailer.await_incomplete()
    split.kingmailer.assert_has_nothing()


def test_the_log_says_that_a_client_timed_out(start_split):
    split = start_split(timeouts={"data": "300ms"})
    with split.client() as client:
        client.begin(LOCAL)
        client.send(b"half a mes")
        assert client.reply() == "421 4.4.2"
    line = split.daemon.await_log("event=transaction")
    assert "reply=\"421 4.4.2 Too slow while receiving the message\"" in line, line
    assert "outcome=deferred" in line, line
