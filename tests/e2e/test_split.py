"""One transaction, several upstreams: the laws and the split of the design, seen from outside."""

import re
import threading

import pytest

from splitmx_test.client import stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import call, close, early, garbage, raw, reply, reset, silence, slow, stall, wait

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"

# Larger than what sockets hold on both sides (about 10 MB), so that "mid-body" is mid-body for everybody.
LARGE = 24 * 1024 * 1024


def assert_no_copy(*upstreams):
    for upstream in upstreams:
        upstream.await_incomplete()
        upstream.assert_has_nothing()


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


# Refusals before the body


def test_the_upstreams_550_is_the_clients_550(split):
    split.local.on("rcpt", reply("550 5.1.1 <nobody@example.com>: User unknown in virtual mailbox table"), when="nobody@")
    with split.client() as client:
        client.mail()
        assert client.rcpt("nobody@example.com").lines == ["550 5.1.1 <nobody@example.com>: User unknown in virtual mailbox table"]
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING) == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    assert split.local.only_message().recipients == [LOCAL]
    assert split.kingmailer.only_message().recipients == [KING]


def test_a_reply_without_an_enhanced_code_gets_one(split):
    split.local.on("rcpt", reply("550 no such user"), when="nobody")
    split.local.on("rcpt", reply("450 come back"), when="user2")
    with split.client() as client:
        client.mail()
        assert client.rcpt("nobody@example.com").lines == ["550 5.0.0 no such user"]
        assert client.rcpt("user2@example.com").lines == ["450 4.0.0 come back"]
        client.cmd("RSET")


@pytest.mark.parametrize("said", ["500 5.5.2 what", "501 5.5.4 what", "502 5.5.1 what", "503 5.5.1 what", "504 5.5.4 what",
                                  "530 5.7.0 must starttls", "535 5.7.8 who", "538 5.7.11 encrypt", "555 5.5.4 parameter"])
def test_what_an_upstream_says_because_we_are_wrong_bounces_nothing(split, said):
    split.local.on("rcpt", reply(said))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == "451 4.3.5"
        client.cmd("RSET")


