"""
What one client, or one address, may take up (design: sections 3 and 9): each limit is told, and is no limit any more as soon as there
is room again; others are served all the while.

Elsewhere: the limit of a /64, and of clients behind a proxy (test_proxy_in.py); descriptors (test_descriptors.py); handshakes that
stop, and renegotiation (test_tls_inbound.py); how slowly a message may come (test_data_rate.py).
"""

import contextlib
import itertools
import socket
import threading
import time

import pytest

from splitmx_test.client import Client, Gone
from splitmx_test.daemon import await_quiet, daemons
from splitmx_test.faults import play_all
from splitmx_test.messages import message
from splitmx_test.tls import Cutter, TlsClient
from splitmx_test.upstream import ScriptedUpstream, reply
from splitmx_test.waiting import many_files, poll

LOCAL, KING, STRANGE = "user@example.com", "kingmail@example.com", "user@elsewhere.test"
NEIGHBOUR = "127.0.0.2"
MIB = 1024 * 1024


def greeting(daemon, source=None):
    """The first word to a client that comes and goes."""
    with daemon.client(hello=None, source=source) as client:
        if client.greeting == 220:
            client.quit()  # which is the end of it for the daemon, too
        return client.greeting


def serves(daemon, source=NEIGHBOUR, recipient=LOCAL):
    with daemon.client(source=source) as client:
        answer = client.send_mail(message(), recipient)
        client.quit()
        return answer == 250


# ---- errors: answers of 5xx, and those alone ----

ERRORS = 5


class Strict:
    def __init__(self, start_daemon):
        self.local, self.king = ScriptedUpstream("local.test"), ScriptedUpstream("king.test")
        self.daemon = start_daemon(limits={"errors": ERRORS, "recipients": 3, "message-size": "10K"},
                                   relays={"local": {"next-hop": self.local.next_hop}, "king": {"next-hop": self.king.next_hop}},
                                   routes={LOCAL: "local", KING: "king", "later@example.com": "retry:4.2.0 later"})


@pytest.fixture(scope="module")
def _module_strict():
    with daemons() as start_daemon:
        strict = Strict(start_daemon)
        yield strict
        for upstream in (strict.local, strict.king):
            upstream.stop()


@pytest.fixture
def strict(_module_strict):
    for upstream in (_module_strict.local, _module_strict.king):
        upstream.forget()
    return _module_strict


def line(words):
    return lambda client: client.cmd(words)


def raw_line(octets):
    def say(client):
        client.send(octets)
        return client.reply()

    return say


def recipient(address):
    def ask(client):
        client.cmd("RSET")
        client.mail()
        return client.rcpt(address)

    return ask


def data_without_recipients(client):
    client.cmd("RSET")
    client.mail()
    return client.data()


def too_big(client):
    return client.begin(LOCAL).body(message(size=11 * 1024))


def refused_at_the_end(client):
    return client.begin(KING).body(message())


