"""TLS with clients that are hostile, broken or slow (design: sections 5 and 9; RFC 3207, RFC 8446)."""

import re
import signal
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from splitmx_test.client import Gone, stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.tls import TlsClient, library
from splitmx_test.upstream import assert_no_copy, slow, wait
from splitmx_test.waiting import poll

LOCAL, KING = "user@example.com", "kingmail@example.com"
VERSIONS = {"1.2": {"maximum_version": ssl.TLSVersion.TLSv1_2}, "1.3": {"minimum_version": ssl.TLSVersion.TLSv1_3}}
BOTH = pytest.mark.parametrize("version", VERSIONS)
MIB = 1024 * 1024


@pytest.fixture
def context(ca):
    return lambda version: ca.client_context(**VERSIONS[version])


def assert_serves(secured):
    with secured.secure_client() as client:
        assert client.cmd("NOOP") == 250


def stop(daemon):
    """SIGSTOP, which each thread obeys in its own time."""
    daemon.signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{daemon.process.pid}/task")
    poll(lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()), "all threads to stop")


# What is said in clear counts for nothing in TLS, nor the other way round


@pytest.mark.parametrize("behind", ["NOOP\r\n", "EHLO evil.test\r\nMAIL FROM:<evil@client.test>\r\n", "N", "\r\n", "\0"])
@pytest.mark.parametrize("how", ["same segment", "two segments", "while it does not run", "after the 220"])
def test_nothing_behind_starttls_is_ever_obeyed(secured, behind, how):
    with secured.client() as client:
        if how == "same segment":
            client.send("STARTTLS\r\n" + behind)
        elif how == "after the 220":
            assert client.cmd("STARTTLS") == 220
            client.send(behind + "A" * 8)  # enough to be seen to be no record
        else:
            if how == "while it does not run":
                stop(secured.daemon)
            client.send("STARTTLS\r\n")
            client.send(behind + "A" * 8)
            secured.daemon.signal(signal.SIGCONT)
        _, said = client.await_end()
    assert re.fullmatch(rb"(554 5\.5\.1 [^\r\n]*\r\n|(220 2\.0\.0 [^\r\n]*\r\n)?(\x15\x03.\0\x02..)?)", said, re.S), said
    if how in ("same segment", "while it does not run"):
        assert said.startswith(b"554 5.5.1 ")


def test_what_was_injected_before_a_true_handshake_is_not_obeyed(secured):
    """Somebody on the way puts a command between STARTTLS and the ClientHello."""
    with secured.client() as client:
        client.send("STARTTLS\r\nNOOP\r\n")
        with pytest.raises((Gone, AssertionError, ssl.SSLError, OSError)):
            client.reply()
            client.secure(secured.context)
            client.reply()


@pytest.mark.parametrize("command, answer", [("STARTTLS x", "501 5.5.4"), ("STARTTLS  now", "501 5.5.4")])
def test_starttls_with_an_argument_is_refused_and_without_it_goes_on(secured, command, answer):
    with secured.client() as client:
        assert client.cmd(command) == answer
        client.starttls(secured.context)
        assert client.send_mail(message(), LOCAL) == 250


def test_starttls_where_it_has_no_place(secured):
    with secured.client(hello=None) as client:
        assert client.cmd("STARTTLS") == 503
        client.cmd("EHLO client.test")
        client.mail()
        assert client.cmd("STARTTLS") == 503
        assert client.cmd("RSET") == 250
        client.starttls(secured.context)
        assert client.cmd("STARTTLS") == 503
        assert client.send_mail(message(), LOCAL) == 250
    with secured.client("none") as plain:
        assert "STARTTLS" not in plain.capabilities.texts
        assert plain.cmd("STARTTLS") == 502
        assert plain.send_mail(message(), LOCAL) == 250


