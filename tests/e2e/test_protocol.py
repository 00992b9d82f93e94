"""SMTP as clients see it, in clear text (design: section 9)."""

import email.utils
import re
import threading
import time

import pytest

from splitmx_test.client import Gone, stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import reply, wait

LOCAL, KING = "user@example.com", "kingmail@example.com"


# Greeting and hello


def test_the_greeting_names_us_and_says_esmtp(split):
    with split.client(hello=None) as client:
        assert re.fullmatch(r"220 mx\.splitmx\.test ESMTP.*", client.greeting.lines[0])
        assert len(client.greeting.lines) == 1


def test_ehlo_offers_what_clear_text_can(split):
    with split.client() as client:
        first, *keywords = client.capabilities.texts
        assert first.split()[0] == "mx.splitmx.test"
        assert set(keywords) == {"PIPELINING", f"SIZE {50 * 1024 * 1024}", "8BITMIME", "ENHANCEDSTATUSCODES"}


def test_helo_works_without_extensions(split):
    sent = message()
    with split.client(hello=None) as client:
        answer = client.cmd("HELO old.client.test")
        assert answer == 250 and len(answer.lines) == 1
        assert client.send_mail(sent, LOCAL) == 250
    assert " with SMTP id " in assert_relayed(split.local.only_message().data, sent)


@pytest.mark.parametrize("line", ["EHLO", "HELO", "EHLO two words", "EHLO \x80\x81"])
def test_a_hello_without_a_proper_name_is_501(split, line):
    with split.client(hello=None) as client:
        client.send(line.encode("latin-1") + b"\r\n")
        assert client.reply() == 501


@pytest.mark.parametrize("name", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "under_score", "localhost", pytest.param("a" * 255, id="255 octets")])
def test_real_clients_hellos_are_taken(split, name):
    with split.client(hello=name) as client:
        assert client.mail() == 250


def test_commands_are_known_in_any_case(split):
    with split.client(hello=None) as client:
        assert client.cmd("ehLO client.test") == 250
        assert client.cmd("mail from:<a@client.test>") == 250
        assert client.cmd("Rcpt To:<user@example.com>") == 250
        assert client.cmd("rset") == 250
        assert client.cmd("quit") == 221


# The small commands


def test_the_small_commands(split):
    with split.client() as client:
        assert client.cmd("NOOP") == 250
        assert client.cmd("NOOP with words") == 250
        assert client.cmd("VRFY user") == 252
        assert client.cmd("HELP") == 214
        assert client.cmd("RSET") == 250
        assert client.cmd("EXPN staff") == 502
        assert client.cmd("WIZARD") == 502
        assert client.cmd("QUIT") == 221
        assert client.await_end() == ("fin", b"")


@pytest.mark.parametrize("line", ["AUTH PLAIN AGEAYg==", "XCLIENT ADDR=192.0.2.1", "XFORWARD ADDR=192.0.2.1", "BDAT 10 LAST",
                                  "STARTTLS", "ETRN example.com", "TURN", "PROXY TCP4 192.0.2.1 192.0.2.2 1 25"])
def test_what_is_not_offered_is_refused(split, line):
    with split.client() as client:
        assert client.cmd(line).code in (500, 502)
        assert client.cmd("NOOP") == 250


def test_every_reply_of_ours_has_an_enhanced_code(split):
    with split.client() as client:
        for line in ("NOOP", "RSET", "VRFY x", "EXPN x", "MAIL FROM:<a@client.test>", "RCPT TO:<x@elsewhere.test>", "DATA", "JUNK",
                     "MAIL FROM:<b@client.test>", "QUIT"):
            answer = client.cmd(line)
            assert answer.enhanced, (line, answer)
            assert answer.enhanced[0] == str(answer.code)[0], (line, answer)


def test_commands_out_of_order_are_503(split):
    with split.client(hello=None) as client:
        assert client.cmd("MAIL FROM:<a@client.test>") == 503
        client.cmd("EHLO client.test")
        assert client.cmd("RCPT TO:<user@example.com>") == 503
        assert client.cmd("DATA") == 503
        assert client.mail() == 250
        assert client.mail() == 503
        assert client.rcpt(LOCAL) == 250, "a second MAIL changes nothing"


