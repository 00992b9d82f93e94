"""
No memory (design: row 20 of the faults): every allocation of the whole process fails once along a split transaction and
along a reload. Nobody is told what is not so, the daemon lives, and what comes next is served as if nothing had been.
"""

import contextlib
import itertools
import os
import random
import ssl

import pytest

from splitmx_test import daemon as daemon_module
from splitmx_test.client import Gone
from splitmx_test.memory import LIBRARY, NEVER, Scarcity
from splitmx_test.messages import message, split_trace
from splitmx_test.tls import TlsClient, TlsUpstream
from splitmx_test.upstream import ScriptedUpstream
from splitmx_test.waiting import poll

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY} is not built")

LOCAL, KING = "user@example.com", "kingmail@example.com"
# All that a client may hear while memory is short, by what it had asked (none of them final).
SHORT = ("452 4.3.1", "451 4.3.0", "421 4.3.2", "421 4.3.1")
LOST = "451 4.4.2"  # a leg whose connection could not be kept
_numbers = itertools.count(1)


class Attempt:
    """One split transaction as far as it goes; what was said, and whether that may be."""

    def __init__(self, town):
        self.town, self.said, self.taken, self.outcome = town, [], [], None
        self.recipients = town.recipients()
        self.sender = f"s{next(_numbers)}@client.test"
        self.sent = message(b"one\r\n.two\r\n")
        self.gone = None

    def _hear(self, what, reply, wanted):
        self.said.append((what, reply))
        return reply == wanted

    def run(self):
        try:
            with self.town.client(hello=None) as client:
                self._talk(client)
                client.send("QUIT\r\n")
                client.await_end()
        except (Gone, OSError) as gone:
            self.gone = gone
        return self

    def _talk(self, client):
        if not self._hear("greeting", client.greeting, 220) or not self._hear("ehlo", client.cmd("EHLO client.test"), 250):
            return
        if self.town.context is not None:
            if not self._hear("starttls", client.cmd("STARTTLS"), 220):
                return
            if client.take_alert():
                raise Gone("tls: an alert instead of a handshake")
            client.secure(self.town.context)
            if not self._hear("ehlo", client.cmd("EHLO client.test"), 250):
                return
        if not self._hear("mail", client.mail(self.sender), 250):
            return
        self.taken = [r for r in self.recipients if self._hear(r, client.rcpt(r), 250)]
        if not self.taken or not self._hear("data", client.data(), 354):
            return
        self.outcome = client.body(self.sent)
        self.said.append(("outcome", self.outcome))

    def copies(self):
        """Recipients whose upstream has accepted this message, whole."""
        found = []
        for upstream in self.town.upstreams:
            with upstream.board:
                for kept in upstream.messages:
                    if kept.sender == self.sender:
                        assert split_trace(kept.data)[1] == self.sent, "the message has changed"
                        found += kept.recipients
        return found

    def judge(self):
        for what, reply in self.said:
            assert 200 <= reply.code < 500, (what, reply)
            if reply.code >= 400:
                assert any(reply == allowed for allowed in (*SHORT, LOST)), (what, reply)
        copies = self.copies()
        assert len(copies) == len(set(copies)), copies
        if self.outcome is not None and self.outcome == 250:
            assert sorted(copies) == sorted(self.taken), "250 for what was not accepted"
        elif self.outcome is not None:
            assert set(copies) != set(self.taken), f"{self.outcome} for what was accepted by all"
        return self

    def __repr__(self):
        return f"<attempt: {self.said}, {self.gone!r}>"

    def assert_served(self):
        assert self.gone is None, (self.gone, self.said)
        assert self.outcome == 250, self.said
        assert sorted(self.copies()) == sorted(self.recipients)


class Town:
    """A daemon without a place to lose: two upstream connections to each relay, a few sessions."""

    def __init__(self, scarcity, start_daemon, upstreams, authority=None, relay=None, **settings):
        self.scarcity, self.upstreams = scarcity, upstreams
        self.context = authority.client_context() if authority else None
        local, king = upstreams
        self.daemon = start_daemon(
            environment=scarcity.environment, workers=1, **{"relays": {"local": {"next-hop": local.next_hop, "max-connections": 2, **(relay or {})},
                    "king": {"next-hop": king.next_hop, "max-connections": 2, **(relay or {})}},
            "routes": {LOCAL: "local", KING: "king"},
            "limits": {"connections": 10, "connections_per_client": 8}, **settings})
        scarcity.know(self.daemon.process.pid)

    def restart(self):
        self.daemon.stop()
        self.daemon.start()
        self.scarcity.know(self.daemon.process.pid)

    def recipients(self):
        return LOCAL, KING

    def client(self, **keywords):
        return TlsClient(self.daemon.where, **keywords)

    def forget(self):
        for upstream in self.upstreams:
            upstream.forget()

    def serve(self):
        """Undisturbed, at once and whole."""
        Attempt(self).run().assert_served()

    def try_with(self, first, until=None):
        with self.scarcity.of(first, until):
            return Attempt(self).run()

    def settle(self, held=None):
        """Until it is at rest after a good transaction, and holds no more than so much."""
        self.serve()
        poll(lambda: self.held()[0] == 0 if held is None else self.held() == held, f"what it held before: {held}")

    def fail(self, n, done, error):
        raise AssertionError(f"allocation {n} of {self.scarcity.where()}: {error!r}; {done}\n" + "\n".join(self.daemon.lines[-5:])) from error

    def held(self):
        """What it holds when nobody is there: sessions, upstream connections, places at each relay, descriptors."""
        status = self.daemon.status()
        return (status["sessions"]["open"], status["upstreams"]["open"], *(r["connections"] for r in status["relays"]),
                self.daemon.descriptors())


