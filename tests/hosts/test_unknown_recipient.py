"""Whom the local server does not know is asked for at Gmail, in the same session; Gmail's answer stands."""

import pytest

from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import reply

HERE, THERE, NOWHERE = "user@example.com", "elsewhere@example.com", "absent@example.com"
QUESTIONS = 20  # a minute, for one client


@pytest.fixture
def start(lab, start_daemon):
    def start(at):
        return start_daemon(relays={"local": {"next-hop": f"smtp:[{at}]", "unknown-recipient": "gmail"}, "gmail": lab.gmail_relay},
                            routes={"example.com": "local"})

    return start


@pytest.fixture
def splitmx(lab, start):
    return start(lab.local.plain)


def ask(splitmx, recipient):
    with splitmx.client() as client:
        client.mail()
        return client.rcpt(recipient)


def test_each_server_gets_its_own_recipients_of_one_message(splitmx, local, gmail):
    sent = message()
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(THERE) == 250
        assert client.rcpt(HERE) == 250
        assert client.rcpt(NOWHERE) == "550 5.1.1"
        assert client.data() == 354
        assert client.body(sent) == 250
    assert local.await_new("user")[0].endswith(sent.replace(b"\r\n", b"\n"))
    there = gmail.only_message()
    assert there.recipients == [THERE] and there.connection.tls is not None
    assert "(splitmx fallback)" in assert_relayed(there.data, sent)


def test_whom_nobody_knows_gmail_refuses(splitmx, gmail):
    assert ask(splitmx, NOWHERE).lines == ["550 5.1.1 The email account that you tried to reach does not exist. - gsmtp"]


def test_gmail_away_is_a_matter_for_the_sender(splitmx, gmail):
    gmail.stop()
    try:
        assert ask(splitmx, THERE) == "451 4.4.1"
        assert ask(splitmx, HERE) == 250
    finally:
        gmail.start()


def test_a_dictionary_attack_does_not_reach_gmail(splitmx, lab, gmail):
    with splitmx.client() as client:
        client.mail()
        answers = [client.rcpt(f"guess{n}@example.com") for n in range(QUESTIONS + 5)]
    assert [answer.code for answer in answers] == [250] * QUESTIONS + [550] * 5
    assert all("virtual mailbox table" in answer.text for answer in answers[QUESTIONS:])
    with splitmx.client(lab.sender1) as other:
        other.mail()
        assert other.rcpt(THERE) == 250


@pytest.mark.parametrize("answer, asked", [
    ("550 5.1.1 unknown", True), ("550 5.1.10 unknown", True), ("553 5.1.1 unknown", True),
    ("550 5.7.1 blocked", False), ("550 unknown", False), ("551 5.1.1 moved", False), ("450 4.1.1 perhaps", False),
    ("552 5.2.2 full", False), ("554 5.1.1 no", False),
])
def test_which_answers_say_unknown(lab, start, start_server, gmail, answer, asked):
    here = start_server(lab.local_host, "local.test", "10.89.0.25")
    here.on("rcpt", reply(answer))
    said = ask(start("10.89.0.25"), THERE)
    if asked:
        assert said == 250
    else:
        assert said.code == int(answer[:3])
        gmail.assert_never_asked()


def test_an_outage_is_not_an_unknown_recipient(start, gmail):
    assert ask(start("10.89.0.25"), THERE) == "451 4.4.1"
    gmail.assert_never_asked()


def test_a_message_that_comes_back_from_gmail_bounces(splitmx, gmail):
    assert splitmx.send(message(), THERE) == 250
    assert splitmx.send(gmail.only_message().data, THERE) == "554 5.4.6"
    assert len(gmail.messages) == 1
