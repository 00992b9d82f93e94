"""What upstreams refuse before the body, and what of it the client hears (design: law 3, section 5)."""

import threading

import pytest

from splitmx_test.messages import message
from splitmx_test.upstream import close, reply, wait

LOCAL, KING = "user@example.com", "kingmail@example.com"


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
