"""The load generator and the sink of `make bench` (tests/bench): each option does what it says, and what they count is true."""

import json
import re
import select
import shutil
import signal
import subprocess
import threading

import pytest

from splitmx_test.client import Client
from splitmx_test.daemon import BINARY, SANITIZER
from splitmx_test.upstream import close, pause, reply, reset, wait
from splitmx_test.waiting import PATIENCE, free_port, poll

LOAD, SINK = BINARY.parent / "bench" / "load", BINARY.parent / "bench" / "sink"
LOCAL, KING = "user@example.com", "kingmail@example.com"

pytestmark = pytest.mark.skipif(not (LOAD.exists() and SINK.exists()), reason="build/bench is not built")


class Report:
    def __init__(self, completed):
        self.status, self.err = completed.returncode, completed.stderr
        assert not SANITIZER.search(self.err), self.err
        self.out = completed.stdout
        self.values = json.loads(self.out) if self.out else {}

    def __getattr__(self, name):
        return self.values[name]

    def __repr__(self):
        return f"<status {self.status}: {self.out}{self.err}>"


def command(port, *options):
    return [str(LOAD), "--connect", f"127.0.0.1:{port}", *map(str, options)]


def load(port, *options):
    return Report(subprocess.run(command(port, *options), capture_output=True, text=True, timeout=60))


def load_all(port, *options):
    """Of which no message failed."""
    report = load(port, *options)
    assert (report.status, report.failed, report.failures, report.err) == (0, 0, {}, ""), report
    return report


class Running:
    """A process that says a line when it is ready, and is ended by SIGTERM."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self):
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "nothing was said"
        return self.process.stdout.readline()

    def end(self, number=signal.SIGTERM):
        """Its status and the rest of what it said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        assert not SANITIZER.search(err), err
        return self.process.returncode, out, err


@pytest.fixture
def start():
    """start("program", ...): a Running that ends with the test."""
    running = []

    def begin(*arguments):
        running.append(Running(*map(str, arguments)))
        return running[-1]

    yield begin
    for one in running:
        one.process.kill()
        one.process.communicate()


