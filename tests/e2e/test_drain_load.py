"""
SIGTERM with mail in flight (faults: row 18): each client is told what became of its message, and nothing else is true of
it; a commit under way has its own time. And the restart that follows.
"""

import itertools
import signal
import socket
import threading
import time

import pytest

from splitmx_test.client import Client, Gone, stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.tls import TlsClient
from splitmx_test.upstream import reply, reset, wait
from splitmx_test.waiting import PATIENCE, free_port, poll

END = b".\r\n"
DRAIN = 4.0
ROUTES = {"l.example.com": "local", "k.example.com": "kingmailer", "t.example.com": "third"}
DOWN = "421 4.3.2"
SMALL = 4096  # receive buffers, so that a body is not taken before it is read


class Town:
    """Three upstreams; who writes to them decides what they wait for and what they say."""

    def __init__(self, start_daemon, start_upstream, certificate, ca, **settings):
        self.held, self.late = threading.Event(), threading.Event()  # set soon after SIGTERM; when the drain is long over
        self.upstreams = [start_upstream(f"{name}.test", receive_buffer=SMALL) for name in ("local", "kingmailer", "third")]
        for number, upstream in enumerate(self.upstreams):
            self.script(upstream, number)
        tls_port = free_port()
        self.daemon = start_daemon(
            start=False, relays={name: {"next-hop": upstream.next_hop, "tls": "none"} for name, upstream in
                                 zip(("local", "kingmailer", "third"), self.upstreams)},
            routes=ROUTES, domains=list(ROUTES), timeouts={"drain": f"{DRAIN:g}s"}, tls=certificate.settings, **settings)
        self.daemon.write_config(listen=[{"address": f"127.0.0.1:{self.daemon.port}"}, {"address": f"127.0.0.1:{tls_port}", "tls": "implicit"}])
        self.daemon.start()
        self.ports, self.context = {False: self.daemon.port, True: tls_port}, ca.client_context()

    def script(self, upstream, number):
        def asked(*words):
            return lambda step: (step.connection.sender or "").startswith(words)

        def first(word):  # the first of the legs, in the order of their recipients
            return lambda step: number == 0 and asked(word)(step)

        def last(word):
            return lambda step: asked(word)(step) and (step.connection.sender or "").split("-legs")[1][0] == str(number + 1)

        upstream.on("rcpt", wait(self.held), when=asked("rcpt-goes"))
        upstream.on("rcpt", wait(self.late), when=asked("rcpt-stays"))
        upstream.on("body", wait(self.held), at=1, when=last("barrier-goes"))
        upstream.on("body", wait(self.late), at=1, when=last("barrier-stays"))
        upstream.on("eod", wait(self.late), when=first("commit-first"))
        upstream.on("eod", wait(self.late), when=last("commit-last"))
        upstream.on("eod", wait(self.late), reply("554 5.7.1 spam"), when=last("refused-last"))
        upstream.on("eod", wait(self.late), reply("452 4.2.2 full"), when=first("refused-first"))
        upstream.on("eod", wait(self.late), reset(), when=last("lost-last"))
        upstream.on("eod", wait(self.held), when=asked("commit-soon"))

    def client(self, tls):
        where = ("127.0.0.1", self.ports[tls])
        return TlsClient(where, implicit=self.context, timeout=PATIENCE) if tls else Client(where)

    def end(self):
        self.held.set()
        self.late.set()


# What a client does up to SIGTERM, and behind it; and what it has to be told then.

STAGES = ("greeted", "mail-goes", "mail-stays", "rcpt-goes", "rcpt-stays", "body-goes", "body-stays", "ended-body-stays", "barrier-goes",
          "barrier-stays", "commit-first", "commit-last", "commit-soon", "refused-first", "refused-last", "lost-last", "after")
LONG = {"commit-first", "commit-last", "refused-first", "refused-last", "lost-last"}  # told only after the drain


