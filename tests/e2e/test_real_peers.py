"""Real servers behind splitmx, real clients before it: Postfix as local server, Exim as kingmailer, a third beside them."""

import os
import smtplib

import pytest

from splitmx_test import peers
from splitmx_test.daemon import Daemon
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import ScriptedUpstream

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and Exim want to be started by root")

USER, KING, THIRD = "user@example.com", "kingmail@example.com", "somebody@example.com"

TEXT = b"plain text\r\n.dot\r\n..dots\r\nFrom here\r\n\r\nend\r\n"


class Town:
    def __init__(self, postfix, exim, third, daemon):
        self.postfix, self.exim, self.third, self.daemon = postfix, exim, third, daemon


@pytest.fixture(scope="module")
def town():
    with peers.Postfix(recipients=("user", "user2")) as postfix, peers.Exim(recipients=("kingmail",)) as exim, \
            ScriptedUpstream("third.test") as third:
        with Daemon(map=f"kingmail@example.com     {exim.next_hop}\n"
                        f"user@example.com         {postfix.next_hop}\n"
                        f"user2@example.com        {postfix.next_hop}\n"
                        f"nobody@example.com       {postfix.next_hop}\n"
                        f"example.com              {third.next_hop}\n",
                    domains=["example.com"]) as daemon:
            yield Town(postfix, exim, third, daemon)


@pytest.fixture
def counted(town):
    """await_new("user", ...): exactly the messages that came since the test began."""
    town.third.forget()
    before = {user: len(peer.mailbox(user)) for peer, user in ((town.postfix, "user"), (town.postfix, "user2"), (town.exim, "kingmail"))}

    def await_new(peer, user, count=1):
        mails = peer.await_mail(user, before[user] + count)[before[user]:]
        assert len(mails) == count, f"{len(mails)} messages for {user} instead of {count}"
        return mails

    return await_new


def assert_arrived(mail, sent):
    trace = peers.in_front_of(mail, sent)
    ours = [line for line in trace if "(splitmx)" in line]
    assert len(ours) == 1, trace
    return ours[0]


def test_one_message_to_all_three_arrives_once_at_each(town, counted):
    sent = message()
    with town.daemon.client() as client:
        assert client.mail() == 250
        for recipient in (USER, KING, THIRD):
            assert client.rcpt(recipient) == 250
        unknown = client.rcpt("nobody@example.com")
        assert unknown.lines == ["550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown in virtual mailbox table"]
        assert client.rcpt("user@elsewhere.test") == "550 5.7.1"
        assert client.data() == 354
        answer = client.body(sent)
        assert answer == "250 2.0.0", answer
        client.quit()
    assert_arrived(counted(town.postfix, "user")[0], sent)
    assert_arrived(counted(town.exim, "kingmail")[0], sent)
    assert_relayed(town.third.only_message().data, sent)


def test_python_smtplib(town, counted):
    sent = message(TEXT)
    with smtplib.SMTP("127.0.0.1", town.daemon.port, local_hostname="smtplib.test") as client:
        refused = client.sendmail("a@client.test", [USER, KING, "nobody@example.com", THIRD], sent)
    assert set(refused) == {"nobody@example.com"} and refused["nobody@example.com"][0] == 550
    assert "smtplib.test" in assert_arrived(counted(town.postfix, "user")[0], sent)
    assert_arrived(counted(town.exim, "kingmail")[0], sent)
    assert_relayed(town.third.only_message().data, sent)


@pytest.mark.parametrize("client", [peers.swaks, peers.msmtp])
def test_command_line_clients(town, counted, client):
    sent = message(TEXT)
    result = client(town.daemon.port, "a@client.test", [USER, KING, THIRD], sent)
    assert result.returncode == 0, result
    assert f"{client.__name__}.test" in assert_arrived(counted(town.postfix, "user")[0], sent)
    assert_arrived(counted(town.exim, "kingmail")[0], sent)
    assert_relayed(town.third.only_message().data, sent)


def test_swaks_pipelining(town, counted):
    sent = message(TEXT)
    result = peers.swaks(town.daemon.port, "a@client.test", [USER, KING], sent, "--pipeline")
    assert result.returncode == 0, result
    assert_arrived(counted(town.postfix, "user")[0], sent)
    assert_arrived(counted(town.exim, "kingmail")[0], sent)


def test_msmtp_is_told_of_an_unknown_recipient(town):
    result = peers.msmtp(town.daemon.port, "a@client.test", ["nobody@example.com"], message(TEXT))
    assert result.returncode != 0 and b"550" in result.stderr


@pytest.mark.parametrize("recipient, where, user", [(USER, "postfix", "user"), (KING, "exim", "kingmail")])
def test_smtp_source_with_many_sessions(town, counted, recipient, where, user):
    result = peers.smtp_source(town.daemon.port, count=200, sessions=20, recipient=recipient)
    assert result.returncode == 0 and result.stderr == "", result
    mails = counted(getattr(town, where), user, 200)
    assert all(mail.count(b"(splitmx)") == 1 for mail in mails)


def test_an_abandoned_message_is_nowhere(town, counted):
    for leave in ("reset", "close"):
        client = town.daemon.client()
        client.begin(USER, KING)
        client.send(message(size=100_000))
        getattr(client, leave)()
    sent = message(TEXT)
    assert town.daemon.send(sent, USER, KING) == 250
    assert_arrived(counted(town.postfix, "user")[0], sent)
    assert_arrived(counted(town.exim, "kingmail")[0], sent)


def test_a_large_message_with_every_octet(town, counted):
    body = bytes(b for b in range(1, 256) if b not in (10, 13)) + b"\r\n"
    sent = message(body * 8000)
    assert town.daemon.send(sent, USER, KING) == 250
    assert_arrived(counted(town.postfix, "user")[0], sent)
    assert_arrived(counted(town.exim, "kingmail")[0], sent)