WRONG = {
    "an unknown command": line("JUNK"), "one that is not offered": line("AUTH PLAIN"), "out of order": line("DATA"),
    "no host name": line("EHLO"), "bad syntax": line("MAIL FROM:x"), "an unknown parameter": line("MAIL FROM:<a@client.test> X=Y"),
    "too big at MAIL": line("MAIL FROM:<a@client.test> SIZE=99999"), "a bare LF": raw_line(b"NOOP\n"), "a NUL": raw_line(b"NO\0OP\r\n"),
    "a line too long": raw_line(b"x" * 3000 + b"\r\n"), "a stranger's address": recipient(STRANGE), "an upstream's 550": recipient(KING),
    "no recipients": data_without_recipients, "too big in the end": too_big, "an upstream's 554 in the end": refused_at_the_end,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_so_many_errors_are_answered_and_no_more(strict, wrong):
    if wrong is WRONG["an upstream's 550"]:
        strict.king.on("rcpt", reply("550 5.1.1 unknown"))
    strict.king.on("eod", reply("554 5.7.1 not this"))
    with strict.daemon.client() as client:
        for number in range(ERRORS):
            answer = wrong(client)
            assert answer.code in range(500, 600), (number, answer)
        client.send("NOOP\r\n")
        assert client.reply() == "421 4.7.0"
        assert client.await_end() == ("fin", b"")
    assert serves(strict.daemon, source=None), "the next session begins anew"


def test_broken_lines_alone_end_a_session_too(strict):
    """Of which none is a command."""
    for broken in (b"\n", b"x\n", b"\0\r\n", b"y" * 3000 + b"\r\n"):
        with strict.daemon.client() as client:
            with contextlib.suppress(OSError):
                client.send(broken * 200)
            how, said = client.await_end()
            codes = [words[:3] for words in said.splitlines()]
            assert codes == [b"500"] * ERRORS + [b"421"], (how, codes[:30])


def test_what_is_temporary_is_no_error(strict):
    strict.king.on("rcpt", reply("450 4.2.0 greylisted"))
    strict.local.on("eod", reply("451 4.3.0 disk full"))
    with strict.daemon.client() as client:
        for _ in range(4 * ERRORS):
            client.mail()
            assert client.rcpt(KING) == "450 4.2.0"
            assert client.rcpt("later@example.com") == "450 4.2.0"
            client.cmd("RSET")
        for _ in range(2 * ERRORS):
            assert client.send_mail(message(), LOCAL) == "451 4.3.0"
        client.mail()
        codes = [client.rcpt(LOCAL).code for _ in range(3 + 4 * ERRORS)]
        assert codes == [250] * 3 + [452] * 4 * ERRORS
        assert client.cmd("NOOP") == 250
        client.cmd("RSET")
        client.mail()
        assert [client.rcpt(LOCAL).code for _ in range(4)] == [250] * 3 + [452], "the next transaction has as many"


# ---- places: the same again, at once ----


def leaves_with_quit(client):
    assert client.quit() == 221


def is_dismissed(client):
    client.send("GET / HTTP/1.1\r\n" + "Host: x\r\n" * 100)
    assert client.reply() == "554 5.5.1"
    client.await_end()


def makes_errors(client):
    for _ in range(20):
        client.cmd("JUNK")
    assert client.cmd("JUNK") == "421 4.7.0"


def half_closes(client):
    client.half_close()
    assert client.await_end()[0] == "fin"


def stays_unread(client):
    """It is told off with much unread on our side, and keeps its own end open."""
    client.send("GET / HTTP/1.1\r\n" + "x" * 60_000)
    assert client.reply() == "554 5.5.1"


LEAVE = [leaves_with_quit, is_dismissed, makes_errors, half_closes, stays_unread]


@pytest.mark.parametrize("limit, told", [({"connections_per_client": 3}, "421 4.7.0"), ({"connections": 3}, "421 4.3.2")], ids=["per client", "in all"])
def test_a_place_is_free_the_moment_its_session_is_over(start_split, limit, told):
    split = start_split(limits=limit)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(split.client()) for _ in range(2)]
        for leave in LEAVE * 2:
            last = stack.enter_context(split.client())
            for _ in range(5):
                assert greeting(split.daemon) == told
            leave(last)
            assert greeting(split.daemon) == 220, leave.__name__
        for end in (Client.reset, Client.close):  # which only our kernel sees, for a moment
            end(stack.enter_context(split.client()))
            poll(lambda: greeting(split.daemon) == 220, "the place of who was lost")
        assert all(client.cmd("NOOP") == 250 for client in held)
    poll(lambda: split.daemon.status()["sessions"]["open"] == 0, "the end of all sessions")


def test_a_client_that_timed_out_makes_room_though_it_reads_nothing(start_split):
    """Replies fill all that is between us and it; its time runs all the same."""
    split = start_split(limits={"connections_per_client": 1}, timeouts={"command": "1s"})
    client = split.client(receive_buffer=2048)
    client.sock.settimeout(0.3)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            client.send(b"HELP\r\n" * 10_000)
    poll(lambda: greeting(split.daemon) == 220, "its place")
    client.reset()


# ---- floods ----