class Flight:
    """One client, and its message."""

    def __init__(self, town, stage, legs, tls):
        self.town, self.stage, self.legs = town, stage, legs
        self.sender = f"{stage}-legs{legs}-{'tls' if tls else 'clear'}@client.test"
        self.recipients = [f"someone@{domain}" for domain in list(ROUTES)[:legs]]
        self.sent = message(size=60_000) if stage.startswith("barrier") else message()  # all in our hands, and more than is read there
        self.client = town.client(tls)
        self.outcome = None
        self.is_long = stage in LONG or (stage == "barrier-stays" and legs == 1)  # one leg has no barrier: it commits at once

    def __repr__(self):
        return f"<{self.sender} told {self.outcome!r}>"

    def start(self):
        client, stage = self.client, self.stage
        if stage == "greeted":
            return
        assert client.mail(self.sender) == 250
        if stage.startswith("mail"):
            return
        if stage.startswith("rcpt"):
            client.send(f"RCPT TO:<{self.recipients[0]}>\r\n")
            return
        for recipient in self.recipients:
            assert client.rcpt(recipient) == 250
        assert client.data() == 354
        if stage.startswith("body"):
            client.send(stuff(self.sent)[:200])
        elif stage.startswith("ended-body"):
            client.send(stuff(self.sent) + b".\r")
        else:
            client.send(stuff(self.sent) + END)
        if stage == "after":
            assert client.reply() == 250

    def is_under_way(self):
        """Its stage has been reached at the upstreams, where it is one that they see."""
        upstreams = self.town.upstreams[:self.legs]
        waiting = {"commit-first": upstreams[0], "refused-first": upstreams[0], "commit-last": upstreams[-1], "refused-last": upstreams[-1],
                   "lost-last": upstreams[-1], "commit-soon": upstreams[0]}
        if self.stage in waiting:
            return any(body.sender == self.sender for body in waiting[self.stage].ended_bodies)
        if self.stage.startswith("rcpt"):
            return any(c.sender == self.sender and c.commands[-1].startswith(b"RCPT") for c in upstreams[0].connections)
        if self.stage.startswith(("body", "ended-body", "barrier")):
            return all(any(c.body and c.body.sender == self.sender for c in upstream.connections) for upstream in upstreams)
        return True

    def finish(self):
        """Behind SIGTERM: goes on or does not, and takes what it is told."""
        client, stage = self.client, self.stage
        if stage == "mail-goes":
            for recipient in self.recipients:
                assert client.rcpt(recipient) == 250
            assert client.data() == 354
            self.outcome = client.body(self.sent)
        elif stage == "rcpt-goes":
            assert client.reply() == 250
            for recipient in self.recipients[1:]:
                assert client.rcpt(recipient) == 250
            assert client.data() == 354
            self.outcome = client.body(self.sent)
        elif stage == "body-goes":
            client.send(stuff(self.sent)[200:] + END)
            self.outcome = client.reply()
        else:
            self.outcome = client.reply(timeout=DRAIN + 20)
        if self.outcome != 421:
            assert client.reply() == DOWN, self
        assert client.await_end()[0] in ("fin", "rst"), self
        client.close()

    def judge(self):
        wanted = {"refused-first": "452 4.2.2" if self.legs == 1 else "451 4.3.0", "refused-last": "554 5.7.1" if self.legs == 1 else "451 4.3.0",
                  "lost-last": "451 4.4.2", "greeted": DOWN, "after": DOWN}
        stays = self.stage.endswith("stays") and not self.is_long
        assert self.outcome == (DOWN if stays else wanted.get(self.stage, 250)), self
        upstreams = self.town.upstreams[:self.legs]
        accepted = [self.copies(upstream.messages) for upstream in upstreams]
        given = [self.copies(upstream.ended_bodies) for upstream in upstreams]
        if self.outcome == 250 or self.stage == "after":
            assert [len(copies) for copies in accepted] == [1] * self.legs, (self, accepted)
            assert [len(copies) for copies in given] == [1] * self.legs, (self, given)
            for copies in accepted:
                assert_relayed(copies[0].data, self.sent)
        elif stays or self.stage == "greeted":
            assert given == [[]] * self.legs, (self, given)
        elif self.stage == "refused-first":
            assert accepted == [[]] * self.legs and [len(copies) for copies in given] == [1] + [0] * (self.legs - 1), (self, given)
        else:
            assert [len(copies) for copies in accepted] == [1] * (self.legs - 1) + [0], (self, accepted)

    def copies(self, bodies):
        return [body for body in bodies if body.sender == self.sender]


