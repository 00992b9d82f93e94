"""
No memory (design: row 20 of the faults): every allocation of the whole process fails once along a split transaction and
along a reload. Nobody is told what is not so, the daemon lives, and what comes next is served as if nothing had been.
"""

import contextlib
import itertools
import os
import random

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
        self.taken = [r for r in (LOCAL, KING) if self._hear(r, client.rcpt(r), 250)]
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

    def assert_served(self):
        assert self.gone is None, (self.gone, self.said)
        assert self.outcome == 250, self.said
        assert sorted(self.copies()) == sorted((LOCAL, KING))


class Town:
    """A daemon without a place to lose: two upstream connections to each relay, a few sessions."""

    def __init__(self, scarcity, start_daemon, upstreams, authority=None, relay=None, **settings):
        self.scarcity, self.upstreams = scarcity, upstreams
        self.context = authority.client_context() if authority else None
        local, king = upstreams
        self.daemon = start_daemon(
            environment=scarcity.environment, workers=1,
            relays={"local": {"next-hop": local.next_hop, "max-connections": 2, **(relay or {})},
                    "king": {"next-hop": king.next_hop, "max-connections": 2, **(relay or {})}},
            routes={LOCAL: "local", KING: "king"},
            limits={"connections": 10, "connections_per_client": 8}, **settings)

    def client(self, **keywords):
        return TlsClient(self.daemon.where, **keywords)

    def forget(self):
        for upstream in self.upstreams:
            upstream.forget()

    def serve(self):
        """Undisturbed."""
        attempt = Attempt(self).run()
        attempt.assert_served()

    def try_with(self, first, until=None):
        with self.scarcity.of(first, until):
            return Attempt(self).run()

    def held(self):
        """What it holds when nobody is there: sessions, upstream connections, places at each relay, descriptors."""
        status = self.daemon.status()
        return (status["sessions"]["open"], status["upstreams"]["open"], *(r["connections"] for r in status["relays"]),
                self.daemon.descriptors())


@pytest.fixture
def start_town(start_daemon, start_upstream, ca):
    def start(tls=None, **settings):
        scarcity = Scarcity()
        if tls:
            certificate = ca.issue("mx.splitmx.test", "127.0.0.1")
            upstreams = [start_upstream(name, kind=TlsUpstream, certificate=certificate) for name in ("local.test", "king.test")]
            return Town(scarcity, start_daemon, upstreams, authority=ca, relay={"tls": "verify", "ca-file": str(ca.file)},
                        tls=certificate.settings, **settings)
        upstreams = [start_upstream(name) for name in ("local.test", "king.test")]
        return Town(scarcity, start_daemon, upstreams, **settings)

    return start


def sweep(town, step=1, begin=1):
    """Every step-th allocation fails once, until a transaction has so many no more. Returns how many were tried."""
    town.serve()
    poll(lambda: town.held()[0] == 0, "the end of the session")
    before = town.held()
    tried = missed = 0
    for n in itertools.count(begin, step):
        attempt = town.try_with(n)
        failed = town.scarcity.failed
        why = n
        if os.environ.get("TRACE"):
            why = f"allocation {n}: {town.scarcity.where(town.daemon.process.pid) if failed and attempt.outcome is None or attempt.outcome != 250 else 'none'}"
            print(n, failed, attempt.gone, attempt.said[-1:], why, flush=True)
        try:
            attempt.judge()
            town.serve()
        except AssertionError as error:
            if os.environ.get("TRACE"):
                print("FAIL", n, error)
                continue
            raise AssertionError(f"{why}: {error}") from error
        town.forget()
        tried += 1
        missed = 0 if failed else missed + 1
        if missed > 3:
            break
    poll(lambda: town.held() == before, f"as much held as before: {before}")
    return tried


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("idle", ["0s", "30s"], ids=["new connections", "pooled"])
def test_every_allocation_of_a_split_transaction(start_town, tls, idle):
    town = start_town(tls=tls, timeouts={"pool_idle": idle})
    print(sweep(town))