class Flood:
    """Connections from one address as fast as they come, each kept as long as `keep` says; what was said to them."""

    def __init__(self, daemon, source, octets=b"EHLO flood.test\r\n", keep=0):
        self.daemon, self.source, self.octets, self.keep = daemon, source, octets, keep
        self.said, self.count, self.over = {}, 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        held = []
        while not self.over.is_set():
            one = socket.socket()
            held.append(one)
            with contextlib.suppress(OSError):
                one.settimeout(5)
                one.bind((self.source, 0))
                one.connect(self.daemon.where)
                one.sendall(self.octets)
                words = one.recv(1000)[:9].decode()
                self.said[words] = self.said.get(words, 0) + 1
            self.count += 1
            for old in held[:max(0, len(held) - self.keep)]:
                old.close()
            del held[:max(0, len(held) - self.keep)]
        for one in held:
            one.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self._thread.join()


@pytest.mark.parametrize("octets", [b"", b"EHLO flood.test\r\n", b"x" * 30_000], ids=["nothing", "EHLO", "much"])
def test_a_flood_from_one_address_takes_no_place_of_others(start_split, octets):
    """Those that are turned away, too, hold no descriptors that others need, whatever they send and however long they stay."""
    split = start_split(workers=1, wrapper=["prlimit", "--nofile=256:256"], limits={"connections": 150, "connections_per_client": 20})
    with Flood(split.daemon, "127.0.0.66", octets, keep=600) as flood:
        poll(lambda: flood.count > 400, "the flood", timeout=30)
        for number in range(20):
            assert serves(split.daemon, source=f"127.0.2.{number + 1}"), number
    assert set(flood.said) <= {"220 mx.sp", "421 4.7.0", "554 5.5.1"}, flood.said
    assert octets or "421 4.7.0" in flood.said


def test_who_is_dismissed_and_reads_nothing_is_not_waited_for_in_numbers(start_split):
    """Each of them has room in the places of its address again, and would leave a full buffer behind for ten seconds."""
    split = start_split(workers=1, timeouts={"command": "1s"})
    idle = split.daemon.descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(split.client(receive_buffer=2048))
            client.send(b"EHLO x\r\n" * 40_000)  # megabytes of answers
        poll(lambda: split.daemon.status()["sessions"]["open"] == 0, "the end of their time")
        await_quiet(split.daemon, idle + 64, timeout=4)


def test_ten_thousand_idle_sessions_and_a_flood_leave_others_served(start_split):
    count = 10_000
    split = start_split(limits={"connections": count + 500, "connections_per_client": 1000})
    with many_files(count), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.socket()) for _ in range(count)]
        for number, one in enumerate(idle):
            one.bind((f"127.0.3.{number // 1000 + 1}", 0))
            one.connect(split.daemon.where)
        for one in idle:
            assert one.recv(1000).startswith(b"220 ")
            one.sendall(b"EHLO idle.test\r\n")
        for one in idle:
            assert one.recv(1000).startswith(b"250-")
        assert split.daemon.status()["sessions"]["open"] == count
        assert greeting(split.daemon, "127.0.3.1") == "421 4.7.0"
        stack.enter_context(Flood(split.daemon, "127.0.0.66", keep=200))
        for number in range(30):
            assert serves(split.daemon, source=f"127.0.2.{number + 1}")
        assert split.daemon.reload().status == 0
        assert serves(split.daemon)
    poll(lambda: split.daemon.status()["sessions"]["open"] == 0, "the end of all of them", timeout=60)
    assert serves(split.daemon)


IDLE = 100


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY x", "HELP", "EHLO client.test", "HELO client.test"])
def test_commands_that_bring_no_mail_are_errors_after_the_hundredth(strict, command):
    with strict.daemon.client() as client:
        client.send(f"{command}\r\n" * (IDLE + ERRORS))  # and one EHLO there was
        for _ in range(IDLE + ERRORS - 1):
            assert client.reply().code in (214, 250, 252)
        assert client.reply() == "421 4.7.0"
        assert client.await_end() == ("fin", b"")


def test_a_message_lets_so_many_commands_pass_again(strict):
    with strict.daemon.client() as client:
        for _ in range(3):
            client.send("NOOP\r\n" * (IDLE - 2))
            assert all(client.reply() == 250 for _ in range(IDLE - 2))
            assert client.send_mail(message(), LOCAL) == 250