@pytest.fixture
def start_town(start_daemon, start_upstream, mx_certificate, ca):
    towns = []

    def start(**settings):
        towns.append(Town(start_daemon, start_upstream, mx_certificate, ca, **settings))
        return towns[-1]

    yield start
    for town in towns:
        town.end()


def is_refused(where):
    try:
        Client(where, hello=None).close()
        return False
    except (ConnectionRefusedError, ConnectionResetError, Gone):
        return True


@pytest.mark.threads
@pytest.mark.parametrize("more", [(), (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)], ids=["once", "and more signals"])
def test_fifty_transactions_each_told_what_became_of_it(start_town, more):
    town = start_town()
    daemon = town.daemon
    flights = [Flight(town, stage, legs, tls=bool(number % 2)) for number, (legs, stage) in enumerate(itertools.product((1, 2, 3), STAGES))]
    assert len(flights) > 50
    for flight in flights:
        flight.start()
    for flight in flights:
        poll(flight.is_under_way, f"{flight} to be under way")
    daemon.term()
    daemon.await_log("event=draining")
    for number in more:
        daemon.signal(number)
    poll(lambda: all(is_refused(("127.0.0.1", port)) for port in town.ports.values()), "no new connections")
    failed = []

    def finish(flight):
        try:
            flight.finish()
        except BaseException as error:  # told by the test's own thread
            failed.append((flight, error))

    threads = {flight: threading.Thread(target=finish, args=(flight,)) for flight in flights}
    for thread in threads.values():
        thread.start()
    town.held.set()
    for flight, thread in threads.items():
        if not flight.is_long:
            thread.join(DRAIN + 20)
    poll(lambda: sum("session-cut" in line for line in daemon.lines) > 0, "the end of the drain")
    time.sleep(1.0)  # long enough for anybody to be told something that is not so
    waiting = [flight for flight, thread in threads.items() if thread.is_alive()]
    assert waiting == [flight for flight in flights if flight.is_long], (waiting, failed)
    assert daemon.exit_status is None
    for number in more:
        daemon.signal(number)
    town.late.set()
    for thread in threads.values():
        thread.join(20)
    assert not failed, failed
    assert daemon.await_exit() == 0
    for flight in flights:
        flight.judge()
    assert not any("event=reloaded" in line for line in daemon.lines)


def test_it_ends_when_the_last_one_has_been_told_and_not_before(start_town):
    town = start_town()
    flight = Flight(town, "commit-last", 3, tls=True)
    flight.start()
    poll(flight.is_under_way, "the last commit")
    town.daemon.term()
    town.daemon.await_log("event=draining")
    assert flight.client.silent_for(DRAIN + 0.5)
    assert town.daemon.exit_status is None
    town.late.set()
    flight.finish()
    assert town.daemon.await_exit() == 0
    flight.judge()
    told = next(number for number, line in enumerate(town.daemon.lines) if "event=transaction" in line)
    assert "outcome=accepted" in town.daemon.lines[told] and "event=stopped" in town.daemon.lines[-1]


def test_a_client_that_does_not_read_does_not_keep_it_running(start_town):
    """Its last words are kept for it ten seconds, no more."""
    town = start_town(limits={"errors": 100_000})
    with Client(("127.0.0.1", town.daemon.port), receive_buffer=SMALL) as client:
        client.sock.settimeout(0.5)
        with pytest.raises(socket.timeout):  # whose answers fill every buffer
            client.send("EHLO client.test\r\n" * 1_000_000)
        town.daemon.term()
        assert town.daemon.await_exit(DRAIN + 20) == 0


@pytest.mark.parametrize("more", ["MAIL FROM:<more@client.test>\r\n", "MAIL FROM:<more@client.test>\r\nRCPT TO:<someone@l.example.com>\r\nDATA\r\n"])
def test_no_transaction_begins_behind_a_commit_that_outlasts_the_drain(start_town, more):
    """Its client has written it in advance (RFC 2920 3.1); nobody would end it."""
    town = start_town()
    flight = Flight(town, "commit-first", 1, tls=False)
    flight.start()
    flight.client.send(more)
    poll(flight.is_under_way, "a commit")
    town.daemon.term()
    town.daemon.await_log("event=draining")
    assert flight.client.silent_for(DRAIN + 0.5)
    town.late.set()
    flight.finish()
    assert town.daemon.await_exit() == 0
    flight.judge()