def test_ehlo_in_mid_transaction_ends_it(split):
    with split.client() as client:
        client.mail()
        client.rcpt(LOCAL)
        assert client.cmd("EHLO again.test") == 250
        assert client.cmd("RCPT TO:<user@example.com>") == 503
        assert client.send_mail(message(), LOCAL) == 250


def test_rset_forgets_the_transaction_and_the_session_goes_on(split):
    with split.client() as client:
        client.mail("forgotten@client.test")
        client.rcpt(KING)
        assert client.cmd("RSET") == 250
        assert client.cmd("DATA") == 503
        assert client.send_mail(message(), LOCAL, sender="kept@client.test") == 250
    assert split.local.only_message().sender == "kept@client.test"
    assert not split.kingmailer.messages


# MAIL and RCPT


@pytest.mark.parametrize("line, code", [
    ("MAIL FROM:<a@client.test> SIZE=1000 BODY=8BITMIME", "250"), ("MAIL FROM:<a@client.test> BODY=7BIT", "250"),
    ("MAIL FROM:<>", "250"), ("MAIL FROM: <a@client.test>", "250"),
    ('MAIL FROM:<"odd one"@client.test>', "250"),
    ("MAIL FROM:<a@client.test> RET=HDRS", "555 5.5.4"), ("MAIL FROM:<a@client.test> SMTPUTF8", "555 5.5.4"),
    ("MAIL FROM:<a@client.test> AUTH=<>", "555 5.5.4"), ("MAIL FROM:<a@client.test> FOO", "555 5.5.4"),
    ("MAIL FROM:<a@client.test> SIZE=abc", "501"), ("MAIL FROM:<a@client.test> SIZE=1 SIZE=2", "501"),
    ("MAIL FROM:<a@client.test> BODY=BINARYMIME", "501"),
    ("MAIL", "501"), ("MAIL a@client.test", "501"), ("MAIL FROM:a@client.test", "501"), ("MAIL FROM:<a@client.test", "501"),
    ("MAIL FROM:<a@client.test> SIZE=52428800", "250"), ("MAIL FROM:<a@client.test> SIZE=52428801", "552 5.3.4"),
    ("MAIL FROM:<a@client.test> SIZE=99999999999999999999", "5"),
])
def test_mail_and_its_parameters(split, line, code):
    with split.client() as client:
        answer = client.cmd(line)
        assert answer.lines[-1].startswith(code), answer


@pytest.mark.parametrize("line, code", [
    ("RCPT TO: <user@example.com>", "250"), ("RCPT TO:<user@example.com> NOTIFY=NEVER", "555 5.5.4"),
    ("RCPT TO:<user@example.com> ORCPT=rfc822;x", "555 5.5.4"),
    ("RCPT", "501"), ("RCPT TO:user@example.com", "501"), ("RCPT TO:<user@example.com", "501"), ("RCPT user@example.com", "501"),
    ("RCPT TO:<>", "5"), pytest.param("RCPT TO:<" + "u" * 400 + "@example.com>", "501 5.1.3", id="over 320 octets"),
])
def test_rcpt_and_its_parameters(split, line, code):
    with split.client() as client:
        client.mail()
        answer = client.cmd(line)
        assert answer.lines[-1].startswith(code), answer


def test_an_8_bit_address_without_smtputf8_is_553(split):
    with split.client() as client:
        client.mail()
        assert client.cmd("RCPT TO:<us\u00e9r@example.com>") == "553 5.6.7"
        assert client.cmd("RSET") == 250
        assert client.cmd("MAIL FROM:<us\u00e9r@client.test>") == "553 5.6.7"


# Pipelining


