"""
The twenty faults, a test (or more) for each, by number: what the client sees, and who has a copy.

  1 upstream refuses the connection           11 over the size limit
  2 SYN black hole                            12 an upstream stops reading
  3 upstream greets 421 or 554                13 A 250, then B 4xx at commit       test_ledger_faults.py
  4 TLS stripped, certificate wrong           14 A 250, then B 5xx at commit       test_ledger_faults.py
  5 A 250, B 550 to RCPT                      15 B silent after end-of-data
  6 every RCPT refused, DATA pipelined        16 B says 250 before its end-of-data
  7 A 354, B 451 to DATA                      17 B sends endless 250-, or 25 and FIN
  8 B resets in mid-body                      18 SIGTERM with mail in flight
  9 client resets or half-closes in mid-body  19 SIGKILL after the upstreams' 250
 10 TLS cut in mid-body, then clear bytes     20 DNS, descriptors, memory          the ledger: test_ledger_faults.py

The same by stage, kind and number of legs: test_fault_table.py. A test with a split that does not settle has a daemon of its own,
for that is remembered.
"""

import contextlib
import re
import threading
import time
from pathlib import Path

import pytest

from splitmx_test.client import Gone, stuff
from splitmx_test.daemon import is_sanitized
from splitmx_test.faults import BlackHole
from splitmx_test.messages import assert_relayed, message
from splitmx_test.queueing import QueuedMessage
from splitmx_test.upstream import assert_no_copy, call, close, early, raw, reply, reset, silence, wait
from splitmx_test.waiting import free_port, poll

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"
MIB = 1024 * 1024
MIDDLE = b"this is the MIDDLE\r\n"


def ask(daemon, *recipients):
    """The answers to the RCPTs of a transaction that goes no further."""
    with daemon.client(timeout=30) as client:
        client.mail()
        return [client.rcpt(recipient) for recipient in recipients]


def with_fallback(start_split, next_hop, **settings):
    """LOCAL's server is at next_hop and may be replaced by `third`; KING's server is well."""
    split = start_split(start=False, **settings)
    split.daemon.settings["relays"]["local"]["next-hop"] = next_hop
    split.daemon.write_routes({LOCAL: {"to": "local", "fallback": "third"}, "user2@example.com": "local", KING: "kingmailer"})
    split.daemon.write_config()
    split.daemon.start()
    return split


def assert_detour(split, sent):
    """user@ may go elsewhere and has; user2@, who may not, is put off; kingmail@ is not affected."""
    with split.client(timeout=30) as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt("user2@example.com").code == 451
        assert client.rcpt(KING) == 250
        assert client.data() == 354
        assert client.body(sent) == 250
    for upstream, recipient in ((split.third, LOCAL), (split.kingmailer, KING)):
        kept = upstream.only_message()
        assert kept.recipients == [recipient]
        assert_relayed(kept.data, sent)


# 1 to 6: before DATA


def test_01_a_refused_connection_is_451_4_4_1_for_its_own_recipients(split):
    split.local.stop()
    try:
        with split.client() as client:
            client.mail()
            assert client.rcpt(LOCAL) == "451 4.4.1"
            assert client.rcpt(KING) == 250
            assert client.data() == 354
            assert client.body(message()) == 250
    finally:
        split.local.start()
    assert split.kingmailer.only_message().recipients == [KING]


def test_01_a_refused_connection_leads_to_the_fallback(start_split):
    assert_detour(with_fallback(start_split, f"smtp:[127.0.0.1]:{free_port()}"), message())


def test_02_a_black_hole_is_451_4_4_1_within_the_connect_time_and_then_at_once(start_split):
    with BlackHole("127.0.0.9", free_port("127.0.0.9")) as hole:
        split = with_fallback(start_split, hole.next_hop, timeouts={"connect": "1s"})
        assert [str(answer)[1:10] for answer in ask(split.daemon, "user2@example.com", KING)] == ["451 4.4.1", "250 2.1.5"]
        assert_detour(split, message())
        ask(split.daemon, LOCAL)
        split.daemon.await_log("event=endpoint-down")
        began = time.monotonic()
        for _ in range(20):
            assert ask(split.daemon, "user2@example.com", LOCAL, KING)[0] == "451 4.4.1"
        assert time.monotonic() - began < 15, "each waited for a time-out"


