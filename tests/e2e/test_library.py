"""The tests' own engine: scripted upstreams and the raw client, without the program."""

import threading

import pytest

from splitmx_test.client import Client, Gone
from splitmx_test.daemon import yaml
from splitmx_test.faults import BlackHole
from splitmx_test.messages import AWKWARD, assert_relayed, message
from splitmx_test.queueing import QueuedMessage
from splitmx_test.upstream import (ScriptedUpstream, chased_by, close, early, garbage, pause, raw, reply, reset, silence,
                                   slow, wait)
from splitmx_test.waiting import free_port


def client_of(upstream, **keywords):
    return Client(("127.0.0.1", upstream.port), **keywords)


def test_a_polite_upstream_keeps_the_message_as_it_was_sent(start_upstream):
    up = start_upstream()
    sent = message()
    with client_of(up) as client:
        assert client.send_mail(sent, "a@example.com", "b@example.com") == 250
        assert client.quit() == 221
    kept = up.only_message()
    assert kept.data == sent
    assert kept.wire != sent, "the wire form is stuffed"
    assert kept.sender == "sender@client.test"
    assert kept.recipients == ["a@example.com", "b@example.com"]
    assert up.await_all_ended() == ["quit"]
    assert up.connections[0].verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("octets_at_once", [1, 2, 3, 5, 7, 1000])
def test_the_end_of_data_is_found_however_the_stream_is_cut(start_upstream, octets_at_once):
    up = start_upstream()
    sent = message(b".\x00.\r\n..\r\n")
    from splitmx_test.client import stuff
    wire = stuff(sent) + b".\r\nNOOP\r\n"
    with client_of(up) as client:
        client.begin("a@example.com")
        for i in range(0, len(wire), octets_at_once):
            client.send(wire[i:i + octets_at_once])
        assert client.reply() == 250
        assert client.reply() == 250
    assert up.only_message().data == sent


def test_an_empty_message_ends_at_once(start_upstream):
    up = start_upstream()
    with client_of(up) as client:
        assert client.begin("a@example.com").body(b"") == 250
    assert up.only_message().wire == b""


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\rX", b"\r.\r\n", b"\r\n.\n", b"\r\n.\rX", b"\r\n.\r\r\n",
                                 b"\r\n\x00.\r\n", b"\r\n.\x00\r\n"])
def test_a_lax_upstream_falls_for_every_look_alike_and_a_strict_one_for_none(start_upstream, end):
    for lax in (True, False):
        up = start_upstream(lax=lax)
        with client_of(up) as client:
            client.begin("a@example.com")
            client.send(b"text" + end + b"MAIL FROM:<x@y>\r\n")
            up.await_body() if not lax else None
            if lax:
                assert client.reply() == 250
                assert up.only_message().wire.startswith(b"text")
            else:
                client.send(b"\r\n.\r\n")
                assert client.reply() == 250
                assert end in up.only_message().wire


def test_rules_apply_by_stage_text_count_and_order(start_upstream):
    up = start_upstream()
    up.on("rcpt", reply("550 5.1.1 unknown"), when="nobody@").on("rcpt", reply("450-4.2.0 wait", "450 4.2.0 a bit"), times=1)
    up.on("mail", reply("452 4.3.1 full"), after=1)
    with client_of(up) as client:
        assert client.mail() == 250
        assert client.rcpt("Nobody@example.com") == "550 5.1.1"
        first = client.rcpt("a@example.com")
        assert first == 450 and first.texts == ["4.2.0 wait", "4.2.0 a bit"]
        assert client.rcpt("a@example.com") == 250
        assert client.mail() == "452 4.3.1 full"