def test_a_whole_transaction_in_one_segment_is_answered_in_order(split):
    sent = message()
    with split.client() as client:
        client.send(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<user@example.com>\r\nRCPT TO:<x@elsewhere.test>\r\n"
                    b"RCPT TO:<kingmail@example.com>\r\nDATA\r\n" + stuff(sent) + b".\r\nNOOP\r\nQUIT\r\n")
        assert [r.code for r in client.replies(8)] == [250, 250, 550, 250, 354, 250, 250, 221]
    for upstream in (split.local, split.kingmailer):
        assert_relayed(upstream.only_message().data, sent)


def test_ten_transactions_in_one_stream(split):
    sent = [message(f"{n}\r\n".encode()) for n in range(10)]
    with split.client() as client:
        client.send(b"".join(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<user@example.com>\r\nDATA\r\n" + stuff(m) + b".\r\n" for m in sent))
        assert [r.code for r in client.replies(40)] == [250, 250, 354, 250] * 10
    assert [assert_relayed(k.data, m)[:8] for k, m in zip(split.local.await_messages(10), sent)] == ["Received"] * 10


def test_answers_keep_their_order_when_upstreams_do_not(split):
    go = threading.Event()
    split.local.on("rcpt", wait(go))
    split.local.on("rcpt", reply("550 5.1.1 slow no"), when="nobody@")
    with split.client() as client:
        client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<user@example.com>\r\nRCPT TO:<kingmail@example.com>\r\nNOOP\r\n")
        assert client.reply() == 250
        assert client.silent_for(0.2), "no answer may overtake the one of the slow upstream"
        go.set()
        assert [r.code for r in client.replies(3)] == [250, 250, 250]


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_commands_may_come_in_any_pieces(split, cut):
    octets = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n"
    with split.client() as client:
        for i in range(0, len(octets), cut):
            client.send(octets[i:i + cut])
        assert [r.code for r in client.replies(5)] == [250, 250, 354, 250, 221]
    assert split.local.only_message().data.endswith(b"\r\nhello\r\n")


def test_the_body_behind_a_refused_data_is_not_a_body(split):
    """A client that pipelines DATA and the message without waiting: its body lines are commands, and the session says so."""
    with split.client() as client:
        client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<x@elsewhere.test>\r\nDATA\r\nNOOP\r\n")
        assert [r.code for r in client.replies(4)] == [250, 550, 554, 250]


# What is refused at once


@pytest.mark.parametrize("octets", [b"N" * 3000 + b"\r\n", b"NOOP " + b"x" * 2100 + b"\r\n", b"NOOP\n", b"NO\nOP\r\n"],
                         ids=["one long word", "long argument", "bare LF", "bare LF inside"])
def test_broken_lines_are_500_and_the_session_goes_on(split, octets):
    with split.client() as client:
        client.send(octets)
        assert client.reply() == "500 5.5.2"
        if octets == b"NO\nOP\r\n":
            assert client.reply().code in (500, 502)
        assert client.cmd("NOOP") == 250


def test_a_line_of_2048_octets_is_taken_and_one_more_is_not(split):
    with split.client() as client:
        assert client.cmd("NOOP " + "x" * (2048 - 7)) == 250
        assert client.cmd("NOOP " + "x" * (2048 - 6)) == "500 5.5.2"


def test_an_endless_line_does_not_stop_the_session(split):
    with split.client() as client:
        for _ in range(64):
            client.send(b"x" * 65536)
        client.send(b"\r\n")
        assert client.reply() == "500 5.5.2"
        assert client.cmd("NOOP") == 250


def test_an_early_talker_is_told_off(split):
    # Many, because only bytes that are there when the greeting is due count.
    caught = 0
    for _ in range(50):
        with split.client(hello=None, greet=False) as client:
            client.send("EHLO early.test\r\nMAIL FROM:<a@client.test>\r\n")
            first = client.reply()
            if first == "554 5.5.1":
                assert client.await_end()[0] in ("fin", "rst")
                caught += 1
            else:
                assert first == 220
    assert caught > 0


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /mail HTTP/1.0", "PUT / HTTP/1.1", "HEAD / HTTP/1.1", "CONNECT a:25 HTTP/1.1",
                                  "OPTIONS * HTTP/1.1", "Host: example.com", "User-Agent: x", "Content-Length: 5", "GET", "CONNECT x", "PRI", "Host:x"])