@pytest.mark.parametrize("greeting, said", [("421 4.3.2 going down", "451 4.4.1"), ("554 5.3.2 no service", "451 4.3.0")])
def test_03_what_a_greeting_refuses_is_451(start_split, greeting, said):
    split = start_split()
    split.local.on("greeting", reply(greeting), close())
    first, second = ask(split.daemon, LOCAL, KING)
    assert first == said and second == 250


def test_03_a_greeting_421_leads_to_the_fallback_and_554_does_not(start_split, start_upstream):
    busy = start_upstream("busy.test")
    split = with_fallback(start_split, busy.next_hop)
    busy.on("greeting", reply("554 5.3.2 no service"), close(), times=1)
    assert ask(split.daemon, LOCAL)[0] == "451 4.3.0" and split.third.connections == []
    busy.on("greeting", reply("421 4.3.2 going down"), close())
    assert_detour(split, message())


@pytest.mark.parametrize("how", ["not offered", "454", "502", "wrong name", "stranger", "expired"])
def test_04_without_the_tls_that_is_required_nothing_is_said_in_clear(start_daemon, start_upstream, start_tls_upstream, ca, stranger, how):
    certificate = {"wrong name": lambda: ca.issue("other.test"), "stranger": lambda: stranger.issue("king.test"),
                   "expired": lambda: ca.issue("king.test", days=-1)}.get(how, lambda: ca.issue("king.test"))()
    king, local = start_tls_upstream("king.test", certificate), start_upstream("local.test")
    if how == "not offered":
        king.use(None)
    elif how in ("454", "502"):
        king.on("starttls", reply(f"{how} {how[0]}.7.0 no TLS here"))
    relay = {"next-hop": king.next_hop, "tls": "verify", "tls-name": "king.test", "ca-file": str(ca.file)}
    daemon = start_daemon(relays={"king": relay, "local": {"next-hop": local.next_hop}}, routes={KING: "king", LOCAL: "local"})
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(KING) == "451 4.7.5"
        assert client.rcpt(LOCAL) == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    assert local.only_message().recipients == [LOCAL]
    assert {line.split(b" ")[0] for line in king.commands()} <= {b"EHLO", b"HELO", b"STARTTLS", b"QUIT"}
    king.assert_has_nothing()


def test_05_one_refused_recipient_keeps_nobody_else_from_the_message(split):
    split.kingmailer.on("rcpt", reply("550 5.1.1 unknown"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING).lines == ["550 5.1.1 unknown"]
        assert client.data() == 354
        assert client.body(message()).text.startswith("2.0.0 Ok: queued as local.test")
    assert split.local.only_message().recipients == [LOCAL]
    assert "DATA" not in [verb for connection in split.kingmailer.connections for verb in connection.verbs()]


def test_06_data_pipelined_behind_refused_recipients_is_554_never_354(split):
    split.local.on("rcpt", reply("550 5.1.1 unknown"))
    split.kingmailer.on("rcpt", reply("450 4.2.0 greylisted"))
    with split.client() as client:
        client.send(f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nDATA\r\nNOOP\r\n")
        assert [str(answer)[1:10] for answer in client.replies(5)] == ["250 2.1.0", "550 5.1.1", "450 4.2.0", "554 5.5.1", "250 2.0.0"]
    for upstream in (split.local, split.kingmailer):
        assert b"DATA" not in upstream.commands()


# 7 to 12: DATA and the body


@pytest.mark.parametrize("recipients", [(LOCAL, KING), (KING, LOCAL), (LOCAL, KING, THIRD)])
def test_07_one_that_refuses_data_is_451_4_3_0_and_the_others_are_abandoned(start_split, recipients):
    split = start_split()
    others = [split.local, split.third][:len(recipients) - 1]
    split.kingmailer.on("data", reply("451 4.3.1 disk full"))
    with split.client() as client:
        client.mail()
        assert all(client.rcpt(recipient) == 250 for recipient in recipients)
        answer = client.data()
        assert answer == "451 4.3.0" and "disk full" in answer.text
        for other in others:
            assert other.await_all_ended() == ["rst"]
        assert client.cmd("NOOP") == 250
    for upstream in split.upstreams:
        upstream.assert_has_nothing()


@pytest.mark.parametrize("recipients", [(LOCAL, KING), (KING, LOCAL), (LOCAL, KING, THIRD)])
def test_08_one_that_resets_in_mid_body_is_451_4_4_2_and_no_copy_anywhere(start_split, recipients):
    split = start_split()
    split.kingmailer.on("body", reset(), at=MIDDLE)
    with split.client(timeout=30) as client:
        client.begin(*recipients)
        client.send(b"Subject: x\r\n\r\n" + MIDDLE)
        split.kingmailer.await_incomplete()
        answer = client.body(message(size=24 * MIB))  # drained, and answered behind its end
        assert answer == "451 4.4.2", answer
        assert client.send_mail(message(), THIRD, sender="other@client.test") == 250, "the session goes on"
    split.local.await_incomplete()
    split.local.assert_has_nothing()
    split.kingmailer.assert_has_nothing()
    assert len(split.third.ended_bodies) == 1


@pytest.mark.parametrize("action", [close(), reset(), reply("451 4.3.1 disk full")], ids=["fin", "rst", "words"])
@pytest.mark.parametrize("lost", ["local", "kingmailer"])
def test_08_one_that_was_lost_before_the_end_of_data_is_seen_before_any_commit(start_split, lost, action):
    """Though both are there to be seen in the same turn of the loop."""
    split = start_split()
    b, a = (split.local, split.kingmailer) if lost == "local" else (split.kingmailer, split.local)
    go, done = threading.Event(), threading.Event()
    b.on("body", wait(go), call(lambda _: done.set()), action, at=b"LAST")
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(b"Subject: x\r\n\r\nthe LAST line\r\n")
        for upstream in (a, b):
            upstream.await_body(b"LAST")
        with split.daemon.frozen():
            client.send(b"more\r\n")  # so that the client is first to be looked at
            go.set()
            assert done.wait(10)
            if action.__qualname__.startswith("reset"):
                b.await_incomplete()
            else:  # FIN and words are sent at once
                client.silent_for(0.1)
            client.send(b".\r\n")
        assert client.reply() == "451 4.4.2"
    a.await_incomplete()
    a.assert_has_nothing()


@pytest.mark.parametrize("leave", ["reset", "half_close", "close"])
@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING), (LOCAL, KING, THIRD)])
def test_09_a_client_that_leaves_in_mid_body_leaves_no_copy(split, leave, recipients):
    upstreams = split.upstreams[:len(recipients)]
    with split.client() as client:
        client.begin(*recipients)
        client.send(b"Subject: x\r\n\r\n" + MIDDLE)
        for upstream in upstreams:
            upstream.await_body(MIDDLE)
        getattr(client, leave)()
        assert_no_copy(*upstreams)