class Sink:
    def __init__(self, start, *options):
        self.port = free_port()
        self.running = start(SINK, "--listen", f"127.0.0.1:{self.port}", *options)
        assert self.running.line() == "ready\n"

    def taken(self):
        status, out, err = self.running.end()
        assert (status, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def start_sink(start):
    return lambda *options: Sink(start, *options)


# ---- what it sends ----


def test_as_many_messages_as_asked_each_over_a_connection_of_its_own(start_upstream):
    upstream = start_upstream()
    report = load_all(upstream.port, "--messages", 7, "--sessions", 3)
    assert (report.messages, report.connections, report.bytes) == (7, 7, 7 * 4096)
    assert len(upstream.messages) == len(upstream.connections) == 7
    assert all(c.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"] for c in upstream.connections)


def test_message_ids_are_distinct_also_between_runs(start_upstream):
    upstream = start_upstream()
    for _ in range(2):
        load_all(upstream.port, "--messages", 20, "--sessions", 5, "--keep", 3)
    ids = [re.match(rb"Message-ID: (<[0-9a-f.]+@load\.example>)\r\n", m.data)[1] for m in upstream.messages]
    assert len(ids) == len(set(ids)) == 40


@pytest.mark.parametrize("size", [400, 4096, 4097, 1000000])
def test_messages_have_the_size_that_was_asked_for(start_upstream, size):
    upstream = start_upstream()
    report = load_all(upstream.port, "--messages", 2, "--size", size)
    assert [len(m.data) for m in upstream.messages] == [size] * 2
    assert report.bytes == 2 * size


def test_sender_and_all_recipients_are_those_that_were_given(start_upstream):
    upstream = start_upstream()
    load_all(upstream.port, "--messages", 2, "--sender", "a@client.test", "--recipient", LOCAL, "--recipient", KING)
    assert [(m.sender, m.recipients) for m in upstream.messages] == [("a@client.test", [LOCAL, KING])] * 2


@pytest.mark.parametrize("keep, connections", [(1, 10), (4, 3), (0, 1)])
def test_a_connection_is_kept_for_so_many_messages(start_upstream, keep, connections):
    upstream = start_upstream()
    report = load_all(upstream.port, "--messages", 10, "--keep", keep)
    assert report.connections == len(upstream.connections) == connections
    assert len(upstream.messages) == 10
    assert all(c.verbs()[-1] == "QUIT" for c in upstream.connections)


def test_so_many_sessions_are_there_at_once(start_upstream, start):
    upstream, release = start_upstream(), threading.Event()
    upstream.on("eod", wait(release))
    running = start(*command(upstream.port, "--messages", 12, "--sessions", 4))
    upstream.board.wait_for(lambda: len(upstream.ended_bodies) == 4, "four messages at once")
    assert len(upstream.connections) == 4
    release.set()
    assert running.process.wait(PATIENCE) == 0
    assert len(upstream.messages) == 12


@pytest.mark.parametrize("offered, asked", [(True, True), (True, False), (False, True)])
def test_the_envelope_comes_at_once_where_that_is_asked_for_and_offered(start_upstream, offered, asked):
    upstream = start_upstream(extensions=("PIPELINING", "8BITMIME") if offered else ("8BITMIME",))
    load_all(upstream.port, "--messages", 1, "--recipient", LOCAL, "--recipient", KING, *["--pipelining"] * asked)
    segments = [s for s in upstream.connections[0].segments if b"RCPT" in s]
    together = b"MAIL FROM:<sender@example.net>\r\nRCPT TO:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (LOCAL.encode(), KING.encode())
    assert (segments == [together]) == (offered and asked), segments
    assert upstream.messages[0].recipients == [LOCAL, KING]


def test_it_goes_on_for_the_time_that_was_asked_for(start_upstream):
    upstream = start_upstream()
    report = load_all(upstream.port, "--seconds", 1)
    assert report.messages == len(upstream.messages) > 0
    assert report.seconds >= 0.99 or report.messages == 1
    assert report.rate == pytest.approx(report.messages / report.seconds, rel=0.001)


# ---- TLS ----


def test_each_connection_has_a_full_handshake(start_tls_upstream, mx_certificate):
    upstream = start_tls_upstream("mx.test", mx_certificate)
    report = load_all(upstream.port, "--messages", 6, "--sessions", 2, "--keep", 2, "--starttls", "--size", 300000)
    assert (report.connections, report.handshakes, report.resumed) == (len(upstream.connections), report.connections, 0)
    assert [len(m.data) for m in upstream.messages] == [300000] * 6
    assert all(c.tls and c.verbs()[:3] == ["EHLO", "STARTTLS", "EHLO"] for c in upstream.connections)


def test_sessions_are_resumed_where_that_is_asked_for(start_sink, mx_certificate):
    sink = start_sink("--tls", mx_certificate.chain, mx_certificate.key)
    report = load_all(sink.port, "--messages", 12, "--sessions", 3, "--starttls", "--resume")
    assert (report.handshakes, report.resumed) == (12, 9)  # the first of each session is a full one
    assert sink.taken()["handshakes"] == 12


def test_nothing_goes_in_clear_text_where_starttls_is_not_offered(start_upstream):
    upstream = start_upstream()
    report = load(upstream.port, "--messages", 2, "--starttls")
    assert (report.status, report.failures) == (1, {"reply to EHLO: STARTTLS is not offered": 2})
    assert not upstream.messages


# ---- times ----


def stalled(start_upstream, *options):
    """The times of 50 messages over one session, of which the first takes a second."""
    upstream = start_upstream()
    upstream.on("eod", pause(1), times=1)
    report = load_all(upstream.port, "--messages", 50, "--keep", 0, *options)
    assert len(upstream.messages) == 50
    return report.latency


def test_in_open_loop_a_stall_is_in_the_times_of_all_that_were_due_meanwhile(start_upstream):
    times = stalled(start_upstream, "--rate", 50)
    assert times["max"] >= 1000000
    assert times["p50"] >= 400000, times  # those due in the middle of that second have waited for half of it
    assert times["mean"] >= 400000, times


def test_in_closed_loop_it_is_in_the_time_of_one(start_upstream):
    times = stalled(start_upstream)
    assert times["max"] >= 1000000
    assert times["p50"] < times["max"] / 2, times


def test_in_open_loop_messages_begin_at_the_rate_and_over_as_many_sessions_as_it_takes(start_sink):
    sink = start_sink()
    report = load_all(sink.port, "--seconds", 1, "--rate", 200, "--sessions", 100)
    assert (report.messages, report.connections) == (200, 200)
    assert report.seconds >= 0.995
    assert sink.taken()["messages"] == 200


def test_in_open_loop_connections_are_kept_too(start_upstream):
    upstream = start_upstream()
    report = load_all(upstream.port, "--messages", 30, "--rate", 300, "--sessions", 2, "--keep", 10)
    assert len(upstream.messages) == 30
    assert report.connections == len(upstream.connections) <= 4
    assert all(c.verbs().count("MAIL") <= 10 for c in upstream.connections)


def test_messages_of_the_open_loop_are_sent_side_by_side(start_upstream, start):
    upstream, release = start_upstream(), threading.Event()
    upstream.on("eod", wait(release))
    running = start(*command(upstream.port, "--messages", 5, "--rate", 100, "--sessions", 3))
    upstream.board.wait_for(lambda: len(upstream.ended_bodies) == 3, "as many as there are sessions")
    release.set()
    assert running.process.wait(PATIENCE) == 0
    assert len(upstream.messages) == 5


# ---- failures ----


def test_refusals_are_counted_by_what_was_said(start_upstream):
    upstream = start_upstream()
    upstream.on("rcpt", reply("550 5.1.1 no such user"), times=2)
    upstream.on("eod", reply("451 4.3.0 disk full"), times=1)
    report = load(upstream.port, "--messages", 6, "--keep", 0)
    assert (report.status, report.messages, report.failed) == (1, 3, 3)
    assert report.failures == {"reply to RCPT: 550 5.1.1 no such user": 2, "reply to the end of data: 451 4.3.0 disk full": 1}
    assert report.err.count("no such user") == report.err.count("disk full") == 1
    assert report.bytes == 3 * 4096


def test_so_are_connections_that_break(start_upstream):
    upstream = start_upstream()
    upstream.on("body", reset(), at=1, times=2)
    report = load(upstream.port, "--messages", 5, "--sessions", 2)
    assert (report.status, report.messages, report.failed) == (1, 3, 2)
    assert all(why.startswith("no reply to the end of data: ") for why in report.failures), report


def test_a_server_that_is_not_there_ends_it(start_upstream):
    report = load(free_port(), "--messages", 3)
    assert (report.status, report.messages, report.failed, report.connections) == (1, 0, 3, 3)
    assert list(report.failures) == ["no reply to connecting: connection refused"]


def test_an_idle_session_that_the_server_ends_is_no_failure(start_upstream):
    upstream = start_upstream()
    upstream.on("eod", reply("250 2.0.0 taken"), close(), times=1)
    report = load_all(upstream.port, "--messages", 4, "--rate", 5, "--keep", 0)
    assert (report.messages, report.connections) == (4, 2)


@pytest.mark.parametrize("options", [(), ("--messages", 0), ("--messages", 1, "--idle", 1), ("--messages", 1, "--resume"),
                                     ("--messages", 1, "--sessions", 0), ("--messages", 1, "more")])
def test_options_that_make_no_sense_are_refused(options):
    report = load(25, *options)
    assert (report.status, report.out) == (64, "")
    assert report.err.startswith("usage: load ")


# ---- sessions that are held ----


def test_idle_sessions_are_held_until_sigterm(start_upstream, start):
    upstream = start_upstream()
    running = start(*command(upstream.port, "--idle", 100))
    assert json.loads(running.line()) == {"idle": 100}
    with upstream.board:
        assert [(c.verbs(), c.ended) for c in upstream.connections] == [(["EHLO"], None)] * 100
    assert running.end() == (0, "", "")
    upstream.board.wait_for(lambda: all(c.ended for c in upstream.connections), "all sessions to end")


def test_idle_sessions_encrypt_first(start_sink, start, mx_certificate):
    sink = start_sink("--tls", mx_certificate.chain, mx_certificate.key)
    running = start(*command(sink.port, "--idle", 80, "--starttls"))
    assert json.loads(running.line()) == {"idle": 80}
    assert running.end() == (0, "", "")
    assert sink.taken()["handshakes"] == 80


def test_an_idle_session_that_is_lost_is_told(start_upstream, start):
    upstream = start_upstream()
    running = start(*command(upstream.port, "--idle", 3))
    assert running.line()
    upstream.stop()
    assert running.process.wait(PATIENCE) == 1
    assert "one is lost: " in running.end()[2]


# ---- the sink ----


def test_the_sink_counts_what_it_takes(start_sink):
    sink = start_sink()
    load_all(sink.port, "--messages", 9, "--sessions", 2, "--keep", 3, "--recipient", LOCAL, "--recipient", KING)
    taken = sink.taken()
    assert (taken["messages"], taken["recipients"], taken["handshakes"]) == (9, 18, 0)
    assert taken["bytes"] == 9 * (4096 + len(".\r\n"))


def test_the_sink_does_not_depend_on_how_its_input_is_cut(start_sink):
    sink = start_sink("--pipelining")
    transaction = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@client.test>\r\nDATA\r\none\r\n..two\r\n.\r\n"
    with Client(("127.0.0.1", sink.port)) as client:
        client.send(transaction * 3 + b"NOOP\r\n")
        assert client.replies(13) == [250, 250, 354, 250] * 3 + [250]
        for octet in transaction:
            client.send(bytes([octet]))
        assert client.replies(4) == [250, 250, 354, 250]
        assert client.quit() == 221
    assert sink.taken()["messages"] == 4


def test_pipelining_and_starttls_are_offered_as_asked(start_sink, mx_certificate):
    for options, words in [((), set()), (("--pipelining",), {"PIPELINING"}),
                           (("--tls", mx_certificate.chain, mx_certificate.key), {"STARTTLS"})]:
        with Client(("127.0.0.1", start_sink(*options).port)) as client:
            assert set(client.capabilities.texts) & {"PIPELINING", "STARTTLS"} == words, client.capabilities


def test_a_slow_sink_reads_no_faster_than_it_was_told(start_sink):
    sink = start_sink("--rate", 100000)
    report = load_all(sink.port, "--messages", 2, "--sessions", 2, "--size", 150000)
    assert report.latency["p50"] >= 1300000, report  # what is beyond the first share takes its time


def test_a_sink_with_a_delay_answers_so_much_later(start_sink):
    sink = start_sink("--delay", 300, "--pipelining")
    report = load_all(sink.port, "--messages", 6, "--sessions", 3, "--pipelining")
    assert report.latency["p50"] >= 299000
    assert report.seconds >= 0.598


def test_a_delayed_answer_stays_in_its_place(start_sink):
    sink = start_sink("--delay", 100, "--pipelining")
    with Client(("127.0.0.1", sink.port)) as client:
        client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@client.test>\r\nDATA\r\n.\r\nVRFY x\r\nQUIT\r\n")
        assert client.replies(6) == [250, 250, 354, 250, 500, 221]


# ---- through the program ----


def test_split_mail_goes_through_splitmx_to_both_relays(split):
    report = load_all(split.daemon.port, "--messages", 20, "--sessions", 4, "--keep", 5, "--recipient", LOCAL, "--recipient", KING)
    assert report.messages == 20
    for upstream, recipient in ((split.local, LOCAL), (split.kingmailer, KING)):
        assert len(upstream.messages) == 20
        assert all(m.recipients == [recipient] for m in upstream.messages)


def test_mail_is_encrypted_on_its_way_in_and_out(start_daemon, start_sink, mx_certificate):
    sink = start_sink("--pipelining", "--tls", mx_certificate.chain, mx_certificate.key)
    relays = {"local": {"next-hop": f"smtp:[127.0.0.1]:{sink.port}", "tls": "encrypt"}}
    daemon = start_daemon(relays=relays, routes={LOCAL: "local"}, tls=mx_certificate.settings, workers=1)
    report = load_all(daemon.port, "--messages", 10, "--sessions", 2, "--starttls")
    assert report.handshakes == 10
    taken = sink.taken()
    assert taken["messages"] == 10
    assert taken["handshakes"] == taken["connections"] > 0


@pytest.mark.skipif(not shutil.which("smtp-sink", path="/usr/sbin:/usr/bin"), reason="no smtp-sink")
def test_postfixs_sink_takes_what_it_sends(start):
    port = free_port()
    start("/usr/sbin/smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", "100")
    poll(lambda: load(port, "--messages", 1).status == 0, "smtp-sink to listen")
    report = load_all(port, "--messages", 50, "--sessions", 5, "--keep", 5, "--pipelining", "--size", 100000)
    assert report.messages == 50
