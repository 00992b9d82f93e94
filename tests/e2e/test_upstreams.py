"""Upstreams that are away, lost, old or hostile (design: section 6)."""

import re
import threading

import pytest

from splitmx_test.client import stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import call, chased_by, close, early, garbage, raw, reply, reset, silence

LOCAL, KING = "user@example.com", "kingmail@example.com"


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


def test_an_answer_to_rcpt_before_it_was_sent_is_none(start_daemon, start_upstream):
    """Without PIPELINING: what comes behind the answer to MAIL cannot be that to RCPT."""
    local = start_upstream("local.test", extensions=())
    local.on("mail", chased_by(b"250 2.1.5 Ok\r\n"))
    local.on("rcpt", reply("550 5.1.1 unknown"))
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes={"example.com": "local"})
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 451


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
