"""What really happened at an upstream is told: to the client, and so in the log's lines."""

import contextlib

import pytest

from splitmx_test.messages import message
from splitmx_test.upstream import close, garbage, raw, reply, reset, silence
from splitmx_test.waiting import poll

LOCAL = "user@example.com"


def refusal(split):
    """The answer to a RCPT that the upstream's greeting or EHLO decides; the log has it too."""
    with split.client() as client:
        client.mail()
        answer = client.rcpt(LOCAL)
    line = split.daemon.await_log("event=recipient")
    assert answer.lines[0] in line, line
    return answer.lines[0]


@pytest.mark.parametrize("stage, actions, words", [
    ("greeting", [reply("421 4.3.2 going down"), close()], "451 4.4.1 local: the greeting was 421 4.3.2 going down"),
    ("greeting", [reply("554-5.3.2 no service", "554 5.3.2 at all"), close()], "451 4.3.0 local: the greeting was 554 5.3.2 no service"),
    ("ehlo", [reply("450 4.7.1 not you")], "451 4.3.0 local: the answer to EHLO was 450 4.7.1 not you"),
    ("connect", [close()], "451 4.4.1 local: connection closed, waiting for the greeting"),
    ("connect", [reset()], "451 4.4.1 local: connection reset by peer, waiting for the greeting"),
    ("greeting", [raw(b"SSH-2.0-OpenSSH_9.2\r\n")], "451 4.4.1 local: the greeting is not an SMTP reply"),
    ("greeting", [garbage()], "451 4.4.1 local: the greeting is not an SMTP reply"),
], ids=["421", "554", "ehlo", "fin", "rst", "ssh", "garbage"])
def test_the_reason_of_an_upstream_that_does_not_serve(start_split, stage, actions, words):
    split = start_split()
    split.local.on(stage, *actions)
    assert refusal(split) == words


def test_an_upstream_that_is_silent_is_said_to_be(start_split):
    split = start_split(timeouts={"greeting": "200ms"})
    split.local.on("greeting", silence())
    assert refusal(split) == "451 4.4.1 local: timed out, waiting for the greeting"


def test_a_refused_connection_is_called_so(start_split):
    split = start_split()
    split.local.stop()
    assert refusal(split) == "451 4.4.1 local: connection refused"


def test_a_missing_socket_is_called_so(start_daemon, reachable_folder):
    daemon = start_daemon(relays={"local": {"next-hop": f"smtp:[unix:{reachable_folder}/none]"}}, routes={"example.com": "local"})
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(LOCAL).lines == ["451 4.4.1 local: no such file or directory"]


def test_what_an_upstream_says_unasked_is_passed_on(split):
    split.local.on("body", reply("421 4.3.2 shutting \x1bdown"), close(), at=b"MIDDLE")
    with split.client() as client:
        client.begin(LOCAL)
        client.send(b"Subject: x\r\n\r\nMIDDLE\r\n")
        split.local.await_incomplete()
        answer = client.body(message())
    assert answer.lines == ["451 4.4.2 local: said unasked: 421 4.3.2 shutting ?down"]
    assert answer.lines[0] in split.daemon.await_log("said unasked")


@pytest.mark.parametrize("code, words", [("SERVFAIL", "SERVFAIL"), ("REFUSED", "refused")])
def test_what_the_dns_server_said_is_passed_on(start_daemon, dns, code, words):
    name = f"{code.lower()}.test"
    dns.fail(name, code)
    daemon = start_daemon(relays={"local": {"next-hop": f"smtp:[{name}]"}}, routes={"example.com": "local"})
    with daemon.client() as client:
        client.mail()
        answer = client.rcpt(LOCAL)
    assert answer == "451 4.4.3" and words in answer.text, answer


def test_the_last_words_of_an_upstream_that_hangs_up_on_us_are_heard(start_split):
    """It refuses in mid-body and closes with bytes unread, so that our next write fails."""
    split = start_split()
    split.local.on("body", reply("552 5.3.4 far too big"), reset(), at=b"MIDDLE")
    with split.client() as client:
        client.begin(LOCAL)
        client.send(b"Subject: x\r\n\r\nMIDDLE\r\n")
        split.local.await_incomplete()
        poll(lambda: split.daemon.status()["upstreams"]["open"] == 0, "the loss to be seen")
        assert "far too big" in client.body(b"x" * 70 + b"\r\n").text


def test_our_own_lack_of_descriptors_is_not_the_relays_fault(start_split):
    split = start_split(wrapper=["prlimit", "--nofile=200:200"], limits={"connections-per-client": 1000})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(split.client()) for _ in range(95)]
        for client in clients:
            client.mail()
        answers = [str(client.rcpt(LOCAL))[1:10] for client in clients]
    assert set(answers) == {"250 2.1.5", "451 4.3.0"}, answers
    assert [one["state"] for one in split.daemon.status()["endpoints"]] == ["ok"]


# ---- the log, of who has what ----


def test_every_recipient_of_a_large_transaction_is_in_the_log(start_split):
    split = start_split()
    recipients = [f"somebody-with-a-long-name-{i:04}@example.com" for i in range(300)]
    with split.client() as client:
        assert client.send_mail(message(), *recipients) == 250
    split.daemon.await_log(lambda line: recipients[-1] in line)
    entries = [entry for line in split.daemon.lines if "event=transaction" in line or "event=recipients" in line
               for entry in line.split("recipients=")[1].split(" ")[0].strip('"').split(";") if "long-name" in entry]
    assert entries == [f"{one}=third:250" for one in recipients]


def test_the_log_says_where_a_message_is_that_was_accepted_by_one_of_two(start_split):
    split = start_split()
    split.local.on("eod", reply("550 5.7.1 not this one"), times=1)
    split.kingmailer.on("eod", reply("550 5.7.1 not this one"), times=1)
    with split.client() as client:
        assert client.send_mail(message(), LOCAL, "kingmail@example.com") == "451 4.3.0"
    line = split.daemon.await_log("event=transaction")
    assert ":250/refused" in line and ":250/none" in line, line
    with split.client() as client:
        split.local.on("eod", reply("450 4.2.2 later"), times=1)
        split.kingmailer.on("eod", reply("250 2.0.0 taken"), times=1)
        client.send_mail(message(), LOCAL, "kingmail@example.com", sender="another@client.test")
    assert "/refused" in split.daemon.await_log("event=transaction", count=2)