def test_pipelined_commands_are_answered_in_order_and_recorded_as_one_segment(start_upstream):
    up = start_upstream()
    with client_of(up) as client:
        client.send("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
        assert [r.code for r in client.replies(3)] == [250, 250, 354]
        client.send(b"hi\r\n.\r\nQUIT\r\n")
        assert [r.code for r in client.replies(2)] == [250, 221]
    assert b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" in up.connections[0].segments


@pytest.mark.parametrize("action, how", [(close(), "fin"), (reset(), "rst")], ids=["fin", "rst"])
@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "data", "eod"])
def test_a_stage_can_end_the_connection(start_upstream, stage, action, how):
    up = start_upstream()
    up.on(stage, action)
    with pytest.raises(Gone) as gone:
        with client_of(up) as client:
            client.send_mail(message(), "a@example.com")
    assert gone.value.how == how
    assert up.await_all_ended() == ["closed" if how == "fin" else "reset"]


@pytest.mark.parametrize("at", [1, 3000, b"LAST"])
def test_the_body_can_be_cut_where_the_script_says(start_upstream, at):
    up = start_upstream()
    up.on("body", reset(), at=at)
    with client_of(up) as client:
        client.begin("a@example.com")
        with pytest.raises((Gone, OSError)):
            client.send(message(size=5000) + b"LAST")
            client.reply()
    broken = up.await_incomplete()[0]
    assert broken.size == {1: 1, 3000: 3000, b"LAST": 5004}[at]
    up.assert_has_nothing()


def test_how_the_peer_went_is_told(start_upstream):
    up = start_upstream()
    for leave in (Client.close, Client.reset):
        client = client_of(up)
        client.begin("a@example.com").send(b"half a mess")
        up.await_body(11)
        leave(client)
        up.await_all_ended()
    assert [c.ended for c in up.connections] == ["fin", "rst"]
    assert [m.wire for m in up.incomplete] == [b"half a mess"] * 2


def test_silence_early_words_garbage_and_endless_lines(start_upstream):
    up = start_upstream()
    up.on("noop", early(b"250 too early\r\n"), times=1)
    up.on("noop", garbage(), times=1)
    up.on("noop", raw(b"25"), silence())
    with client_of(up) as client:
        client.send("NOOP\r\n")
        assert [r.text for r in client.replies(2)] == ["too early", "2.0.0 Ok"]
        client.send("NOOP\r\n")
        with pytest.raises(AssertionError):
            client.reply(timeout=0.1)
        client._buffer = b""
        client.send("NOOP\r\n")
        with pytest.raises(AssertionError, match="b'25'"):
            client.reply(timeout=0.1)


def test_an_upstream_waits_for_the_test(start_upstream):
    up = start_upstream()
    go = threading.Event()
    up.on("eod", wait(go))
    with client_of(up) as client:
        client.begin("a@example.com").send(b"text\r\n.\r\n")
        up.wait_for(lambda: up.ended_bodies, "end of data")
        assert client.silent_for(0.05)
        assert not up.messages
        go.set()
        assert client.reply() == 250


def test_a_slow_reader_reads_slowly(start_upstream):
    up = start_upstream(receive_buffer=4096)
    up.on("data", slow(20000))
    with client_of(up) as client:
        client.begin("a@example.com")
        client.sock.settimeout(0.3)
        with pytest.raises(OSError):
            client.send(b"x" * 20_000_000)
        assert up.body_octets() < 50_000


def test_refused_after_stop_and_back_after_start(start_upstream):
    up = start_upstream()
    up.stop()
    with pytest.raises(ConnectionRefusedError):
        client_of(up)
    up.start()
    with client_of(up) as client:
        assert client.cmd("NOOP") == 250


def test_a_unix_socket_serves_as_well(start_upstream, tmp_path):
    up = start_upstream(unix=str(tmp_path / "smtp"))
    with Client(str(tmp_path / "smtp")) as client:
        assert client.send_mail(message(), "a@example.com") == 250
    assert up.next_hop == f"smtp:[unix:{tmp_path}/smtp]"


def test_a_late_reply_comes_late(start_upstream):
    up = start_upstream()
    up.on("noop", pause(0.1))
    with client_of(up) as client:
        client.send("NOOP\r\n")
        assert client.silent_for(0.05)
        assert client.reply() == 250


