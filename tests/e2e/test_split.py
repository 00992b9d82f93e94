"""One transaction, several upstreams: the laws and the split of the design, seen from outside."""

import threading

import pytest

from splitmx_test.client import stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import close, reply, reset, silence, stall

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"


# The way it should go


def test_one_recipient_goes_to_its_upstream_and_the_reply_is_passed_on_word_by_word(split):
    split.local.on("eod", reply("250 2.6.0 I keep <x>, queued as 4711"))
    sent = message()
    with split.client() as client:
        answer = client.send_mail(sent, LOCAL)
    assert answer.lines == ["250 2.6.0 I keep <x>, queued as 4711"]
    kept = split.local.only_message()
    assert_relayed(kept.data, sent)
    assert (kept.sender, kept.recipients) == ("sender@client.test", [LOCAL])
    assert not split.kingmailer.messages and not split.third.messages


@pytest.mark.parametrize("recipients", [(LOCAL, KING), (KING, LOCAL), (LOCAL, KING, THIRD), (THIRD, KING, LOCAL)])
def test_each_upstream_has_the_message_once_with_its_own_recipients(split, recipients):
    sent = message()
    answer = split.daemon.send(sent, *recipients)
    assert answer == "250 2.0.0", answer
    owner = {LOCAL: split.local, KING: split.kingmailer, THIRD: split.third}
    for recipient in recipients:
        kept = owner[recipient].only_message()
        assert kept.recipients == [recipient]
        assert kept.sender == "sender@client.test"
        assert_relayed(kept.data, sent)


def test_recipients_of_one_upstream_share_its_leg(split):
    assert split.daemon.send(message(), LOCAL, KING, "user2@example.com", "king2@example.com") == 250
    assert split.local.only_message().recipients == [LOCAL, "user2@example.com"]
    assert split.kingmailer.only_message().recipients == [KING, "king2@example.com"]


def test_the_joint_reply_names_each_relay_with_its_words(split):
    split.local.on("eod", reply("250 2.0.0 Ok: queued as L1"))
    split.kingmailer.on("eod", reply("250 OK id=K2"))
    answer = split.daemon.send(message(), LOCAL, KING)
    assert len(answer.lines) == 1 and answer.lines[0].startswith("250 2.0.0 ")
    words = answer.text.removeprefix("2.0.0 ")
    parts = dict(part.split(": ", 1) for part in words.split("; "))
    assert set(parts) == {"local", "kingmailer"}, words
    assert "Ok: queued as L1" in parts["local"]
    assert "OK id=K2" in parts["kingmailer"]


def test_the_joint_reply_is_at_most_512_octets(split):
    for upstream in (split.local, split.kingmailer, split.third):
        upstream.on("eod", reply("250 2.0.0 " + "w" * 450))
    answer = split.daemon.send(message(), LOCAL, KING, THIRD)
    assert answer == 250
    assert all(len(line) <= 512 for line in answer.wire.splitlines(keepends=True))
    assert len(answer.wire) <= 512


@pytest.mark.parametrize("body", [b"", b".\r\n", b"\r\n", b"..\r\n.\r\n", b"x" * 200_000 + b"\r\n", b"a\r\n" * 30_000,
                                  bytes(b for b in range(1, 256) if b not in (10, 13)) + b"\r\n"],
                         ids=["empty", "dot", "empty line", "dots", "one long line", "many lines", "every octet"])
def test_no_octet_of_the_message_changes(split, body):
    sent = message(body)
    assert split.daemon.send(sent, LOCAL, KING) == 250
    for upstream in (split.local, split.kingmailer):
        assert_relayed(upstream.only_message().data, sent)


def test_a_message_without_any_header_and_an_empty_one_go_through(split):
    for sent in (b"", b"\r\n", b"just text\r\n", b".leading dot\r\n"):
        split.fresh()
        assert split.daemon.send(sent, LOCAL) == 250
        assert_relayed(split.local.only_message().data, sent)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1460])
def test_the_result_does_not_depend_on_how_the_body_is_cut(split, cut):
    sent = message()
    wire = stuff(sent) + b".\r\n"
    with split.client() as client:
        client.begin(LOCAL, KING)
        for i in range(0, len(wire), cut):
            client.send(wire[i:i + cut])
        assert client.reply() == 250
    for upstream in (split.local, split.kingmailer):
        assert_relayed(upstream.only_message().data, sent)


def test_a_large_message_arrives_whole_at_all(split):
    sent = message(size=8 * 1024 * 1024)
    assert split.daemon.send(sent, LOCAL, KING, THIRD) == 250
    for upstream in split.upstreams:
        assert_relayed(upstream.only_message().data, sent)


def test_several_transactions_in_a_session_do_not_touch_each_other(split):
    with split.client() as client:
        for n, recipients in enumerate([(LOCAL, KING), (THIRD,), (KING,), (LOCAL, THIRD)]):
            assert client.send_mail(message(f"message {n}\r\n".encode()), *recipients, sender=f"s{n}@client.test") == 250
        client.quit()
    assert [(m.sender, m.recipients) for m in split.local.messages] == [("s0@client.test", [LOCAL]), ("s3@client.test", [LOCAL])]
    assert [m.sender for m in split.kingmailer.messages] == ["s0@client.test", "s2@client.test"]
    assert [m.sender for m in split.third.messages] == ["s1@client.test", "s3@client.test"]