@pytest.fixture
def start_town(start_daemon, start_upstream, ca):
    def start(tls=None, listener_certificate=None, **settings):
        scarcity = Scarcity()
        if tls:
            certificate = ca.issue("mx.splitmx.test", "127.0.0.1")
            upstreams = [start_upstream(name, kind=TlsUpstream, certificate=certificate) for name in ("local.test", "king.test")]
            return Town(scarcity, start_daemon, upstreams, authority=ca, relay={"tls": "verify", "ca-file": str(ca.file)},
                        tls=(listener_certificate or certificate).settings, **settings)
        upstreams = [start_upstream(name) for name in ("local.test", "king.test")]
        return Town(scarcity, start_daemon, upstreams, **settings)

    return start


# So many numbers in a row that none failed with: there are no more.
MISSES = 4


def every(count):
    """1, 1 + count, ... from somewhere in the first few, so that all have their turn in the course of time."""
    step = 1 if "SPLITMX_SLOW" in os.environ else count
    return itertools.count(random.SystemRandom().randrange(1, step + 1), step)


def sweep(town, numbers, try_with, check):
    """
    Each of the numbers is tried, until there are not so many allocations any more. Returns how many were tried.
    Afterwards nothing is kept of what failed.
    """
    town.settle()
    before = town.held()
    tried = missed = 0
    for n in numbers:
        done = try_with(n)
        failed = town.scarcity.failed
        try:
            check(done)
            town.serve()
        except (AssertionError, Gone, OSError) as error:
            town.fail(n, done, error)
        town.forget()
        tried += 1
        missed = 0 if failed else missed + 1
        if missed == MISSES:
            break
    town.settle(before)
    return tried


# Along a split transaction


@pytest.mark.parametrize("idle", ["0s", "30s"], ids=["new connections", "pooled"])
@pytest.mark.parametrize("tls, step", [(False, 1), (True, 5)], ids=["clear", "tls"])
def test_any_allocation_of_a_split_transaction_may_fail(start_town, tls, step, idle):
    """Of a daemon that has served: what config/spares keeps is not allocated again, so few are left (with a sanitizer it keeps nothing)."""
    town = start_town(tls=tls, timeouts={"pool_idle": idle})
    assert sweep(town, every(step), town.try_with, Attempt.judge) > MISSES, "not one failed"


def test_any_allocation_of_the_first_split_transaction_may_fail(start_town):
    """Nothing is kept yet that could be used again: every allocation on the way is made, by a daemon of its own each time."""
    town = start_town(timeouts={"pool_idle": "0s"})

    def try_with(n):
        town.restart()
        return town.try_with(n)

    assert sweep(town, every(1), try_with, Attempt.judge) > 20


@pytest.mark.parametrize("tls, step", [(False, 1), (True, 40)], ids=["clear", "tls"])
def test_all_allocations_may_fail_for_a_while(start_town, tls, step):
    """From the n-th on, until the client has its answer or is gone."""
    town = start_town(tls=tls, timeouts={"pool_idle": "0s", "command": "2s"})
    sweep(town, every(step), lambda n: town.try_with(n, NEVER), Attempt.judge)


class NamedTown(Town):
    """Each transaction goes to hosts that have not been asked for lately, so that nothing is known of them."""

    COUNT = 200

    def __init__(self, scarcity, start_daemon, upstreams, dns):
        self._next = itertools.cycle(range(self.COUNT))
        for n in range(self.COUNT):
            dns.add(f"h{n}.test", "A", "127.0.0.1", ttl=0)
        relays = {f"r{n}": {"next-hop": f"smtp:[h{n}.test]:{upstreams[n % 2].port}"} for n in range(self.COUNT)}
        super().__init__(scarcity, start_daemon, upstreams, relays=relays, timeouts={"pool-idle": "0s"},
                         routes={f"u{n}@example.com": f"r{n}" for n in range(self.COUNT)})

    def recipients(self):
        return f"u{next(self._next)}@example.com", f"u{next(self._next)}@example.com"

    def held(self):
        """Without the descriptors that questions to DNS have for a moment."""
        return super().held()[:-1]