def test_a_refused_leg_is_sent_no_data(split):
    split.kingmailer.on("rcpt", reply("550 5.1.1 not here"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING) == "550 5.1.1"
        assert client.data() == 354
        assert client.body(message()) == 250
    split.local.only_message()
    assert b"DATA" not in split.kingmailer.commands()


def test_no_accepted_recipient_is_554_and_never_354(split):
    split.local.on("rcpt", reply("550 5.1.1 no"))
    split.kingmailer.on("rcpt", reply("450 4.2.0 later"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 550
        assert client.rcpt(KING) == 450
        assert client.data() == "554 5.5.1"
        client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nRSET\r\n")
        assert [r.code for r in client.replies(4)][-2:] == [554, 250]
    assert b"DATA" not in split.local.commands() + split.kingmailer.commands()


def test_a_refused_mail_answers_the_rcpt_that_opened_the_leg(split):
    split.local.on("mail", reply("550 5.7.1 sender not welcome"))
    with split.client() as client:
        assert client.mail() == 250
        assert client.rcpt(LOCAL) == "550 5.7.1"
        assert client.rcpt(KING) == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    split.kingmailer.only_message()
    assert not split.local.messages


def test_a_552_to_mail_does_not_read_as_too_many_recipients(split):
    split.local.on("mail", reply("552 5.3.4 message too big"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == "554 5.3.4"


def test_a_421_of_an_upstream_is_a_451_to_the_client(split):
    split.local.on("rcpt", reply("421 4.7.0 too busy"), close())
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 451
        assert client.rcpt(KING) == 250
        assert client.cmd("NOOP") == 250


def test_b_refuses_data_and_a_is_abandoned(split):
    split.kingmailer.on("data", reply("451 4.3.2 not now"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING) == 250
        answer = client.data()
        assert answer == "451 4.3.0", answer
        assert client.cmd("NOOP") == 250
    assert split.local.wait_for(lambda: [c.ended for c in split.local.connections if "DATA" in c.verbs()] == ["rst"], "RST")
    split.local.assert_has_nothing()
    split.kingmailer.assert_has_nothing()


@pytest.mark.parametrize("said", ["451 4.3.2 not now", "554 5.6.0 no such content"])
def test_one_leg_refusing_data_is_the_clients_answer(split, said):
    split.local.on("data", reply(said))
    with split.client() as client:
        client.mail()
        client.rcpt(LOCAL)
        assert client.data().lines == [said]
        assert client.send_mail(message(), KING) == 250


def test_354_only_when_every_leg_has_it(split):
    go = threading.Event()
    split.kingmailer.on("data", wait(go))
    with split.client() as client:
        client.mail()
        client.rcpt(LOCAL)
        client.rcpt(KING)
        client.send("DATA\r\n")
        split.kingmailer.await_command("DATA")
        assert client.silent_for(0.2)
        go.set()
        assert client.reply() == 354
        assert client.body(message()) == 250


# The barrier


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
    with split.client(timeout=20) as client:
        client.begin(LOCAL, KING)
        assert client.body(message(size=30 * 1024 * 1024)) == "451 4.4.2"
    split.local.await_incomplete()
    split.local.assert_has_nothing()


# Hostile upstreams


@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING)])
def test_an_early_250_is_no_acceptance(split, recipients):
    said = threading.Event()
    split.local.on("body", early(b"250 2.0.0 Ok: queued\r\n"), call(lambda _: said.set()), at=1000)
    with split.client() as client:
        client.begin(*recipients)
        client.send(stuff(message(size=5000)))
        assert said.wait(10)
        assert client.silent_for(0.1)  # the early word reaches the proxy meanwhile
        client.send(b".\r\n")
        assert client.reply() == 451
    split.local.await_incomplete()
    assert split.local.messages == [] and split.kingmailer.messages == []


def test_two_answers_to_data_at_once_are_no_acceptance(split):
    split.local.on("data", reply("354 go on", "250 2.0.0 queued already"))
    with split.client() as client:
        client.mail()
        client.rcpt(LOCAL)
        answer = client.data()
        if answer == 354:
            answer = client.body(message())
        assert answer == 451, answer
    assert not split.local.messages


@pytest.mark.parametrize("action", [garbage(), raw(b"25"), raw(b"250-\r\n" * 200), raw(b"250 " + b"x" * 70_000),
                                    raw(b"999 strange\r\n"), raw(b"250-one\r\n550 two\r\n"), raw(b"\r\n")],
                         ids=["garbage", "half a code", "endless lines", "endless line", "strange code", "two codes", "empty line"])
def test_nonsense_at_end_of_data_is_451(split, action):
    split.local.on("eod", action, close())
    answer = split.daemon.send(message(), LOCAL)
    assert answer == 451, answer


def test_control_characters_of_an_upstream_do_not_pass(split):
    split.local.on("rcpt", reply("550 5.1.1 no\x1b[31m such\x07 user\x7f"))
    with split.client() as client:
        client.mail()
        answer = client.rcpt(LOCAL)
        assert answer == "550 5.1.1"
        assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", answer.wire), answer.wire


def test_an_early_reply_to_rcpt_does_not_shift_the_conversation(split):
    split.local.on("rcpt", early(b"250 2.1.5 Ok\r\n"), when="user@", times=1)
    split.local.on("rcpt", reply("550 5.1.1 unknown"), when="nobody@")
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.silent_for(0.1)  # the surplus word arrives
        assert client.rcpt("nobody@example.com").code in (451, 550)


def test_a_greeting_of_several_lines_is_taken_and_an_endless_one_is_not(start_split):
    split = start_split(timeouts={"greeting": "1s"})
    split.local.on("greeting", reply("220-local.test", "220-keeps the peace", "220 ESMTP"))
    split.kingmailer.on("greeting", raw(b"220-and so on\r\n" * 5000), silence())
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING) == 451


def test_body_8bitmime_is_said_where_it_is_offered(split):
    with split.client() as client:
        client.mail(parameters="BODY=8BITMIME")
        assert client.rcpt(LOCAL) == 250
        assert b"BODY=8BITMIME" in split.local.await_command("MAIL")


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


# Lost before the body


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_connection_lost_before_354_is_replayed_once(split, stage):
    split.local.on(stage, reset(), times=1)
    with split.client() as client:
        assert client.send_mail(message(), LOCAL, "user2@example.com") == 250
    assert split.local.only_message().recipients == [LOCAL, "user2@example.com"]


def test_a_replay_that_goes_otherwise_is_451(split):
    split.local.on("data", reset(), times=1)
    split.local.on("rcpt", reply("550 5.1.1 gone meanwhile"), when="user2@", after=1)
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt("user2@example.com") == 250
        assert client.data() == "451 4.4.2"
    split.local.assert_has_nothing()


def test_a_second_loss_is_451(split):
    split.local.on("data", reset())
    with split.client() as client:
        client.mail()
        client.rcpt(LOCAL)
        assert client.data() == "451 4.4.2"


def test_an_upstream_that_is_away_answers_for_its_own_recipients_only(start_split):
    split = start_split()
    split.kingmailer.stop()
    with split.client() as client:
        client.mail()
        assert client.rcpt(KING) == "451 4.4.1"
        assert client.rcpt(LOCAL) == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    split.local.only_message()


@pytest.mark.parametrize("greeting, expected", [
    (reply("421 4.3.2 going down"), "451 4.4.1"), (reply("451 4.3.2 later"), "451 4.4.1"), (reply("554 5.3.2 no service"), "451 4.3.0"),
    (close(), "451 4.4.1"), (reset(), "451 4.4.1")], ids=["421", "451", "554", "fin", "rst"])
def test_what_a_greeting_means(start_split, greeting, expected):
    split = start_split()
    split.local.on("greeting", greeting, *([close()] if greeting.__qualname__.startswith("raw") else []))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == expected
        assert client.rcpt(KING) == 250


@pytest.mark.parametrize("stage, timeouts", [("greeting", {"greeting": "300ms"}), ("rcpt", {"recipient": "500ms"}),
                                             ("ehlo", {"recipient": "500ms"})])
def test_a_silent_upstream_is_451_4_4_1_in_time(start_split, stage, timeouts):
    split = start_split(timeouts=timeouts)
    split.local.on(stage, silence())
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == "451 4.4.1"
        assert client.rcpt(KING) == 250
        assert client.cmd("NOOP") == 250


def test_the_next_of_several_next_hops_is_tried(start_daemon, start_upstream):
    gone, here = start_upstream("gone.test"), start_upstream("here.test")
    gone.stop()
    daemon = start_daemon(relays={"local": {"next-hop": f"{gone.next_hop}, {here.next_hop.removeprefix('smtp:')}"}},
                          routes={"example.com": "local"})
    assert daemon.send(message(), LOCAL) == 250
    here.only_message()


def test_an_upstream_without_extensions_or_even_ehlo_serves(start_daemon, start_upstream):
    for settings, rule in (({"extensions": ()}, None), ({"extensions": ()}, ("ehlo", reply("502 5.5.1 what is that")))):
        upstream = start_upstream("old.test", **settings)
        if rule:
            upstream.on(*rule)
        daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}}, routes={"example.com": "local"})
        sent = message()
        with daemon.client() as client:
            assert client.mail(parameters="BODY=8BITMIME SIZE=4000") == 250
            assert client.rcpt(LOCAL) == 250
            assert client.data() == 354
            assert client.body(sent) == 250
        assert_relayed(upstream.only_message().data, sent)
        assert upstream.await_command("MAIL") == b"MAIL FROM:<sender@client.test>"