@pytest.mark.parametrize("clear", [b".\r\nQUIT\r\n", b"\r\n.\r\n", b"more\r\n.\r\n"])
def test_10_clear_bytes_in_a_protected_body_end_it_without_a_copy(secured, clear):
    cutter = secured.cutter().handshake()
    cutter.put(cutter.seal(f"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nDATA\r\n"))
    assert [cutter.reply()[:3] for _ in range(5)] == ["250", "250", "250", "250", "354"]
    cutter.put(cutter.seal(b"Subject: x\r\n\r\n" + MIDDLE))
    for upstream in (secured.local, secured.kingmailer):
        upstream.await_body(MIDDLE)
    cutter.put(clear)
    assert "250" not in cutter.await_end()
    assert_no_copy(secured.local, secured.kingmailer)


def test_11_over_the_size_limit_is_552_5_3_4_after_the_end_and_no_copy(start_split):
    split = start_split(limits={"message_size": "100K"})
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(stuff(message(size=101 * 1024)))
        for upstream in (split.local, split.kingmailer):
            upstream.await_incomplete()
        assert client.silent_for(0.1), "the answer comes after the end of data"
        client.send(b".\r\n")
        assert client.reply() == "552 5.3.4"
        assert client.mail(parameters=f"SIZE={101 * 1024}") == "552 5.3.4"
    assert_no_copy(split.local, split.kingmailer)


@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING)])
def test_12_one_that_stops_reading_is_451_4_4_2_in_bounded_memory_and_no_copy(start_split, recipients):
    split = start_split(timeouts={"data": "2s"})
    for _ in range(10):  # what is paid once is not this message's cost
        assert split.daemon.send(message(size=200_000), *recipients) == 250
    for upstream in split.upstreams:
        upstream.forget()
    go = threading.Event()
    split.local.on("body", wait(go), at=1000)
    wire = stuff(message(size=40 * MIB)) + b".\r\n"
    before, most = split.daemon.pss(), []
    with split.client(timeout=60) as client:
        client.begin(*recipients)
        sender = threading.Thread(target=client.send, args=(wire,))
        sender.start()
        while sender.is_alive():
            most.append(split.daemon.pss())
            sender.join(0.1)
        assert client.reply() == "451 4.4.2"
        go.set()
    assert is_sanitized() or max(most) - before < 4 * MIB, f"{(max(most) - before) / MIB:.1f} MiB more"
    assert_no_copy(*split.upstreams[:len(recipients)])


