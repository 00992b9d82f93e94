"""The built-in relay `gmail`, at hosts that have the names of Google's."""

import pytest

from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import close, reply

ONE, OTHER = "somebody@example.com", "somebody@example.net"


@pytest.fixture
def splitmx(lab, start_daemon):
    return start_daemon(domains=["example.com", "example.net"], relays={"gmail": lab.gmail_relay},
                        routes={"example.com": "gmail", "example.net": "gmail"})


def test_the_first_host_gets_it_with_tls_and_its_own_name(lab, splitmx, gmail):
    before = [lab.names.asked(name, "MX") for name in gmail.HOSTS]
    sent = message()
    assert splitmx.send(sent, ONE) == 250
    there = gmail.only_message()
    assert_relayed(there.data, sent)
    connection = there.connection
    assert (connection.tls, connection.sni) == ("TLSv1.3", gmail.HOSTS[0])
    assert connection.address in ("192.0.2.101", "2001:db8::101")
    assert not any(line.startswith((b"XCLIENT", b"PROXY")) for line in connection.commands)
    assert [lab.names.asked(name, "MX") for name in gmail.HOSTS] == before


@pytest.mark.parametrize("certificate", ["wrong_name", "expired", "none"])
def test_nothing_is_said_to_a_host_whose_certificate_does_not_hold(lab, splitmx, gmail, certificate):
    gmail.certificate = getattr(lab, certificate, None)
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(ONE) == "451 4.7.5"
    assert {connection.verbs()[0] for connection in gmail.connections} == {"EHLO"}
    assert not any(line.startswith(b"MAIL") for line in gmail.commands())


def test_an_authority_that_is_not_ours_is_not_believed(lab, start_daemon, gmail):
    splitmx = start_daemon(routes={"example.com": "gmail"})  # the system's authorities
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(ONE) == "451 4.7.5"
    assert not any(line.startswith(b"MAIL") for line in gmail.commands())


def test_two_domains_of_one_transaction_get_there_apart(splitmx, gmail):
    sent = message()
    with splitmx.client() as client:
        client.mail()
        assert [client.rcpt(recipient).code for recipient in (ONE, OTHER, "second@example.com", "second@example.net")] == [250] * 4
        assert client.data() == 354
        assert client.body(sent) == 250
    copies = gmail.await_messages(2)
    assert {tuple(copy.recipients) for copy in copies} == {(ONE, "second@example.com"), (OTHER, "second@example.net")}
    assert all(copy.data.endswith(sent) for copy in copies)


def test_with_split_defer_the_second_domain_comes_later(lab, start_daemon, gmail):
    splitmx = start_daemon(domains=["example.com", "example.net"], relays={"gmail": lab.gmail_relay}, split="defer",
                           routes={"example.com": "gmail", "example.net": "gmail"})
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(ONE) == 250
        assert client.rcpt(OTHER) == "452 4.5.3"
        assert client.rcpt("second@EXAMPLE.com") == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    assert gmail.only_message().recipients == [ONE, "second@EXAMPLE.com"]


def test_a_hundred_recipients_and_no_more(splitmx, gmail):
    with splitmx.client() as client:
        client.mail()
        assert [client.rcpt(f"user{n}@example.com").code for n in range(100)] == [250] * 100
        assert client.rcpt("user100@example.com") == "452 4.5.3"
        assert client.data() == 354
        assert client.body(message()) == 250
    assert len(gmail.only_message().recipients) == 100
    assert sum(line.startswith(b"RCPT") for line in gmail.commands()) == 100  # Gmail did not have to say so


@pytest.mark.parametrize("answer, passed_on", [("550 5.1.1 no such account", "550 5.1.1"), ("450 4.2.1 too fast", "450 4.2.1"),
                                               ("452 4.2.2 full", "452 4.2.2")])
def test_what_gmail_says_of_a_recipient_is_the_answer(splitmx, gmail, answer, passed_on):
    gmail.on("rcpt", reply(answer))
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(ONE) == passed_on


@pytest.mark.parametrize("stage", ["greeting", "mail", "rcpt", "eod"])
def test_after_421_4_7_28_there_is_no_new_transaction(splitmx, gmail, stage):
    gmail.on(stage, reply("421 4.7.28 Our system has detected an unusual rate of unsolicited mail. - gsmtp"), close())
    with splitmx.client() as client:
        if stage == "eod":
            said = client.send_mail(message(), ONE)
        else:
            client.mail()
            said = client.rcpt(ONE)
        assert said == "451 4.7.28"
    assert len(gmail.connections) == 1
    gmail.rules.clear()  # it would take mail again
    for recipient in (ONE, OTHER):
        with splitmx.client() as client:
            client.mail()
            assert client.rcpt(recipient) == "451 4.7.28"
    assert len(gmail.connections) == 1 and gmail.messages == []


def test_the_next_host_when_the_first_is_busy(splitmx, gmail):
    gmail.on("greeting", reply("421 4.3.0 Temporary System Problem"), close(),
             when=lambda step: step.connection.address in ("192.0.2.101", "2001:db8::101"))
    assert splitmx.send(message(), ONE) == 250
    assert gmail.only_message().connection.address in ("192.0.2.102", "192.0.2.103")