def test_a_unix_socket_is_an_upstream_too(start_daemon, start_upstream, reachable_folder):
    upstream = start_upstream("unix.test", unix=str(reachable_folder / "smtp"))
    daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}}, routes={"example.com": "local"})
    sent = message()
    assert daemon.send(sent, LOCAL) == 250
    assert_relayed(upstream.only_message().data, sent)
    client = daemon.client()
    client.begin(LOCAL).send(b"half")
    upstream.await_body(b"half")
    client.reset()
    upstream.await_incomplete()
    assert len(upstream.ended_bodies) == 1


def test_an_ipv6_upstream_and_an_ipv6_client(start_daemon, start_upstream):
    upstream = start_upstream("six.test", address="::1")
    daemon = start_daemon(address="::1", relays={"local": {"next-hop": f"smtp:[::1]:{upstream.port}"}},
                          routes={"example.com": "local"})
    sent = message()
    assert daemon.send(sent, LOCAL) == 250
    assert "[IPv6:::1]" in assert_relayed(upstream.only_message().data, sent)


def test_a_next_hop_that_is_ourselves_is_refused(start_daemon, start_upstream):
    upstream = start_upstream()
    daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}}, routes={"example.com": "local"}, start=False)
    daemon.settings["relays"]["loop"] = {"next-hop": f"smtp:[127.0.0.1]:{daemon.port}", "identity": "none"}
    daemon.write_routes({"example.com": "local", "loop@example.com": "loop"})
    daemon.write_config()
    result = daemon.command("check")
    assert result.status == 78, result
    assert "loop" in result.err.lower() or "listen" in result.err.lower() or "own" in result.err.lower()


def test_more_received_fields_than_allowed_are_a_loop(split):
    for hops, expected in ((50, 250), (51, "554 5.4.6")):
        split.fresh()
        sent = b"Received: from a by b; date\r\n" * hops + message()
        assert split.daemon.send(sent, LOCAL) == expected
    split.local.await_incomplete()
    split.local.assert_has_nothing()