# 15 to 17: the end of data (13 and 14: test_ledger_faults.py)


@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING)])
def test_15_silence_after_end_of_data_is_451_4_4_2_and_logged_as_a_possible_duplicate(start_split, recipients):
    split = start_split(timeouts={"end_of_data": "1s"})
    for upstream in split.upstreams:
        upstream.on("eod", silence())
    assert split.daemon.send(message(), *recipients) == "451 4.4.2"
    split.daemon.await_log("event=may-be-delivered-twice")
    asked = [upstream for upstream in split.upstreams if upstream.ended_bodies]
    assert len(asked) == 1, "none is committed after one that did not answer"


@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING), (KING, LOCAL, THIRD)])
@pytest.mark.parametrize("word", [b"250 2.0.0 Ok: queued\r\n", b"250-2.0.0 Ok\r\n", b"2"], ids=["250", "half a reply", "a byte"])
def test_16_a_250_before_its_end_of_data_is_no_acceptance(start_split, recipients, word):
    split = start_split()
    split.local.on("body", early(word), at=MIDDLE)
    with split.client() as client:
        client.begin(*recipients)
        client.send(b"Subject: x\r\n\r\n" + MIDDLE)
        split.local.await_incomplete()  # the leg ends for it
        client.send(b"more\r\n.\r\n")
        assert client.reply() == 451
    for upstream in split.upstreams:
        upstream.assert_has_nothing()


def test_16_a_250_that_is_there_before_the_body_is_no_acceptance(start_split):
    split = start_split()
    split.local.on("data", raw(b"354 go on\r\n250 2.0.0 Ok: queued\r\n"))
    with split.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250 and client.rcpt(KING) == 250
        answer = client.data()
        assert (client.body(message()) if answer == 354 else answer) == 451
    for upstream in split.upstreams:
        upstream.assert_has_nothing()


def endless(connection):
    """Until the other side has had enough."""
    while not connection.upstream.stopped.is_set():
        connection.send(b"250-and so on\r\n" * 100)


@pytest.mark.parametrize("action", [call(endless), raw(b"250-and so on\r\n" * 99), raw(b"25"), raw(b"2"), raw(b"250"), raw(b"250 Ok")],
                         ids=["endless", "99 lines", "25", "2", "250 without end", "a line without end"])
@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING)])
def test_17_an_answer_without_end_is_no_acceptance(start_split, recipients, action):
    split = start_split()
    for upstream in split.upstreams:
        upstream.on("eod", action, close())
    assert split.daemon.send(message(), *recipients) == 451
    assert sum(len(upstream.ended_bodies) for upstream in split.upstreams) == 1, "none is committed after that"


# 18 and 19: the end of splitmx


@pytest.mark.parametrize("said", ["250 2.0.0 Ok: queued as 4711", "554 5.7.1 spam"])
def test_18_sigterm_lets_who_commits_have_the_true_result_and_no_other_a_copy(start_split, said):
    split = start_split(timeouts={"drain": "500ms"})
    go = threading.Event()
    split.local.on("eod", wait(go), reply(said))
    with split.client() as idle, split.client() as body, split.client() as commit:
        body.begin(KING, THIRD)
        body.send(b"Subject: x\r\n\r\n" + MIDDLE)
        for upstream in (split.kingmailer, split.third):
            upstream.await_body(MIDDLE)
        commit.begin(LOCAL).send(b"Subject: x\r\n\r\n.\r\n")
        split.local.wait_for(lambda: split.local.ended_bodies, "end of data")
        split.daemon.term()
        assert idle.reply() == "421 4.3.2" and idle.await_end()[0] == "fin"
        assert body.reply() == "421 4.3.2"
        assert_no_copy(split.kingmailer, split.third)
        assert commit.silent_for(1), "long past the drain"
        go.set()
        assert commit.reply().lines == [said]
        assert commit.reply() == "421 4.3.2"
    assert split.daemon.await_exit(timeout=20) == 0


