"""The local server is away: a recipient with a fallback is at Gmail, one without is told to come again."""

import time

import pytest

from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import close, reply, silence
from splitmx_test.waiting import poll

BOSS, ONLY, ABSENT = "boss@example.com", "only@example.com", "absent@example.com"
LOCAL = "10.89.0.25"
GREETING = 1.0  # seconds that a silent server is given
AT_ONCE = GREETING / 2


def stop(here):
    here.stop()


def say_nothing(here):
    here.on("connect", silence())


def greet_with_421(here):
    here.on("greeting", reply("421 4.3.2 Service shutting down"), close())


OUTAGES = [stop, say_nothing, greet_with_421]


@pytest.fixture
def here(lab, start_server):
    """The local server."""
    return start_server(lab.local_host, "local.test", LOCAL)


@pytest.fixture
def splitmx(lab, start_daemon):
    with_fallback = {"to": "local", "fallback": "gmail"}
    return start_daemon(
        relays={"local": {"next-hop": f"smtp:[{LOCAL}]"}, "gmail": lab.gmail_relay},
        routes={BOSS: with_fallback, ABSENT: with_fallback, ONLY: "local"},
        timeouts={"connect": "1s", "greeting": f"{GREETING:g}s"})


def ask(splitmx, recipient):
    """The answer to RCPT, and after how many seconds it came."""
    with splitmx.client() as client:
        client.mail()
        began = time.monotonic()
        answer = client.rcpt(recipient)
        return answer, time.monotonic() - began


@pytest.mark.parametrize("outage", OUTAGES)
def test_who_has_a_fallback_is_at_gmail_and_who_has_none_is_deferred(lab, splitmx, here, gmail, outage):
    outage(here)
    sent = message()
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(BOSS) == 250
        assert client.rcpt(ONLY) == "451 4.4.1"
        assert client.data() == 354
        assert client.body(sent) == 250
    there = gmail.only_message()
    field = assert_relayed(there.data, sent)
    assert "by mx.example.com (splitmx fallback) with" in field
    assert there.recipients == [BOSS]
    assert there.connection.tls in ("TLSv1.2", "TLSv1.3")
    assert there.connection.sni == gmail.HOSTS[0]
    here.assert_has_nothing()


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("certificate", ["wrong_name", "expired", "none"])
def test_gmail_with_a_wrong_certificate_gets_nothing(lab, splitmx, here, gmail, outage, certificate):
    outage(here)
    gmail.certificate = getattr(lab, certificate, None)
    answer, _ = ask(splitmx, BOSS)
    assert answer == "451 4.7.5"
    assert gmail.connections != []
    gmail.assert_has_nothing()
    assert not any(line.startswith((b"MAIL", b"RCPT")) for line in gmail.commands())


def test_another_gmail_host_is_asked_when_one_has_a_wrong_certificate(lab, splitmx, here, gmail):
    here.stop()
    gmail.certificates = {"192.0.2.101": lab.wrong_name, "2001:db8::101": lab.expired}
    assert splitmx.send(message(), BOSS) == 250
    assert gmail.only_message().connection.sni in gmail.HOSTS[1:3]


def test_both_away_is_a_matter_for_the_sender(splitmx, here, gmail):
    here.stop()
    gmail.stop()
    try:
        assert ask(splitmx, BOSS)[0] == "451 4.4.1"
    finally:
        gmail.start()


def told_at(client, stage):
    """What is said of a message for BOSS at a stage; what comes before has to be well."""
    said = client.rcpt(BOSS)
    if stage in ("data", "eod"):
        assert said == 250
        said = client.data()
    if stage == "eod":
        assert said == 354
        said = client.body(message())
    return said


@pytest.mark.parametrize("stage, answer", [("mail", "550 5.7.26 not authenticated"), ("rcpt", "550 5.2.1 inactive"),
                                           ("data", "554 5.7.0 no"), ("eod", "552 5.2.2 full")])
def test_what_gmail_refuses_in_an_outage_is_no_bounce(splitmx, here, gmail, stage, answer):
    here.stop()
    gmail.on(stage, reply(answer))
    with splitmx.client() as client:
        client.mail()
        assert told_at(client, stage) == "451 4.4.1"