@BOTH
def test_what_was_said_before_the_handshake_is_forgotten(secured, context, version):
    with secured.client(hello="before.test") as client:
        client.starttls(context(version), hello=None)
        assert client.mail() == 503
        assert client.rcpt(LOCAL) == 503
        assert client.data() == 503
        after = client.cmd("EHLO after.test")
        assert after == 250 and "STARTTLS" not in after.texts and "PIPELINING" in after.texts
        sent = message()
        assert client.send_mail(sent, LOCAL) == 250
    field = assert_relayed(secured.local.only_message().data, sent)
    assert "from after.test (" in field and " with ESMTPS id " in field and f"(TLSv{version} " in field
    assert "before.test" not in field


def test_helo_in_tls_and_tls_after_helo(secured):
    with secured.client(hello=None) as client:
        assert client.cmd("HELO client.test") == 250
        client.starttls(secured.context, hello=None)
        assert client.cmd("HELO client.test") == 250
        assert client.send_mail(message(), LOCAL) == 250
    assert b" with SMTP id " in secured.local.only_message().data


def test_encrypt_takes_no_transaction_in_clear_however_pipelined(secured):
    with secured.client("encrypt") as client:
        client.send(f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nDATA\r\nRSET\r\nVRFY x\r\n")
        assert [reply.code for reply in client.replies(5)] == [530, 503, 503, 250, 252]
        client.starttls(secured.context)
        assert client.send_mail(message(), LOCAL) == 250
    assert len(secured.local.messages) == 1


# Handshakes that are none, or never end


GARBAGE = {
    "words": b"EHLO client.test\r\n", "http": b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n", "zeros": bytes(100),
    "sslv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37), "sslv3": b"\x16\x03\x00\x00\x2f\x01" + bytes(46),
    "endless record": b"\x16\x03\x01\xff\xff\x01" + bytes(70000), "alert": b"\x15\x03\x01\x00\x02\x02\x00",
    "data": b"\x17\x03\x03\x00\x05abcde", "empty records": b"\x16\x03\x01\x00\x00" * 50, "random": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("mode", ["may", "implicit"])
@pytest.mark.parametrize("octets", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_handshake_ends_the_session_at_once(secured, mode, octets):
    with secured.client(mode, greet=mode == "may") as client:
        if mode == "may":
            assert client.cmd("STARTTLS") == 220
        try:
            client.send(octets)
        except OSError:
            pass
        how, said = client.await_end(timeout=5)
        assert b"220" not in said and b"250" not in said and b"554" not in said, said
    assert_serves(secured)


@pytest.mark.parametrize("mode", ["may", "implicit"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_handshake_that_stops_is_ended_in_time(start_secured, mode, share):
    secured = start_secured(timeouts={"command": "500ms"})
    cutter = secured.cutter(mode)
    hello = cutter.first_flight()
    began = time.monotonic()
    cutter.put(hello[:int(len(hello) * share)])
    cutter.await_end()
    assert 0.3 < time.monotonic() - began < 3
    secured.daemon.await_log("event=session-timed-out")
    assert_serves(secured)


def test_a_handshake_a_byte_now_and_then_has_the_same_time(start_secured):
    secured = start_secured(timeouts={"command": "700ms"})
    cutter = secured.cutter()
    hello = cutter.first_flight()
    began = time.monotonic()
    with pytest.raises(OSError):
        for octet in hello * 2:
            cutter.put(bytes([octet]))
            time.sleep(0.02)  # the client's own pace
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("mode", ["may", "implicit"])
@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("at", ["before", "hello", "finished"])
def test_a_client_that_leaves_in_the_handshake_is_gone(secured, mode, how, at):
    before = secured.daemon.descriptors()
    cutter = secured.cutter(mode)
    if at == "hello":
        cutter.put(cutter.first_flight()[:100])
    elif at == "finished":
        cutter.put(cutter.last_flight()[:20])
    if how == "rst":
        cutter.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER, 0 s
    cutter.sock.close()
    poll(lambda: secured.daemon.descriptors() <= before, "the descriptor back")
    assert_serves(secured)


@pytest.mark.threads
def test_a_thousand_in_mid_handshake_keep_nobody_out(start_secured):
    secured = start_secured(limits={"connections": 3000, "connections_per_client": 3000})
    assert_serves(secured)
    before = secured.daemon.descriptors()
    waiting = []
    try:
        for number in range(1000):
            cutter = secured.cutter("implicit")
            cutter.put(cutter.first_flight()[:50 + number % 100])
            waiting.append(cutter)
        began = time.monotonic()
        with secured.secure_client() as client:
            assert client.send_mail(message(), LOCAL) == 250
        assert time.monotonic() - began < 5
    finally:
        for cutter in waiting:
            cutter.sock.close()
    poll(lambda: secured.daemon.descriptors() <= before + 2, "all descriptors back")


@pytest.mark.measures
def test_what_a_thousand_in_mid_handshake_cost(start_secured):
    secured = start_secured(limits={"connections": 3000, "connections_per_client": 3000})
    for _ in range(20):
        assert_serves(secured)
    before = secured.daemon.pss()
    waiting = []
    for _ in range(1000):
        cutter = secured.cutter("implicit")
        waiting.append(cutter)
        cutter.put(cutter.first_flight())
    for cutter in waiting:
        cutter.last_flight()  # the server's part is done; ours is not sent
    cost = secured.daemon.pss() - before
    for cutter in waiting:
        cutter.sock.close()
    assert cost < 60 * MIB, f"{cost / MIB:.1f} MiB"


@pytest.mark.parametrize("mode", ["may", "implicit"])
def test_sigterm_does_not_wait_for_handshakes(start_secured, mode):
    secured = start_secured()
    cutter = secured.cutter(mode)
    cutter.put(cutter.first_flight()[:50])
    began = time.monotonic()
    secured.daemon.term()
    cutter.await_end()
    assert secured.daemon.await_exit() == 0
    assert time.monotonic() - began < 5


# ALPN and names


@pytest.mark.parametrize("offer, chosen", [(["smtp"], "smtp"), (["h2", "smtp"], "smtp"), (["h2", "esmtp", "http/1.1"], "esmtp")])
def test_who_means_mail_is_taken(secured, ca, offer, chosen):
    context = ca.client_context()
    context.set_alpn_protocols(offer)
    with secured.secure_client(context=context) as client:
        assert client.sock.selected_alpn_protocol() == chosen
        assert client.cmd("NOOP") == 250


@pytest.mark.parametrize("mode", ["may", "implicit"])
@pytest.mark.parametrize("offer", [["h2"], ["http/1.1", "h2"], ["imap"], ["smt"], ["smtps"]])
def test_who_means_another_protocol_is_not(secured, ca, mode, offer):
    context = ca.client_context()
    context.set_alpn_protocols(offer)
    with pytest.raises(ssl.SSLError, match="(?i)alert.no.application.protocol"):
        secured.secure_client(mode, context=context)


@BOTH
@pytest.mark.parametrize("mode", ["may", "implicit"])
@pytest.mark.parametrize("name", [None, "other.test", "x" * 60 + ".test"])
def test_no_name_or_another_is_no_reason_to_refuse(secured, context, version, mode, name):
    with secured.secure_client(mode, context=context(version), name=name) as client:
        assert client.sock.version() == f"TLSv{version}"
        assert client.send_mail(message(), LOCAL) == 250


# In TLS


@BOTH
def test_a_byte_at_a_time_gives_the_same(secured, context, version):
    sent = message(size=1500)
    cutter = secured.cutter(context=context(version)).handshake(cut=1)
    for command, answer in [("EHLO client.test", "250"), ("MAIL FROM:<a@client.test>", "250 2.1.0"), (f"RCPT TO:<{LOCAL}>", "250 2.1.5"),
                            ("DATA", "354")]:
        cutter.put(cutter.seal(command + "\r\n"), cut=1)
        assert cutter.reply().startswith(answer)
    cutter.put(cutter.seal(stuff(sent)) + cutter.seal(".\r\n"), cut=1)
    assert cutter.reply().startswith("250 2.0.0")
    assert_relayed(secured.local.only_message().data, sent)


@BOTH
@pytest.mark.parametrize("piece", [1, 3, 16384])
def test_records_of_any_size_give_the_same(secured, context, version, piece):
    sent = message(size=2000 if piece < 10 else 500_000)
    cutter = secured.cutter(context=context(version)).handshake()
    cutter.put(cutter.seal(f"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nDATA\r\n"))
    assert [cutter.reply()[:3] for _ in range(5)] == ["250", "250", "250", "250", "354"]
    wire = stuff(sent) + b".\r\n"
    cutter.put(b"".join(cutter.seal(wire[at:at + piece]) for at in range(0, len(wire), piece)))
    assert cutter.reply().startswith("250 2.0.0 ")
    for upstream in (secured.local, secured.kingmailer):
        assert_relayed(upstream.only_message().data, sent)


def test_commands_in_the_segment_of_the_last_handshake_message(secured):
    cutter = secured.cutter(context=secured.context)
    last = cutter.last_flight()
    cutter.put(last + cutter.seal(f"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nQUIT\r\n"))
    assert [cutter.reply()[:3] for _ in range(4)] == ["250", "250", "250", "221"]


def test_implicit_tls_words_before_the_greeting_are_refused(secured):
    cutter = secured.cutter("implicit")
    cutter.put(cutter.last_flight() + cutter.seal("EHLO client.test\r\n"))
    assert cutter.reply().startswith("554 5.5.1 ")
    assert cutter.await_end() == ""


def test_implicit_tls_greets_who_waits(secured):
    with secured.secure_client("implicit") as client:
        assert client.greeting == 220 and "STARTTLS" not in client.capabilities.texts
        assert client.cmd("STARTTLS") == 503
        assert client.send_mail(message(), LOCAL) == 250


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "Host: mx.splitmx.test"])
def test_http_in_tls_is_let_go(secured, line):
    with secured.secure_client() as client:
        assert client.cmd(line) == "554 5.5.1"
        assert client.await_end()[0] != "rst"


@BOTH
def test_the_last_words_are_read_whole(secured, context, version):
    """QUIT ends in order: 221, close_notify, FIN."""
    cutter = secured.cutter(context=context(version)).handshake()
    cutter.put(cutter.seal("QUIT\r\n"))
    assert cutter.reply().startswith("221")
    with pytest.raises(Gone) as gone:
        cutter.reply()
    assert gone.value.how == "close_notify"


@BOTH
def test_commands_pile_up_behind_one_that_waits(start_secured, context, version):
    """More than is held: the rest stays with the kernel, and every one is answered in its turn."""
    secured = start_secured(limits={"errors": 100_000})
    go = threading.Event()
    secured.local.on("rcpt", wait(go), times=1)
    count = 30_000
    cutter = secured.cutter(context=context(version)).handshake()
    cutter.put(cutter.seal("EHLO client.test\r\nMAIL FROM:<a@client.test>\r\n"))
    assert [cutter.reply()[:3] for _ in range(2)] == ["250", "250"]
    wire = cutter.seal(f"RCPT TO:<{LOCAL}>\r\n" + "NOOP\r\n" * count + "VRFY x\r\n")
    sender = threading.Thread(target=cutter.put, args=(wire,))
    sender.start()
    secured.local.await_command("RCPT")
    go.set()
    answers = cutter.read_until(b"252 ").split(b"\r\n")
    sender.join()
    assert answers[0].startswith(b"250 2.1.5 ") and answers[-2].startswith(b"252 ")
    assert answers[1:-2] == [b"250 2.0.0 Ok"] * count


@pytest.mark.parametrize("mode", ["may", "implicit"])
def test_the_last_words_of_a_session_come_in_tls(start_secured, mode):
    secured = start_secured(timeouts={"command": "1s"}, limits={"errors": 3})
    with secured.secure_client(mode) as idle, secured.secure_client(mode) as wrong:
        assert [wrong.cmd("WHAT").code for _ in range(4)] == [502, 502, 502, 421]
        assert idle.reply() == "421 4.4.2"
        assert idle.await_end()[0] == wrong.await_end()[0] == "fin"
    with secured.secure_client(mode) as last:
        secured.daemon.term()
        assert last.reply() == "421 4.3.2"
        assert last.await_end()[0] == "fin"
    assert secured.daemon.await_exit() == 0


@BOTH
def test_close_notify_is_answered_in_kind(secured, context, version):
    cutter = secured.cutter(context=context(version)).handshake()
    cutter.put(cutter.seal("EHLO client.test\r\n"))
    assert cutter.reply().startswith("250-")
    cutter.put(cutter.close_notify())
    assert cutter.await_end() == ""


# Cut off


def begin_body(secured, context):
    cutter = secured.cutter(context=context).handshake()
    cutter.put(cutter.seal(f"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nDATA\r\n"))
    for _ in range(5):
        assert cutter.reply()[:1] in "23"
    cutter.put(cutter.seal("Subject: x\r\n\r\nfirst\r\n"))
    secured.local.await_body(b"first")
    secured.kingmailer.await_body(b"first")
    return cutter


def in_clear(cutter):
    cutter.put(b"\r\n.\r\n")


def clear_after_close_notify(cutter):
    cutter.put(cutter.close_notify() + b"\r\n.\r\n")


def sealed_after_close_notify(cutter):
    record = cutter.seal("last\r\n.\r\n")
    other = cutter.close_notify()
    cutter.put(other + record)


def broken_record(cutter):
    record = bytearray(cutter.seal("last\r\n.\r\n"))
    record[-1] ^= 1
    cutter.put(bytes(record))


def replayed_record(cutter):
    record = cutter.seal("line\r\n")
    cutter.put(record + record + cutter.seal(".\r\n"))


def lost_record(cutter):
    cutter.seal("line\r\n")
    cutter.put(cutter.seal(".\r\n"))


def half_a_record(cutter):
    cutter.put(cutter.seal("last\r\n.\r\n")[:-1])
    cutter.sock.shutdown(1)


def close_notify_and_fin(cutter):
    cutter.put(cutter.close_notify())
    cutter.sock.shutdown(1)


def close_notify_alone(cutter):
    cutter.put(cutter.close_notify())


def fin_alone(cutter):
    cutter.sock.shutdown(1)


def rst(cutter):
    cutter.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
    cutter.sock.close()


def new_handshake_in_clear(cutter):
    cutter.put(GARBAGE["sslv3"])


@BOTH
@pytest.mark.parametrize("cut", [in_clear, clear_after_close_notify, sealed_after_close_notify, broken_record, replayed_record, lost_record,
                                 half_a_record, close_notify_and_fin, close_notify_alone, fin_alone, rst, new_handshake_in_clear])
def test_a_message_cut_off_in_tls_leaves_no_copy(secured, context, version, cut):
    cutter = begin_body(secured, context(version))
    cut(cutter)
    assert_no_copy(secured.local, secured.kingmailer)
    if cut is not rst:
        assert "250" not in cutter.await_end()
    assert_serves(secured)


@BOTH
@pytest.mark.parametrize("end", ["close_notify", "fin", "both"])
def test_a_message_that_is_whole_is_answered_though_nothing_follows(secured, context, version, end):
    """The end of data was protected; what ends the connection behind it says nothing about it."""
    cutter = begin_body(secured, context(version))
    last = cutter.seal("last\r\n.\r\n")
    if end != "fin":
        last += cutter.close_notify()
    cutter.put(last)
    if end != "close_notify":
        cutter.sock.shutdown(1)
    secured.local.await_messages(1)
    secured.kingmailer.await_messages(1)
    if end == "fin":
        assert cutter.reply().startswith("250 2.0.0 ")


# Too much of it


def test_renegotiation_is_refused(secured, context):
    cutter = secured.cutter(context=context("1.2")).handshake()
    library.renegotiate(cutter.tls._sslobj)
    cutter.put(cutter.first_flight())
    with pytest.raises(ssl.SSLError, match="(?i)no.renegotiation"):
        cutter.reply()
    assert_serves(secured)


def test_renegotiation_by_the_letter_of_openssl_is_refused(secured):
    """`openssl s_client` begins it at a line with R."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secured.ports['may']}", "-starttls", "smtp", "-tls1_2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as asking:
        asking.stdin.write(b"R\n")
        asking.stdin.flush()  # and left open: its end would end it
        said = asking.stdout.read()
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said
    assert_serves(secured)


def update_key(cutter):
    library.update_key(cutter.tls._sslobj)
    cutter.tls.do_handshake()
    return cutter.take()


def test_new_keys_now_and_then_are_given(secured, context):
    cutter = secured.cutter(context=context("1.3")).handshake()
    for _ in range(5):
        cutter.put(update_key(cutter) + cutter.seal("EHLO client.test\r\n"))
        assert cutter.reply().startswith("250-")
    sent = message(size=300_000)
    cutter.put(cutter.seal(f"MAIL FROM:<a@client.test>\r\nRCPT TO:<{LOCAL}>\r\nDATA\r\n"))
    assert [cutter.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
    wire = stuff(sent) + b".\r\n"
    for at in range(0, len(wire), 50_000):
        cutter.put(update_key(cutter) + cutter.seal(wire[at:at + 50_000]))
    assert cutter.reply().startswith("250 2.0.0 ")
    assert_relayed(secured.local.only_message().data, sent)


@pytest.mark.parametrize("reads", [True, False])
def test_new_keys_again_and_again_end_the_session(secured, context, reads):
    cutter = secured.cutter(context=context("1.3")).handshake()
    before = secured.daemon.descriptors()
    try:
        for _ in range(20_000):
            cutter.put(update_key(cutter))
    except OSError:
        pass
    else:
        if reads:
            cutter.await_end()
    poll(lambda: secured.daemon.descriptors() < before, "the end of the session")
    assert_serves(secured)


def test_a_client_that_does_not_read_its_replies_is_not_read_either(secured):
    with secured.secure_client() as client:
        client.sock.settimeout(1)
        sent = 0
        try:
            while sent < 64 * MIB:
                sent += client.sock.send(b"NOOP\r\n" * 2000)
        except (TimeoutError, ssl.SSLWantWriteError, ssl.SSLError):
            pass
        assert sent < 32 * MIB
    assert_serves(secured)


@pytest.mark.measures
def test_fifty_megabytes_in_tls_on_both_sides_cost_little(start_daemon, start_tls_upstream, ca, mx_certificate):
    local = start_tls_upstream("slow.test", ca.issue("slow.test"))
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop, "tls": "encrypt"}}, routes={"example.com": "local"},
                          tls=mx_certificate.settings)
    def send(sent):
        with TlsClient(daemon.where, timeout=60).starttls(ca.client_context()) as client:
            assert client.send_mail(sent, LOCAL) == 250

    for _ in range(30):
        send(message(size=200_000))
    local.forget()
    local.on("data", slow(12 * MIB))
    sent = message(size=49 * MIB)
    before, most, done = daemon.pss(), [], threading.Event()

    def watch():
        while not done.wait(0.05):
            most.append(daemon.pss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        send(sent)
    finally:
        done.set()
        watcher.join()
    assert len(most) > 10
    assert max(most) - before < 2 * MIB, f"{(max(most) - before) / MIB:.2f} MiB"
    assert_relayed(local.messages[-1].data, sent)
    assert local.messages[-1].connection.tls == "TLSv1.3"