def test_http_is_no_client_of_ours(split, line):
    with split.client(hello=None) as client:
        client.send(line + "\r\nEHLO client.test\r\n")
        assert client.reply() == "554 5.5.1"
        assert client.await_end()[0] in ("fin", "rst")


def test_a_tls_handshake_in_clear_is_no_client_of_ours(split):
    with split.client() as client:
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)))
        assert client.reply() == "554 5.5.1"
        assert client.await_end()[0] in ("fin", "rst")
    line = split.daemon.await_log("with TLS")
    assert "event=session-dropped" in line


def test_a_nul_is_called_by_its_name(split):
    with split.client() as client:
        assert "NUL" in client.cmd("NOOP \0x").text


# Limits


def test_too_many_errors_end_the_session_and_a_4xx_is_none(start_split):
    split = start_split(limits={"errors": 5})
    split.local.on("rcpt", reply("450 4.2.0 greylisted"))
    split.kingmailer.on("rcpt", reply("550 5.1.1 unknown"))
    with split.client() as client:
        client.mail()
        for _ in range(10):
            assert client.rcpt(LOCAL) == "450 4.2.0"
        for n in range(5):
            try:
                answer = client.rcpt(KING)
            except Gone:
                break
            if answer == "421 4.7.0":
                break
            assert answer == 550, (n, answer)
        else:
            assert client.cmd("JUNK").code in (421, 502)
        assert client.await_end()[0] in ("fin", "rst")
        assert n >= 3, "ended too early"


def test_size_is_limited_at_mail_and_after_the_data(start_split):
    split = start_split(limits={"message_size": "100K"})
    limit = 100 * 1024
    with split.client() as client:
        assert f"SIZE {limit}" in client.capabilities.texts
        assert client.mail(parameters=f"SIZE={limit + 1}") == "552 5.3.4"
        assert client.begin(LOCAL, KING).body(message(size=limit)) == 250
        client.begin(LOCAL, KING)
        wire = stuff(message(size=limit + 1))
        client.send(wire)
        assert client.silent_for(0.05), "the answer comes after the end of data"
        client.send(b".\r\n")
        assert client.reply() == "552 5.3.4"
        assert client.begin(LOCAL).body(message(size=5 * limit)) == "552 5.3.4"
        assert client.send_mail(message(), LOCAL) == 250, "the session goes on"
    split.local.await_incomplete(2)
    assert len(split.local.ended_bodies) == 2 and len(split.kingmailer.ended_bodies) == 1


def test_size_counts_the_message_unstuffed(start_split):
    split = start_split(limits={"message_size": "10K"})
    sent = message((b"." + b"x" * 8 + b"\r\n") * 800)
    sent += b"y" * (10 * 1024 - len(sent) - 2) + b"\r\n"
    assert len(sent) == 10 * 1024 and len(stuff(sent)) > 10 * 1024
    assert split.daemon.send(sent, LOCAL) == 250


def test_too_many_recipients_are_452(start_split):
    split = start_split(limits={"recipients": 5})
    with split.client() as client:
        client.mail()
        for n in range(5):
            assert client.rcpt(f"user{n}x@example.com") == 250
        assert client.rcpt(LOCAL) == "452 4.5.3"
        assert client.data() == 354
        assert client.body(message()) == 250
    assert len(split.third.only_message().recipients) == 5


def test_a_thousand_recipients_are_ordinary(split):
    with split.client(timeout=30) as client:
        client.send("MAIL FROM:<a@client.test>\r\n" + "".join(f"RCPT TO:<r{n}@example.com>\r\n" for n in range(1001)) + "DATA\r\n")
        codes = [r.code for r in client.replies(1003)]
        assert codes == [250] + [250] * 1000 + [452, 354]
        assert client.body(message()) == 250
    assert len(split.third.only_message().recipients) == 1000


