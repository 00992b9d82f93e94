"""
The ledger on a full disk (design: section 5; row 20 of the faults): no 250 for what was not accepted, no 4xx for what
was accepted by all, one leg at a time until the ledger can be written, and full service without a restart then.
"""

import itertools
import os

import pytest

from splitmx_test.daemon import BINARY
from splitmx_test.disk import Disk, can_mount
from splitmx_test.messages import message
from splitmx_test.upstream import reply
from splitmx_test.waiting import poll

LOCAL, KING = "user@example.com", "kingmail@example.com"
_numbers = itertools.count(1)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="no tmpfs can be mounted here"),
              pytest.mark.skipif(not BINARY.exists() or b"ledger-unusable" not in BINARY.read_bytes(), reason="there is no ledger in this program")]


@pytest.fixture
def disk():
    disk = Disk(size="4m")
    yield disk
    disk.remove()


class Town:
    def __init__(self, disk, start_daemon, start_upstream, **settings):
        self.disk = disk
        self.local, self.king = start_upstream("local.test"), start_upstream("king.test")
        self.upstreams = [self.local, self.king]
        self.daemon = start_daemon(state_directory=str(disk.folder("state")), routes={LOCAL: "local", KING: "king"}, relays={
            "local": {"next-hop": self.local.next_hop}, "king": {"next-hop": self.king.next_hop}}, **settings)

    def sender(self):
        """One that no set knows."""
        return f"s{next(_numbers)}@client.test"

    def send(self, sender=None, sent=None):
        """To both: the answers to the two RCPTs, and that to the end of data."""
        sent = sent or message()
        with self.daemon.client() as client:
            assert client.mail(sender or self.sender()) == 250
            first, second = client.rcpt(LOCAL), client.rcpt(KING)
            if not any(said == 250 for said in (first, second)):
                return first, second, None
            assert client.data() == 354
            return first, second, client.body(sent)

    def is_split(self):
        first, second, said = self.send()
        return first == 250 and second == 250 and said == 250

    def unsettle(self, sender=None, sent=None):
        """One of the two refuses after the other has accepted: 451."""
        refused = []

        def accept_then_refuse(connection):
            refused.append(connection)
            connection.send(b"250 2.0.0 Ok\r\n" if len(refused) == 1 else b"451 4.3.0 not now\r\n")
            return True

        for upstream in self.upstreams:
            upstream.on("eod", accept_then_refuse)
        first, second, said = self.send(sender, sent)
        for upstream in self.upstreams:
            upstream.rules.clear()
        return first, second, said

    def copies(self, sender):
        """How many of its messages each has accepted."""
        return [sum(m.sender == sender for m in upstream.messages) for upstream in self.upstreams]

    def defers(self):
        """One leg at a time: the second recipient is put off, and the first one's message is accepted."""
        first, second, said = self.send()
        return first == 250 and second == "452 4.5.3" and said == 250

    def fill_and_find_out(self):
        """The disk is full, and the ledger has met it."""
        self.disk.fill()
        for _ in range(20):
            first, second, said = self.unsettle()
            if second == "452 4.5.3":
                return
            assert said == "451 4.3.0", said
        pytest.fail("the ledger has found room on a full disk twenty times")

    def settle_all(self, sender, sent, tries=6):
        """Tries again as a sender would, each time with those that are left; how often it took."""
        left = [LOCAL, KING]
        for _ in range(tries):
            with self.daemon.client() as client:
                client.mail(sender)
                taken = [recipient for recipient in left if client.rcpt(recipient) == 250]
                if taken and client.data() == 354 and client.body(sent) == 250:
                    client.quit()  # it has read the answer
                    left = [recipient for recipient in left if recipient not in taken]
            if not left:
                return
        pytest.fail(f"{left} are not settled after {tries} tries")


@pytest.fixture
def start(disk, start_daemon, start_upstream):
    return lambda **settings: Town(disk, start_daemon, start_upstream, **settings)


def test_what_is_accepted_by_all_is_250_on_a_full_disk(start):
    town = start()
    town.disk.fill()
    for _ in range(50):
        sender = town.sender()
        first, second, said = town.send(sender)
        assert first == 250 and said == 250, (first, second, said)
        assert second == 250 or second == "452 4.5.3", second
        assert town.copies(sender) == [1, 1 if second == 250 else 0]


def test_a_split_that_cannot_be_recorded_is_451_and_from_then_on_one_leg_at_a_time(start):
    town = start()
    town.fill_and_find_out()
    for _ in range(5):
        assert town.defers()
    for upstream in town.upstreams:  # a leg's own answer is as ever
        upstream.on("eod", reply("554 5.7.1 no"))
    first, second, said = town.send()
    assert first == 250 and second == "452 4.5.3" and said == "554 5.7.1", (first, second, said)


def test_nothing_accepted_is_ever_lost_while_it_cannot_be_recorded(start):
    """At most a duplicate: what one has accepted may come to it again, what one has refused comes once it takes it."""
    town = start()
    sender, sent = town.sender(), message()
    town.disk.fill()
    for _ in range(20):
        first, second, said = town.unsettle(sender, sent)
        if said is not None:
            assert said != 250 or second != 250, "250 for what one has refused"
        if second != 250:
            break
    town.settle_all(sender, sent)
    assert all(count >= 1 for count in town.copies(sender))


def test_full_service_is_back_once_there_is_room_without_a_restart(start):
    town = start()
    pid = town.daemon.status()["pid"]
    town.fill_and_find_out()
    town.disk.empty()
    poll(town.is_split, "a split at once, as before", timeout=15, interval=0.2)
    sender, sent = town.sender(), message()
    assert town.unsettle(sender, sent)[2] == "451 4.3.0"
    town.settle_all(sender, sent)
    assert town.copies(sender) == [1, 1], "the ledger records again"
    assert town.daemon.status()["pid"] == pid


def test_what_was_recorded_before_the_disk_was_full_still_counts(start):
    town = start()
    sender, sent = town.sender(), message()
    assert town.unsettle(sender, sent)[2] == "451 4.3.0"
    town.fill_and_find_out()
    town.settle_all(sender, sent)
    assert town.copies(sender) == [1, 1]


def test_a_start_on_a_full_disk_defers_until_there_is_room(start):
    town = start()
    town.daemon.stop()
    for name in os.listdir(town.disk.path / "state"):
        if name.startswith("ledger"):
            (town.disk.path / "state" / name).unlink()
    town.disk.fill()
    town.daemon.start()
    poll(town.defers, "one leg at a time", timeout=5)
    town.disk.empty()
    poll(town.is_split, "a split at once", timeout=15, interval=0.2)


def test_the_log_tells_when_it_cannot_be_written_and_when_it_can_again(start):
    town = start()
    town.fill_and_find_out()
    assert "No space left on device" in town.daemon.await_log("event=ledger-unusable")
    town.disk.empty()
    poll(town.is_split, "a split at once", timeout=15, interval=0.2)
    town.daemon.await_log("event=ledger-usable")
    assert len([line for line in town.daemon.lines if "event=ledger-unusable" in line]) == 1, "not for every transaction"