# The next process


def test_a_second_one_waits_outside_until_the_first_has_ended(start_town):
    """Two would write one ledger. A service manager starts the second when the first has ended."""
    town = start_town()
    daemon = town.daemon
    flight = Flight(town, "commit-first", 2, tls=False)
    flight.start()
    poll(flight.is_under_way, "a commit")
    daemon.term()
    daemon.await_log("event=draining")
    second = daemon.command("run", timeout=20)
    assert second.status == 1 and "another splitmx runs with this state directory" in second.err, second
    town.late.set()
    flight.finish()
    assert daemon.await_exit() == 0
    flight.judge()
    daemon.start()
    assert daemon.send(message(), "someone@l.example.com") == 250


def test_one_with_another_state_directory_takes_the_ports_over_at_once(start_town, start_daemon):
    town = start_town()
    flight = Flight(town, "commit-first", 2, tls=False)
    flight.start()
    poll(flight.is_under_way, "a commit")
    town.daemon.term()
    poll(lambda: all(is_refused(("127.0.0.1", port)) for port in town.ports.values()), "no new connections")
    second = start_daemon(start=False, routes=ROUTES, domains=list(ROUTES), relays=town.daemon.settings["relays"])
    second.write_config(listen=[{"address": f"127.0.0.1:{town.daemon.port}"}])
    second.start()
    town.held.set()
    with Client(("127.0.0.1", town.daemon.port)) as client:
        assert client.send_mail(message(), "someone@l.example.com", "someone@k.example.com") == 250
    assert town.daemon.exit_status is None
    town.late.set()
    flight.finish()
    assert town.daemon.await_exit() == 0
    flight.judge()


class Load:
    """Clients that send one message after the other, each until it is settled, whatever happens to the daemon."""

    def __init__(self, port, count):
        self.port, self.told, self.trouble = port, {}, []
        self.deferred = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        for turn in itertools.count():
            if self.over.is_set():
                return
            sender, sent = f"load{number}-{turn}@client.test", message()
            recipients = [f"someone@{domain}" for domain in list(ROUTES)[:1 + turn % 3]]
            while not self.deliver(sender, sent, recipients):
                self.deferred += 1
            self.told[sender] = (sent, len(recipients))

    def deliver(self, sender, sent, recipients):
        try:
            client = Client(("127.0.0.1", self.port), hello=None, greet=False)
        except OSError as error:
            self.trouble.append((sender, error))
            return False
        with client:
            try:
                codes = [client.reply().code, client.cmd("EHLO load.test").code, client.mail(sender).code]
                if codes != [220, 250, 250] or any(client.rcpt(recipient) != 250 for recipient in recipients) or client.data() != 354:
                    return False
                return client.body(sent) == 250
            except (Gone, OSError):
                return False  # it was told 421, or talked into that

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(30)


@pytest.mark.threads
def test_a_restart_with_passed_sockets_refuses_nobody_under_load(start_town):
    town = start_town()
    town.end()  # nobody waits for anything
    daemon = town.daemon
    daemon.stop()
    with socket.create_server(("127.0.0.1", daemon.port), backlog=512) as listening:
        daemon.start(listen_socket=listening)
        load = Load(daemon.port, 16)
        try:
            for number in range(4):
                wanted = len(load.told) + 60
                poll(lambda: len(load.told) >= wanted, "mail to flow")
                daemon.stop(timeout=20)
                daemon.start(listen_socket=listening)
            wanted = len(load.told) + 60
            poll(lambda: len(load.told) >= wanted, "mail to flow")
        finally:
            load.end()
        assert not load.trouble, load.trouble
        for number, upstream in enumerate(town.upstreams):
            copies = {}
            for copy in upstream.messages:
                copies.setdefault(copy.sender, []).append(copy)
            wanted = {sender: sent for sender, (sent, legs) in load.told.items() if legs > number}
            assert copies.keys() == wanted.keys()
            for sender, sent in wanted.items():
                assert len(copies[sender]) == 1, (sender, copies[sender])
                assert_relayed(copies[sender][0].data, sent)