def test_an_answer_may_be_chased_by_another_in_its_segment(start_upstream):
    up = start_upstream()
    up.on("mail", chased_by(b"250 2.1.5 for what?\r\n"), times=1)
    with client_of(up) as client:
        client.send("MAIL FROM:<a@b>\r\n")
        assert b"Ok\r\n250 2.1.5 for what?\r\n" in client.sock.recv(1000)
        assert client.mail() == 250
        assert client.silent_for(0.05)


def test_a_black_hole_answers_no_connection():
    port = free_port("127.0.0.9")
    with BlackHole("127.0.0.9", port), pytest.raises(TimeoutError):
        Client(("127.0.0.9", port), timeout=0.3)


def queued(upstream, *recipients, **keywords):
    return QueuedMessage(("127.0.0.1", upstream.port), message(), recipients, **keywords)


def test_a_queue_keeps_each_recipient_until_it_has_a_final_answer(start_upstream):
    up = start_upstream()
    up.on("rcpt", reply("550 5.1.1 unknown"), when="absent@").on("rcpt", reply("450 4.2.0 greylisted"), when="grey@", times=2)
    up.on("eod", reply("451 4.3.0 not now"), times=1)
    sender = queued(up, "absent@b", "grey@b", "well@b").run()
    assert sender.attempts == 3 and sender.left == []
    assert {to: answer.code for to, answer in sender.settled.items()} == {"absent@b": 550, "well@b": 250, "grey@b": 250}
    assert [kept.recipients for kept in up.messages] == [["well@b"], ["grey@b"]]
    assert sender.said(1, "end") == "451 4.3.0" and sender.said(2, "rcpt", "grey@b") == "450 4.2.0"


def test_a_queue_gives_all_of_a_refused_transaction_up(start_upstream):
    up = start_upstream()
    up.on("eod", reply("554 5.7.1 spam"))
    sender = queued(up, "a@b", "c@d").attempt()
    assert [answer.code for answer in sender.settled.values()] == [554, 554]
    with pytest.raises(AssertionError, match="still in the queue"):
        queued(up.on("mail", close()), "a@b").run(attempts=2)


@pytest.mark.parametrize("point", QueuedMessage.POINTS)
def test_a_queue_loses_its_connection_where_it_is_told(start_upstream, point):
    up = start_upstream()
    sender = queued(up, "a@b").attempt(point)
    assert sender.left == ["a@b"]
    up.wait_for(lambda: up.connections[0].ended == "rst", "the reset")
    assert len(up.ended_bodies) <= (point in ("end", "answer"))
    assert sender.run().settled["a@b"] == 250 and sender.attempts == 2


def test_a_queue_may_try_452_again_on_the_same_connection(start_upstream):
    up = start_upstream()
    up.on("rcpt", reply("452 4.5.3 one at a time"), when="b@", times=1)
    sender = queued(up, "a@b", "b@b", again_at_once=True).run()
    assert sender.attempts == 1 and len(up.connections) == 1
    assert [kept.recipients for kept in up.messages] == [["a@b"], ["b@b"]]


def test_a_changed_byte_is_noticed():
    sent = message()
    field = b"Received: from a\r\n\tby b; date\r\n"
    assert assert_relayed(field + sent, sent) == "Received: from a by b; date"
    for changed in (sent, field + field + sent, field + sent[:-1], field + sent.replace(AWKWARD[-5:], b"End\r\n"), sent + field):
        with pytest.raises(AssertionError):
            assert_relayed(changed, sent)


def test_yaml_is_written_so_that_nothing_is_misread():
    assert yaml({"a": 1, "b": {"c-d": "x y", "*": True}, "l": ["p", "10.0.0.0/8"], "m": [{"k": "[::]:25"}]}) == (
        'a: 1\nb:\n  c-d: "x y"\n  "*": true\nl: [p, 10.0.0.0/8]\nm:\n  - {k: "[::]:25"}\n')
