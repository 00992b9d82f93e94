"""Two queueing Postfix servers send through splitmx: what they make of splits, of 4xx answers and of the lower MX."""

import pytest

from lab.laboratory import KING
from splitmx_test import peers
from splitmx_test.messages import message, split_trace
from splitmx_test.upstream import reply

USER, USER2, KINGMAIL, GREY = "user@example.com", "user2@example.com", "kingmail@example.com", "grey@example.com"


@pytest.fixture(scope="module")
def splitmx(lab, module_daemon):
    return module_daemon(
        relays={"local": {"next-hop": f"smtp:[{lab.local.plain}]"}, "grey": {"next-hop": "smtp:[10.89.0.25]"}},
        routes={USER: "local", USER2: "local", GREY: "grey", KINGMAIL: "smtp:[kingmailer.org]"})


@pytest.fixture
def town(lab, splitmx, local, start_server):
    class Town:
        king = start_server(lab.far, "kingmailer.org", KING)
        lower = start_server(lab.lower, "lower.example.com")
        grey = start_server(lab.local_host, "grey.test", "10.89.0.25")
        senders = lab.senders

        def send(self, server, *recipients, **keywords):
            sent = message()
            server.send(sent, *recipients, **keywords)
            return sent

        def settle(self):
            for sender in self.senders:
                try:
                    sender.await_empty_queue()
                except AssertionError as late:
                    raise AssertionError("\n".join([str(late), "splitmx:", *splitmx.lines[-20:]])) from None
                assert "status=bounced" not in sender.log()[self.logs[sender]:], sender.log()[-3000:]

    town = Town()
    town.local = local
    town.logs = {sender: len(sender.log()) for sender in town.senders}
    return town


def assert_came_by_us(copy, sent):
    """Our field in front of the sender's own, and behind them what the sender was given."""
    ours, rest = split_trace(copy.data)
    theirs, rest = split_trace(rest)
    assert b"by mx.example.com (splitmx)" in ours and b"by sender" in theirs
    assert rest == sent


def test_two_senders_split_at_once_and_nothing_comes_twice(town):
    sent = [(sender, town.send(sender, USER, KINGMAIL)) for sender in town.senders for _ in range(5)]
    town.settle()
    assert len(town.local.await_new("user", 10)) == 10
    copies = town.king.await_messages(10)
    assert len(copies) == 10
    for sender, text in sent:
        king = [copy for copy in copies if copy.data.endswith(text)]
        mailbox = [mail for mail in town.local.new("user") if mail.endswith(text.replace(b"\r\n", b"\n"))]
        assert (len(king), len(mailbox)) == (1, 1)
        assert_came_by_us(king[0], text)
        assert f"by {sender.name}.test".encode() in king[0].data
        assert sum("(splitmx)" in line for line in peers.in_front_of(mailbox[0], text)) == 1
        assert king[0].recipients == [KINGMAIL]
    assert town.lower.connections == []


def test_a_recipient_deferred_goes_to_the_lower_mx_and_the_other_does_not(town):
    town.grey.on("rcpt", reply("450 4.2.0 greylisted"))
    sent = town.send(town.senders[0], GREY, KINGMAIL)
    town.settle()
    assert_came_by_us(town.king.only_message(), sent)
    assert town.lower.only_message().recipients == [GREY]
    town.grey.assert_has_nothing()


def test_a_recipient_deferred_everywhere_comes_from_the_queue(town):
    town.grey.on("rcpt", reply("450 4.2.0 greylisted"), times=1)
    town.lower.on("rcpt", reply("450 4.2.0 greylisted"))
    sent = town.send(town.senders[1], GREY, KINGMAIL)
    town.settle()
    assert_came_by_us(town.king.only_message(), sent)
    assert_came_by_us(town.grey.only_message(), sent)
    town.lower.assert_has_nothing()


def test_a_recipient_whose_server_is_away_waits_in_the_queue(town):
    """And not at the lower MX only: the server that has the mailbox gets it once it is back."""
    town.grey.stop()
    town.lower.on("rcpt", reply("450 4.2.0 not here"))
    sent = town.send(town.senders[0], GREY, KINGMAIL)
    town.senders[0].await_log("to=<grey@example.com>", "status=deferred", after=town.logs[town.senders[0]])
    assert_came_by_us(town.king.only_message(), sent)
    town.grey.start()
    town.settle()
    assert_came_by_us(town.grey.only_message(), sent)
    assert len(town.king.messages) == 1


def test_a_split_that_one_refuses_at_the_end_of_data_is_retried_whole(town):
    """The other had not been told when the first refused: nobody has it twice."""
    town.king.on("eod", reply("451 4.3.0 disk full"), times=1)
    town.lower.on("rcpt", reply("450 4.2.0 not here"))
    sent = town.send(town.senders[0], USER, KINGMAIL)
    town.settle()
    assert_came_by_us(town.king.only_message(), sent)
    assert len(town.king.refused) == 1
    assert len(town.local.await_new("user")) == 1


def test_an_unknown_recipient_bounces_at_once_and_the_others_arrive(town):
    sender = town.senders[0]
    town.send(sender, "absent@example.com", USER, KINGMAIL, sender="")  # nobody is to be told
    sender.await_empty_queue()
    bounced = sender.await_log("to=<absent@example.com>", "dsn=5.7.1", "status=bounced", after=town.logs[sender])
    assert "relay=mx.example.com[" in bounced
    assert len(town.local.await_new("user")) == 1
    town.king.only_message()
    assert town.lower.connections == []