def test_18_sigterm_lets_a_split_that_commits_be_committed_at_each(start_split):
    split = start_split(timeouts={"drain": "300ms"})
    go = threading.Event()
    for upstream in split.upstreams:
        upstream.on("eod", wait(go))
    sent = message()
    with split.client() as client:
        client.begin(LOCAL, KING, THIRD).send(stuff(sent) + b".\r\n")
        poll(lambda: any(upstream.ended_bodies for upstream in split.upstreams), "the first end of data")
        split.daemon.term()
        assert client.silent_for(1)
        go.set()
        assert client.reply() == 250
    assert split.daemon.await_exit(timeout=20) == 0
    for upstream in split.upstreams:
        assert_relayed(upstream.only_message().data, sent)


@pytest.mark.parametrize("accepted", [1, 2])
def test_19_killed_after_an_acceptance_nothing_is_lost_and_at_most_once_more_delivered(start_split, accepted):
    """The duplicate of RFC 1047: whoever dies between an acceptance and telling of it cannot know better."""
    split = start_split()
    said, dead = [], threading.Event()

    def die(connection):
        said.append(connection)
        if len(said) == accepted:
            split.daemon.freeze()  # so that it can do no more with what it hears
            connection.send(b"250 2.0.0 Ok: queued\r\n")
            split.daemon.kill()
            dead.set()
            return True
        return False

    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", call(die), times=1)
    sent = message()
    queued = QueuedMessage(split.daemon.where, sent, [LOCAL, KING]).attempt()
    assert queued.left == [LOCAL, KING] and queued.said(1, "end") is None, "nobody was told anything"
    assert dead.wait(20)
    split.daemon._expect_failure = False
    split.daemon.start()
    queued.run()
    assert all(answer == 250 for answer in queued.settled.values()), queued
    for upstream in (split.local, split.kingmailer):
        copies = upstream.await_messages(1)
        assert len(copies) <= 2, copies
        for copy in copies:
            assert_relayed(copy.data, sent)


# 20: what splitmx itself lacks (the ledger: test_ledger_faults.py)


def test_20_a_name_server_that_fails_is_451_4_4_3(start_daemon, start_upstream, dns):
    dns.fail("away.test")
    local = start_upstream("local.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes={KING: "smtp:[away.test]", LOCAL: "local"})
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(KING) == "451 4.4.3"
        assert client.rcpt(LOCAL) == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    local.only_message()


def serves(split):
    try:
        return split.daemon.send(message(), LOCAL, KING) == 250
    except (AssertionError, OSError, Gone):  # a 421 instead of the greeting, or nothing at all
        return False


def test_20_without_descriptors_clients_are_told_421_4_3_2_and_served_again_later(start_split):
    split = start_split(wrapper=["prlimit", "--nofile=200:200"], limits={"connections": 10_000})
    with contextlib.ExitStack() as stack:
        greetings = [stack.enter_context(split.client(hello=None)).greeting for _ in range(180)]
    assert {str(greeting)[1:10].replace("220 mx.sp", "220") for greeting in greetings} == {"220", "421 4.3.2"}
    poll(lambda: serves(split), "service as before", timeout=20, interval=0.1)


def fill_with_recipients(split):
    """Sessions that each hold a transaction of a thousand recipients, until some are refused: what those were told."""
    told = []
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            try:
                client = stack.enter_context(split.client())
                client.mail()
                for n in range(0, 1000, 10):  # a few at a time: it is recipients that take the memory, and not buffers
                    client.send("".join(f"RCPT TO:<{'x' * 50}{n + i}@example.com>\r\n" for i in range(10)))
                    told += [str(answer)[1:10] for answer in client.replies(10) if answer != 250]
            except (AssertionError, Gone, OSError) as gone:  # a 421 instead of the greeting, or nothing at all
                told.append(f"gone: {gone}")
            if "452 4.3.1" in told:
                break
    return told


def test_20_without_memory_recipients_are_told_452_4_3_1_and_served_again_later(start_split):
    if is_sanitized():
        pytest.skip("a sanitizer ends the process where memory ends")
    split = start_split(workers=1)
    assert serves(split)
    status = Path(f"/proc/{split.daemon.process.pid}/status").read_text()
    needs = int(re.search(r"VmData:\s+(\d+) kB", status).group(1)) * 1024
    split.daemon.stop()
    split.daemon.wrapper = ["prlimit", f"--data={needs + MIB}"]
    split.daemon.start()
    told = fill_with_recipients(split)
    assert "452 4.3.1" in told and set(told) <= {"452 4.3.1", "451 4.3.0"}, set(told)
    poll(lambda: serves(split), "service as before", timeout=20, interval=0.1)