def test_who_is_over_the_limit_is_shaken_no_hands_with(start_secured):
    """The handshake is what costs: with implicit TLS the refusal comes before it, in clear."""
    secured = start_secured(limits={"connections_per_client": 2})
    with secured.secure_client("implicit"), secured.secure_client("may"):
        with TlsClient(("127.0.0.1", secured.ports["implicit"]), greet=False) as client:
            cutter = Cutter(client.sock, secured.context)
            cutter.put(cutter.first_flight())
            assert client.reply() == "421 4.7.0"
            assert client.await_end()[1] == b""
        with TlsClient(("127.0.0.1", secured.ports["implicit"]), implicit=secured.context, source=NEIGHBOUR) as other:
            assert other.cmd("NOOP") == 250


# ---- slow clients ----

COMMAND = 1.5


def drip(client, octets, patience=20):
    """One octet after another, of the endless `octets`, until something is said: that."""
    deadline = time.monotonic() + patience
    client.sock.settimeout(0.05)
    for octet in octets:
        assert time.monotonic() < deadline, "octets now and then kept the session alive"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(bytes([octet]))
        try:
            return client.reply()
        except AssertionError:  # nothing yet
            continue
    raise AssertionError("not so many octets")


def slow_at(stage, octets):
    def play(split):
        with split.client(hello=None) as client:
            for command in stage:
                client.cmd(command)
            answer = drip(client, octets)
            assert client.await_end()[1] == b""
            return answer

    return play


def fast_without_end(split):
    """As fast as they are taken: who goes on like that behind the 421 may lose it to a reset."""
    with split.client(hello="fast.test") as client:
        over = threading.Event()

        def send():
            with contextlib.suppress(OSError):
                while not over.is_set():
                    client.sock.send(b"x" * 4096)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            return client.reply(timeout=20)
        except Gone:
            return split.await_log(lambda line: "event=session-timed-out" in line and "fast.test" in line) and "421 4.4.2"
        finally:
            over.set()
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def in_good_time(split):
    """A command now and then, each within its own time: longer than one of them has, all together."""
    with split.client() as client:
        began, answers = time.monotonic(), []
        while time.monotonic() - began < 2 * COMMAND:
            client.silent_for(COMMAND / 8)
            answers.append(client.cmd("NOOP").code)
        assert set(answers) == {250}
        return client.reply(timeout=20)


ENVELOPE = ("EHLO client.test", "MAIL FROM:<a@client.test>")
SLOW = {
    "before HELO": slow_at((), b"E" * 2000), "in HELO": slow_at((), b"EHLO client.test" + b"x" * 2000),
    "in MAIL": slow_at(ENVELOPE[:1], b"MAIL FROM:<" + b"a" * 2000), "in RCPT": slow_at(ENVELOPE, b"RCPT TO:<" + b"a" * 2000),
    "at DATA": slow_at((*ENVELOPE, f"RCPT TO:<{LOCAL}>"), b"DATA" + b" " * 2000),
    "spaces": slow_at(ENVELOPE[:1], b" " * 2000), "carriage returns": slow_at(ENVELOPE[:1], b"\r" * 2000),
    "beyond a line": slow_at(ENVELOPE[:1], itertools.cycle(b"x")), "a line without end": fast_without_end, "one that is none": in_good_time,
}


@pytest.fixture(scope="module")
def slow():
    local = ScriptedUpstream("local.test")
    with daemons() as start_daemon:
        daemon = start_daemon(timeouts={"command": f"{COMMAND * 1000:.0f}ms"}, relays={"local": {"next-hop": local.next_hop}})
        yield play_all({words: (lambda play=play: play(daemon)) for words, play in SLOW.items()}, at_once=len(SLOW))
        poll(lambda: daemon.status()["sessions"]["open"] == 0, "the end of all sessions")
    local.stop()


@pytest.mark.parametrize("words", SLOW)
def test_a_command_has_its_time_however_many_octets_it_comes_in(slow, words):
    assert slow[words]() == "421 4.4.2"