def test_connections_of_one_client_are_limited(start_split):
    split = start_split(limits={"connections_per_client": 3})
    kept = [split.client() for _ in range(3)]
    with split.client(hello=None) as client:
        assert client.greeting == "421 4.7.0"
        assert client.await_end()[0] in ("fin", "rst")
    with split.client(source="127.0.0.2") as other:
        assert other.cmd("NOOP") == 250
    kept.pop().quit()
    deadline = time.monotonic() + 5
    while True:  # the place is free once the session is gone, which the client cannot see
        with split.client(hello=None) as client:
            if client.greeting == 220:
                break
        assert time.monotonic() < deadline
    for client in kept:
        assert client.cmd("NOOP") == 250
        client.close()


def test_connections_are_limited_in_all(start_split):
    split = start_split(limits={"connections": 4})
    kept = [split.client() for _ in range(4)]
    with split.client(hello=None) as client:
        assert client.greeting == "421 4.3.2"
        assert client.await_end()[0] in ("fin", "rst")
    for client in kept:
        assert client.cmd("NOOP") == 250
        client.close()


# Time


def test_an_idle_client_is_told_421(start_split):
    split = start_split(timeouts={"command": "300ms"})
    with split.client() as client:
        assert client.reply() == "421 4.4.2"
        assert client.await_end()[0] == "fin"


def test_an_endless_command_a_byte_at_a_time_does_not_last_forever(start_split):
    split = start_split(timeouts={"command": "500ms"})
    with split.client() as client:
        deadline = time.monotonic() + 5
        client.sock.settimeout(0.1)
        while True:
            assert time.monotonic() < deadline, "a byte now and then kept the session alive"
            try:
                client.send("N")
                answer = client.reply()
                break
            except (Gone, OSError):
                return
            except AssertionError:
                continue
        assert answer == "421 4.4.2"


def test_a_client_that_stops_in_its_body_is_421_and_leaves_no_copy(start_split):
    split = start_split(timeouts={"data": "500ms", "command": "500ms"})
    with split.client() as client:
        client.begin(LOCAL, KING)
        client.send(b"Subject: never ends\r\n")
        assert client.reply() == "421 4.4.2"
    split.local.await_incomplete()
    split.kingmailer.await_incomplete()
    split.local.assert_has_nothing()
    split.kingmailer.assert_has_nothing()


def test_a_client_that_does_not_read_its_replies_holds_nothing_up(split):
    slow = split.client(receive_buffer=2048)
    slow.sock.settimeout(0.5)
    try:
        for _ in range(200):
            slow.send(b"NOOP\r\n" * 5000)
    except OSError:
        pass
    assert split.daemon.send(message(), LOCAL) == 250
    slow.reset()


# Received


def test_received_says_what_the_design_says(split):
    sent = message()
    with split.client(hello="Helo.client.test") as client:
        assert client.send_mail(sent, LOCAL) == 250
    kept = split.local.only_message()
    field = assert_relayed(kept.data, sent)
    match = re.fullmatch(
        r"Received: from Helo\.client\.test \((\S+) \[127\.0\.0\.1\]\) by mx\.splitmx\.test \(splitmx\) with ESMTP id ([\w.-]+) "
        r"for <user@example\.com>; (.+)", field)
    assert match, field
    assert match.group(1) in ("unknown", "localhost")  # 127.0.0.1 has a name without asking anybody
    when = email.utils.parsedate_to_datetime(match.group(3))
    assert abs(when.timestamp() - time.time()) < 120
    raw_field = kept.data[:kept.data.index(b"\r\nFrom:")]
    assert all(len(line) <= 998 for line in raw_field.split(b"\r\n"))


@pytest.mark.parametrize("begin", [b" folded: into ours\r\n", b"\tby evil.test\r\n", b". by evil.test\r\n"], ids=["blank", "tab", "behind a dot"])
@pytest.mark.parametrize("cut", [1, 1 << 20], ids=["by octets", "whole"])
def test_a_message_that_begins_with_a_blank_does_not_go_on_with_our_field(split, begin, cut):
    """It has no header then (RFC 5322 2.2)."""
    with split.client() as client:
        client.begin(LOCAL)
        wire = begin + b"text\r\n.\r\n"
        for at in range(0, len(wire), cut):
            client.send(wire[at:at + cut])
        assert client.reply() == 250
    header, blank, body = split.local.only_message().wire.partition(b"\r\n\r\n")
    assert header.startswith(b"Received: from ") and header.count(b"\r\n ") + header.count(b"\r\n\t") == header.count(b"\r\n")
    assert b"evil.test" not in header and b"folded" not in header
    assert body == begin + b"text\r\n"