@pytest.mark.parametrize("until, step", [(None, 1), (NEVER, 12)], ids=["one", "all from it on"])
def test_any_allocation_may_fail_where_names_are_looked_up(start_daemon, start_upstream, dns, until, step):
    upstreams = [start_upstream(name) for name in ("local.test", "king.test")]
    town = NamedTown(Scarcity(), start_daemon, upstreams, dns)
    assert sweep(town, every(step), lambda n: town.try_with(n, until), Attempt.judge) > 7


def test_any_allocation_of_the_first_transaction_may_fail(start_town):
    """What is made once, when it is first wanted."""
    for n in itertools.islice(every(8), 20):
        town = start_town(tls=True)
        attempt = town.try_with(n)
        try:
            attempt.judge()
            town.serve()
        except AssertionError as error:
            town.fail(n, attempt, error)
        town.daemon.stop()


def test_a_descriptor_higher_than_ever_before_needs_no_memory(start_town):
    """Tables by descriptor grow when it is seldom expected, and would take the process with them."""
    town = start_town(limits={"connections": 800, "connections_per_client": 800})
    with contextlib.ExitStack() as held:
        for n in range(700):
            with contextlib.suppress(Gone, OSError), town.scarcity.of(3 + n % 3, NEVER):  # connection and session are still to be had
                held.enter_context(town.client(hello=None))
        assert town.daemon.descriptors() > 300
        town.serve()
    town.serve()


# Along a reload


class Change:
    """Two configurations in turn, which differ in all that a reload replaces."""

    def __init__(self, town, certificates):
        self.town, self.certificates = town, certificates
        self.now, self.said = 0, None
        self.names = ["mx.splitmx.test", "mx2.splitmx.test"]

    def write(self, which):
        self.town.daemon.write_routes({LOCAL: "local", KING: "king"} if which == 0 else {LOCAL: "king", KING: "local"})
        self.town.daemon.write_config(hostname=self.names[which], tls=self.certificates[which].settings)

    def try_with(self, first, until=None):
        self.write(1 - self.now)
        with self.town.scarcity.of(first, until):
            self.said = self.town.daemon.reload()
        return self

    def in_force(self):
        """0 or 1, told by name, certificate and routes alike."""
        town = self.town
        with town.client() as client:
            name = self.names.index(client.greeting.text.split()[0])
            client.starttls(town.context)
            shown = [ssl.PEM_cert_to_DER_cert(c.chain.read_text()) for c in self.certificates].index(client.certificate)
            assert client.send_mail(message(), LOCAL, sender="reload@client.test") == 250
        kept = [any(m.sender == "reload@client.test" for m in u.messages) for u in town.upstreams]
        town.forget()
        assert [name, shown] == [kept.index(True)] * 2, f"a mixture: name {name}, certificate {shown}, routes {kept}"
        return name

    def judge(self):
        found = self.in_force()
        assert self.said.status != 0 or found == 1 - self.now, "fine, but the old one is in force"
        assert self.said.status == 0 or self.said.err or self.said.out, "it failed without a word"
        if found != self.now:
            self.now = found
            return
        again = self.town.daemon.reload()
        assert again.status == 0, again
        self.now = self.in_force()

    def __repr__(self):
        return f"<reload to {1 - self.now}: {self.said}>"


@pytest.mark.parametrize("until, step", [(None, 80), (NEVER, 160)], ids=["one", "all from it on"])
def test_any_allocation_of_a_reload_may_fail(start_town, ca, until, step):
    certificates = [ca.issue("mx.splitmx.test", "127.0.0.1") for _ in range(2)]
    town = start_town(tls=True, timeouts={"pool_idle": "0s"}, listener_certificate=certificates[0])
    change = Change(town, certificates)
    assert sweep(town, every(step), lambda n: change.try_with(n, until), Change.judge) > 30


@pytest.mark.skipif(daemon_module.is_sanitized(), reason="with a sanitizer config/spares keeps nothing")
@pytest.mark.parametrize("recipients", [(LOCAL,), (LOCAL, KING)], ids=["one relay", "two relays"])
def test_mail_on_a_warm_connection_allocates_nothing(start_town, recipients):
    town = start_town()
    with town.client() as client:
        for _ in range(10):
            assert client.send_mail(message(), *recipients) == 250
        with town.scarcity.of(0):
            for _ in range(50):
                assert client.send_mail(message(), *recipients) == 250
        assert town.scarcity.count < 25, "less than one for two messages: a timer's list may grow, the ledger may write"