def test_the_null_sender_stays_null(split):
    assert split.daemon.send(message(), LOCAL, sender="") == 250
    assert split.local.only_message().sender == ""


def test_the_address_goes_on_as_the_client_wrote_it(split):
    assert split.daemon.send(message(), "UsEr@eXample.COM", sender="Some.One@Client.TEST") == 250
    kept = split.local.only_message()
    assert (kept.sender, kept.recipients) == ("Some.One@Client.TEST", ["UsEr@eXample.COM"])


# Commit in turn


def test_b_refuses_at_end_of_data_before_a_commits_and_a_has_nothing(start_daemon, start_upstream):
    """All are on loopback, so which goes first is not said; the one that refuses second would have let the first one keep a copy."""
    first = []
    a, b = start_upstream("a.test"), start_upstream("b.test")
    for upstream in (a, b):
        def refuse_first(connection, upstream=upstream):
            first.append(upstream)
            connection.send(b"451 4.3.1 disk full\r\n" if len(first) == 1 else b"250 2.0.0 Ok\r\n")
            return True
        upstream.on("eod", refuse_first)
    daemon = start_daemon(relays={"a": {"next-hop": a.next_hop}, "b": {"next-hop": b.next_hop}},
                          routes={"a@example.com": "a", "b@example.com": "b"})
    answer = daemon.send(message(), "a@example.com", "b@example.com")
    assert answer == "451 4.3.0", answer
    other = b if first == [a] else a
    assert len(first) == 1, "the other one was committed after a refusal"
    other.await_incomplete()
    other.assert_has_nothing()
    assert [c.ended for c in other.connections] == ["rst"]


def test_end_of_data_goes_to_one_upstream_at_a_time(split):
    under_way = []
    most = []
    lock = threading.Lock()
    gates = threading.Event()

    def slow_commit(connection):
        with lock:
            under_way.append(connection)
            most.append(len(under_way))
        gates.wait(0.2)
        with lock:
            under_way.remove(connection)

    for upstream in split.upstreams:
        upstream.on("eod", slow_commit)
    assert split.daemon.send(message(), LOCAL, KING, THIRD) == 250
    assert most == [1, 1, 1]


def test_the_words_of_the_refusing_upstream_reach_the_client(split):
    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", reply("452 4.2.2 mailbox of the king is full"))
    answer = split.daemon.send(message(), LOCAL, KING)
    assert answer == "451 4.3.0"
    assert "mailbox of the king is full" in answer.text


def test_a_5xx_of_one_of_several_at_end_of_data_is_451(split):
    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", reply("554 5.7.1 spam"))
    assert split.daemon.send(message(), LOCAL, KING) == "451 4.3.0"


@pytest.mark.parametrize("said", ["554 5.7.1 spam", "452 4.3.1 full", "550 5.7.26 DMARC"])
def test_one_legs_refusal_at_end_of_data_is_passed_on(split, said):
    split.local.on("eod", reply(said))
    assert split.daemon.send(message(), LOCAL).lines == [said]


def test_one_legs_long_answer_is_passed_on_line_by_line(split):
    split.local.on("eod", reply("554-5.7.1 first line", "554 5.7.1 second line"))
    answer = split.daemon.send(message(), LOCAL)
    assert answer == "554 5.7.1" and "second line" in "".join(answer.lines)


@pytest.mark.parametrize("action", [close(), reset()], ids=["fin", "rst"])
@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING)])
def test_a_reply_lost_after_end_of_data_is_451(split, action, recipients):
    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", action)
    assert split.daemon.send(message(), *recipients) == "451 4.4.2"
    split.daemon.await_log("twice")


def test_an_upstream_silent_after_end_of_data_is_451_in_time(start_split):
    split = start_split(timeouts={"end_of_data": "500ms"})
    split.local.on("eod", silence())
    assert split.daemon.send(message(), LOCAL) == "451 4.4.2"


def test_an_upstream_that_stops_reading_is_451_in_time(start_split):
    split = start_split(timeouts={"data": "2s"})
    split.kingmailer.on("body", stall(), at=1000)
    wire = stuff(message(size=30 * 1024 * 1024)) + b".\r\n"  # made before: the client has two seconds, too
    with split.client(timeout=20) as client:
        client.begin(LOCAL, KING)
        client.send(wire)
        assert client.reply() == "451 4.4.2"
    split.local.await_incomplete()
    split.local.assert_has_nothing()


# One leg only


def test_defer_takes_one_leg_and_puts_the_others_off(start_split):
    split = start_split(split="defer")
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING) == "452 4.5.3"
        assert client.rcpt("user2@example.com") == 250
        assert client.rcpt(THIRD) == "452 4.5.3"
        assert client.data() == 354
        assert client.body(message()).text.startswith("2.0.0 Ok: queued as local.test")
        assert client.send_mail(message(), KING) == 250
    assert split.local.only_message().recipients == [LOCAL, "user2@example.com"]
    assert split.kingmailer.only_message().recipients == [KING]


def test_defer_a_leg_without_recipients_keeps_nobody_away(start_split):
    split = start_split(split="defer")
    split.local.on("rcpt", reply("550 5.1.1 unknown"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == "550 5.1.1"
        assert client.rcpt(KING) == 250
        assert client.rcpt(LOCAL) != 250
        assert client.data() == 354
        assert client.body(message()) == 250
    assert split.kingmailer.only_message().recipients == [KING]