def test_a_user_that_gmail_does_not_know_is_no_bounce_in_an_outage(splitmx, here, gmail):
    here.stop()
    assert ask(splitmx, ABSENT)[0] == "451 4.4.1"
    assert any(line.startswith(b"RCPT") for line in gmail.commands())


@pytest.mark.parametrize("stage, answer, passed_on", [
    ("rcpt", "450 4.2.0 Greylisted", "450 4.2.0"),
    ("rcpt", "452 4.2.2 Over quota", "452 4.2.2"),
    ("rcpt", "550 5.1.1 User unknown", "550 5.1.1"),
    ("rcpt", "550 5.7.1 Blocked", "550 5.7.1"),
    ("rcpt", "421 4.7.0 Too fast", "451 4.7.0"),
    ("mail", "451 4.7.1 Later", "451 4.7.1"),
    ("mail", "550 5.7.1 Not you", "550 5.7.1"),
    ("greeting", "554 5.3.2 No", "451 4.3.0"),
    ("data", "451 4.3.0 Later", "451 4.3.0"),
    ("eod", "452 4.3.1 No room", "452 4.3.1"),
    ("eod", "554 5.7.1 Spam", "554 5.7.1"),
])
def test_the_local_servers_policy_never_reaches_gmail(splitmx, here, gmail, stage, answer, passed_on):
    here.on(stage, reply(answer), *([close()] if answer.startswith("421") else []))
    for _ in range(4):  # nor after as many as would be an outage
        with splitmx.client() as client:
            client.mail()
            assert told_at(client, stage) == passed_on
    gmail.assert_never_asked()


def test_a_message_that_comes_back_from_the_fallback_is_not_sent_there_again(splitmx, here, gmail):
    here.stop()
    assert splitmx.send(message(), BOSS) == 250
    came_back = gmail.only_message().data
    assert splitmx.send(came_back, BOSS) == "451 4.4.6"
    assert len(gmail.messages) == 1


# Health: what is known to be down is not asked.


@pytest.mark.parametrize("outage", [say_nothing, greet_with_421])
def test_after_the_first_failures_nobody_waits_or_asks(splitmx, here, gmail, outage):
    outage(here)
    for _ in range(4):
        assert ask(splitmx, BOSS)[0] == 250

    def known():  # a probe has the last word, and takes its time at a silent server
        with here.board:
            before = len(here.connections)
        took = [ask(splitmx, recipient)[1] for recipient in (BOSS, ONLY, BOSS)]
        with here.board:
            return len(here.connections) == before and max(took) < AT_ONCE

    poll(known, "the outage to be known", timeout=10)
    with here.board:
        before = len(here.connections)
    for recipient, wanted in [(BOSS, 250), (ONLY, "451 4.4.1")] * 5:
        answer, took = ask(splitmx, recipient)
        assert answer == wanted and took < AT_ONCE, (answer, took)
    with here.board:
        assert len(here.connections) <= before + 1  # a probe, perhaps


def test_back_at_the_local_server_seconds_after_it_returns(splitmx, here, gmail):
    here.stop()
    for _ in range(8):
        assert splitmx.send(message(), BOSS) == 250
    assert len(gmail.messages) == 8
    here.start()

    def is_back():
        assert splitmx.send(message(), BOSS) == 250  # wherever: no mail is lost or deferred on the way back
        return here.messages

    poll(is_back, "mail at the local server again", timeout=25, interval=0.25)
    asked = len(gmail.messages)
    for recipient in (BOSS, ONLY) * 2:
        assert splitmx.send(message(), recipient) == 250
    assert len(here.messages) == 5 and len(gmail.messages) == asked


def test_a_probe_leaves_no_mail_behind(splitmx, here, gmail):
    greet_with_421(here)
    for _ in range(5):
        assert ask(splitmx, BOSS)[0] == 250
    here.forget()
    here.wait_for(lambda: any(connection.verbs() == ["EHLO", "QUIT"] for connection in here.connections), "a good probe", timeout=15)
    assert all(set(connection.verbs()) <= {"EHLO", "QUIT"} for connection in here.connections)