def test_received_names_a_client_whose_ptr_is_confirmed(start_split, dns):
    dns.add("2.0.0.127.in-addr.arpa", "PTR", "client-host.test")
    dns.add("client-host.test", "A", "127.0.0.2")
    dns.add("3.0.0.127.in-addr.arpa", "PTR", "liar.test")
    dns.add("liar.test", "A", "192.0.2.99")
    split = start_split()
    for source, name in (("127.0.0.2", "client-host.test"), ("127.0.0.3", "unknown")):
        split.fresh()
        sent = message()
        with split.client(source=source) as client:
            assert client.send_mail(sent, LOCAL) == 250
        assert f"({name} [{source}])" in assert_relayed(split.local.only_message().data, sent)


def test_a_dead_dns_server_holds_the_first_rcpt_up_for_at_most_five_seconds(start_split, dns):
    dns.silent("4.0.0.127.in-addr.arpa")
    split = start_split()
    with split.client(source="127.0.0.4") as client:
        client.mail()
        began = time.monotonic()
        assert client.rcpt(LOCAL) == 250
        assert time.monotonic() - began < 6.5


def test_received_has_no_for_when_there_are_several_recipients(split):
    sent = message()
    assert split.daemon.send(sent, LOCAL, KING) == 250
    ids = set()
    for upstream in (split.local, split.kingmailer):
        field = assert_relayed(upstream.only_message().data, sent)
        assert " for <" not in field
        ids.add(re.search(r" id (\S+?);", field).group(1))
    assert len(ids) == 1, "one transaction, one id"


def test_ids_of_transactions_differ(split):
    with split.client() as client:
        for _ in range(5):
            assert client.send_mail(message(), LOCAL) == 250
    ids = {re.search(rb"\bid\s+(\S+?)[;\s]", m.data).group(1) for m in split.local.await_messages(5)}
    assert len(ids) == 5


def test_ids_of_sessions_differ_whatever_worker_has_them(split):
    for _ in range(40):
        assert split.daemon.send(message(), LOCAL) == 250
    ids = [re.search(rb"\bid\s+(\S+?)[;\s]", m.data).group(1) for m in split.local.await_messages(40)]
    assert len(set(ids)) == 40, "ids repeat: " + ", ".join(sorted({i.decode() for i in ids if ids.count(i) > 1}))


def test_a_hello_cannot_forge_a_received_field_or_a_log_line(split):
    hello = 'x);(by"evil\\'
    sent = message()
    with split.client(hello=hello) as client:
        assert client.send_mail(sent, LOCAL) == 250
    field = assert_relayed(split.local.only_message().data, sent)
    assert field.count(" by mx.splitmx.test (splitmx) with ESMTP id ") == 1, field
    assert email.utils.parsedate_to_datetime(field.rsplit("; ", 1)[1])
    line = split.daemon.await_log(lambda l: "event=transaction" in l and "evil" in l)
    assert line.count("event=") == 1


def test_the_transaction_is_logged_in_one_line(split):
    assert split.daemon.send(message(), LOCAL, KING, sender="logged@client.test") == 250
    line = split.daemon.await_log(lambda l: "event=transaction" in l and "logged@client.test" in l)
    for wanted in ("127.0.0.1", "client.test", LOCAL, KING, "local", "kingmailer", "250", "session="):
        assert wanted in line, (wanted, line)


def test_lines_that_begin_with_a_dot_and_long_lines_are_never_commands(split):
    sent = message(b"x" * 1_000_000 + b"\r\n" + b".QUIT\r\n..\r\n" + b"y" * 70_000 + b"\r\nRSET\r\n")
    assert split.daemon.send(sent, LOCAL) == 250
    assert_relayed(split.local.only_message().data, sent)
