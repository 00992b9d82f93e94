"""
Postfix and Exim send through splitmx to relays of which some refuse, defer or vanish after the data: in the end each
recipient has its own true outcome, told in its own server's words, and nobody had to do anything.

Copies are counted by Message-ID at each relay. How long it took and how many runs of the sender's queue is told
at the end of the tests; it is judged nowhere.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.laboratory import KING
from lab.names import mx
from lab.servers import Local
from splitmx_test.messages import message
from splitmx_test.upstream import call, reply, reset, silence
from splitmx_test.waiting import poll

PRIVATE, FAR2 = "10.89.0.25", "192.0.2.31"
GOOD, BAD, THIRD = "good@one.test", "bad@one.test", "third@one.test"
NO = "550 5.7.1 The king does not like this"
LATER = "451 4.2.0 The king is asleep"
DOMAINS = ["one.test", "pair.test", "north.test", "south.test", "east.test", "west.test"]
ROUNDS = 12  # runs of a queue in which all has to be settled


class Mail:
    def __init__(self, text):
        self.text = text
        self.id = re.search(rb"Message-ID: (<[^>]*>)", text).group(1)

    def copies(self, upstream):
        """How often an upstream said 2xx to it."""
        with upstream.board:
            return sum(self.id in one.data for one in upstream.messages)

    def offers(self, upstream):
        """How often an upstream was told the end of it, whatever it said."""
        with upstream.board:
            return sum(self.id in one.data for one in upstream.ended_bodies)


@pytest.fixture(params=["postfix", "exim"])
def sender(lab, request):
    queue = lab.queues[request.param]
    yield queue
    queue.forget()


@pytest.fixture(params=["good-first", "bad-first"])
def places(request):
    """Addresses of the server that is well and of the one that is not: who is on the public one is committed first."""
    return (KING, PRIVATE) if request.param == "good-first" else (PRIVATE, KING)


@pytest.fixture
def home(lab, start_server):
    """Where bounces go."""
    return start_server(lab.client, "client.test")


@pytest.fixture
def start(lab, start_daemon, start_server):
    """start(GOOD=address, ...): splitmx with a relay of each recipient's own at the address; the scripted servers there."""

    def at(address):
        return lab.local_host if address == PRIVATE else lab.far

    def start(there=None, servers=True, timeouts=None, **addresses):
        upstreams = {name: start_server(at(address), f"{name}.test", address) for name, address in addresses.items() if servers}
        routes = {f"{name}@{domain}": name for name in addresses for domain in DOMAINS}
        daemon = start_daemon(there=there, domains=DOMAINS, routes=routes, timeouts=timeouts or {},
                              relays={name: {"next-hop": f"smtp:[{address}]"} for name, address in addresses.items()})
        return daemon, *upstreams.values()

    return start


class Errand:
    """One message on its way: sent when made; the clock runs until settle() has returned."""

    def __init__(self, record_property, home, sender, *recipients, text=None):
        self.record_property, self.home, self.sender = record_property, home, sender
        self.mail = Mail(text or message())
        self.began = time.monotonic()
        sender.send(self.mail.text, *recipients)

    def settle(self, until=lambda queue: not queue):
        runs = self.sender.settle(ROUNDS, until)
        self.record_property("took", f"{time.monotonic() - self.began:.1f} s, {runs} more runs of the queue")

    def assert_bounced(self, recipient, said):
        """Only this recipient, once, with its own server's words."""
        assert len(self.home.messages) == 1, self.home.messages
        notice = self.home.messages[0]
        text = " ".join(notice.data.decode("latin-1").split())
        assert (notice.sender, notice.recipients) == ("", ["sender@client.test"])
        assert recipient in text and said in text, text
        assert re.findall(r"Final-Recipient: rfc822; ?(\S+)", text) == [recipient], text

    def assert_nobody_was_told(self):
        assert self.home.messages == []


@pytest.fixture
def post(record_property, home, sender):
    """post(recipient, ...): into the sender's queue, and a first attempt."""
    return lambda *recipients, **keywords: Errand(record_property, home, sender, *recipients, **keywords)


# One is well, the other is not.


def test_one_refuses_for_good(start, post, places):
    _, good, bad = start(good=places[0], bad=places[1])
    bad.on("eod", reply(NO))
    errand = post(GOOD, BAD)
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 0)
    errand.assert_bounced(BAD, NO)


def test_one_defers_twice(start, post, places):
    _, good, bad = start(good=places[0], bad=places[1])
    bad.on("eod", reply(LATER), times=2)
    errand = post(GOOD, BAD)
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 1)
    errand.assert_nobody_was_told()


def test_one_defers_for_ever_and_the_other_is_done_with(start, post, sender, places):
    _, good, bad = start(good=places[0], bad=places[1])
    bad.on("eod", reply(LATER))
    errand = post(GOOD, BAD)
    errand.settle(lambda queue: list(queue) == [BAD] and LATER in queue[BAD])
    for _ in range(3):
        sender.run()
        assert list(sender.queue()) == [BAD]
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 0)
    errand.assert_nobody_was_told()


def test_one_resets_in_mid_body_twice(start, post, places):
    _, good, bad = start(good=places[0], bad=places[1])
    bad.on("body", reset(), at=20_000, times=2)
    errand = post(GOOD, BAD, text=message(size=50_000))
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 1)
    assert len(bad.incomplete) == 2
    errand.assert_nobody_was_told()


def test_one_is_silent_once_after_the_end_of_data(start, post, places):
    """It may have the message or not: a second copy there is right, and only there."""
    _, good, bad = start(good=places[0], bad=places[1], timeouts={"end-of-data": "3s"})
    bad.on("eod", silence(), times=1)
    errand = post(GOOD, BAD)
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad), errand.mail.offers(bad)) == (1, 1, 2)
    errand.assert_nobody_was_told()


def test_splitmx_is_killed_between_two_commits(start, post, sender):
    """What one had accepted is on disk by then, and holds."""
    daemon, good, bad = start(good=KING, bad=PRIVATE)
    bad.on("eod", silence(), times=1)
    began = time.time_ns()

    def kill_in_between():
        try:
            bad.wait_for(lambda: bad.ended_bodies, "an end of data")
            await_written(daemon, began)
        finally:
            daemon.kill()

    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(kill_in_between)
        errand = post(GOOD, BAD)
        killed.result()
    assert set(sender.queue()) == {GOOD, BAD}
    daemon.start()
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 1)
    errand.assert_nobody_was_told()


def await_written(daemon, since):
    """Until the daemon has written to its state directory since then, and has been at rest there for half a second."""

    def is_written():
        newest = max(path.stat().st_mtime_ns for path in (daemon.folder.path / "state").rglob("*") if path.is_file())
        return newest > since and time.time_ns() - newest > 500_000_000

    poll(is_written, "what was accepted to be written down")


@pytest.mark.parametrize("sender", ["postfix"], indirect=True)  # Exim: 452 to one, 5xx behind it, and it bounces both
def test_two_of_three_are_bad(start, post):
    _, good, bad, third = start(good=KING, bad=PRIVATE, third=FAR2)
    bad.on("eod", reply(NO))
    third.on("eod", reply(LATER), times=2)
    errand = post(GOOD, BAD, THIRD)
    errand.settle()
    assert [errand.mail.copies(upstream) for upstream in (good, bad, third)] == [1, 0, 1]
    errand.assert_bounced(BAD, NO)


def test_all_three_defer_once_one_after_another(start, post):
    _, *upstreams = start(good=KING, bad=PRIVATE, third=FAR2)
    for upstream in upstreams:
        upstream.on("eod", reply(LATER), times=1)
    errand = post(GOOD, BAD, THIRD)
    errand.settle()
    assert [errand.mail.copies(upstream) for upstream in upstreams] == [1, 1, 1]
    errand.assert_nobody_was_told()


# How recipients come together at all is the sender's affair.


@pytest.mark.parametrize("recipients", [("good@north.test", "bad@south.test"), ("good@east.test", "bad@west.test")],
                         ids=["by-route", "by-mx"])
def test_recipients_in_two_domains(start, post, recipients):
    """Whose mail goes by a route comes in one transaction; by MX Postfix sends for each domain, and Exim for both."""
    _, good, bad = start(good=KING, bad=PRIVATE)
    bad.on("eod", reply(LATER), times=2)
    errand = post(*recipients)
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 1)
    errand.assert_nobody_was_told()


def test_two_recipients_at_each_relay(start, post, places):
    """They are settled together: what is told of a message is told of all who have it."""
    _, good, bad = start(good=places[0], bad=places[1])
    bad.on("eod", reply(LATER), times=2)
    recipients = [f"{user}@{domain}" for user in ("good", "bad") for domain in ("north.test", "south.test")]
    errand = post(*recipients)
    errand.settle()
    assert (errand.mail.copies(good), errand.mail.copies(bad)) == (1, 1)
    assert [sorted(upstream.messages[0].recipients) for upstream in (good, bad)] == [sorted(recipients[:2]), sorted(recipients[2:])]
    errand.assert_nobody_was_told()


def test_several_messages_of_one_sender_at_once(start, post, sender):
    """Each has an identity of its own in the set that they share."""
    _, good, bad = start(good=KING, bad=PRIVATE)
    bad.on("eod", reply(LATER), times=3)
    errands = [post(GOOD, BAD) for _ in range(3)]
    errands[0].settle()
    assert [(one.mail.copies(good), one.mail.copies(bad)) for one in errands] == [(1, 1)] * 3
    errands[0].assert_nobody_was_told()


def test_what_is_settled_is_forgotten(start, post):
    """The same message, sent again by somebody who wants that, comes again. More than once, as how a sender closes varies."""
    _, good, bad = start(good=KING, bad=PRIVATE)
    for _ in range(4):
        bad.on("eod", reply(LATER), times=1)
        first = post(GOOD, BAD)
        first.settle()
        assert (first.mail.copies(good), first.mail.copies(bad)) == (1, 1)
        post(GOOD, BAD, text=first.mail.text).settle()
        assert (first.mail.copies(good), first.mail.copies(bad)) == (2, 2)


# Real servers behind.


@pytest.fixture
def start_real(lab, start_daemon, start_server):
    """start_real(real_first): splitmx between the local Postfix, for user@one.test, and a scripted server."""

    def start(real_first):
        real, scripted = (lab.local.public, PRIVATE) if real_first else (lab.local.plain, KING)
        server = start_server(lab.far if real_first is False else lab.local_host, "scripted.test", scripted)
        start_daemon(domains=DOMAINS, routes={"user@one.test": "real", BAD: "scripted"},
                     relays={"real": {"next-hop": f"smtp:[{real}]"}, "scripted": {"next-hop": f"smtp:[{scripted}]"}})
        return server

    return start


@pytest.mark.parametrize("said, times", [(NO, None), (LATER, 2)], ids=["refuses", "defers"])
@pytest.mark.parametrize("real_first", [True, False], ids=["good-first", "bad-first"])
def test_postfix_is_well_and_the_other_is_not(lab, start_real, post, local, real_first, said, times):
    bad = start_real(real_first)
    bad.on("eod", reply(said), times=times)
    errand = post("user@one.test", BAD)
    errand.settle()
    local.await_new("user")
    assert lab.local.accepted(errand.mail.id.decode()) == 1
    if times is None:
        errand.assert_bounced(BAD, said)
    else:
        errand.assert_nobody_was_told()
    assert errand.mail.copies(bad) == (0 if times is None else 1)


@pytest.mark.parametrize("real_first", [True, False], ids=["bad-first", "good-first"])
def test_postfix_refuses_what_the_other_takes(lab, start_real, post, local, real_first):
    good = start_real(real_first)
    errand = post("user@one.test", BAD, text=message(subject=Local.POISON))
    errand.settle()
    assert (lab.local.accepted(errand.mail.id.decode()), errand.mail.copies(good)) == (0, 1)
    errand.assert_bounced("user@one.test", f"550 5.7.1 {Local.REFUSAL}")


# A second splitmx is the lower MX, with a ledger of its own.


@pytest.fixture
def pair(lab, start):
    """The two daemons, and the two servers that both relay to."""
    upper, good, bad = start(good=KING, bad=PRIVATE)
    lower, = start(there=lab.lower, servers=False, good=KING, bad=PRIVATE)
    return upper, lower, good, bad


@pytest.mark.parametrize("said, times", [(NO, None), (LATER, 3)], ids=["refuses", "defers"])
def test_two_instances(pair, post, said, times):
    """The sender goes from one to the other at once, and each learns for itself: a copy from each, at most."""
    _, _, good, bad = pair
    bad.on("eod", reply(said), times=times)
    errand = post("good@pair.test", "bad@pair.test")
    errand.settle()
    assert 1 <= errand.mail.copies(good) <= 2
    assert errand.mail.copies(bad) == (0 if times is None else 1)
    if times is None:
        errand.assert_bounced("bad@pair.test", said)
    else:
        errand.assert_nobody_was_told()


def test_two_instances_of_which_the_first_goes_away(pair, post):
    upper, _, good, bad = pair
    bad.on("eod", reply(LATER), times=3)
    errand = post("good@pair.test", "bad@pair.test")
    upper.stop()
    errand.settle()
    assert 1 <= errand.mail.copies(good) <= 2
    assert errand.mail.copies(bad) == 1
    errand.assert_nobody_was_told()


def test_two_instances_and_one_relay_that_defers_for_ever(pair, post, sender):
    _, _, good, bad = pair
    bad.on("eod", reply(LATER))
    errand = post("good@pair.test", "bad@pair.test")
    errand.settle(lambda queue: list(queue) == ["bad@pair.test"] and LATER in queue["bad@pair.test"])
    sender.run()
    assert list(sender.queue()) == ["bad@pair.test"]
    assert 1 <= errand.mail.copies(good) <= 2
    errand.assert_nobody_was_told()


# Nobody drives.


@pytest.mark.parametrize("said, times", [(NO, None), (LATER, 2)], ids=["refuses", "defers"])
def test_a_queue_that_is_left_alone(lab, start, home, record_property, said, times):
    """As all of them are: Postfix tries when it finds it due."""
    _, good, bad = start(good=KING, bad=PRIVATE)
    bad.on("eod", reply(said), times=times)
    mail, server, began = Mail(message()), lab.senders[1], time.monotonic()
    server.send(mail.text, GOOD, BAD)
    server.await_empty_queue(timeout=60)
    record_property("took", f"{time.monotonic() - began:.1f} s")
    assert (mail.copies(good), mail.copies(bad)) == (1, 0 if times is None else 1)
    assert len(home.messages) == (1 if times is None else 0)


# What splitmx has to know of these senders.


def test_both_say_quit_before_they_have_their_answer(lab, start_server, sender):
    """So a command behind the end of data does not say that its answer was read."""
    server = start_server(lab.far, "kingmailer.org", KING)
    server.on("eod", call(lambda connection: connection.await_unasked(b"QUIT\r\n")))
    with lab.names.also(mx("quit.test", (10, "kingmailer.org"))):
        sender.send(message(), "somebody@quit.test")
    assert len(server.messages) == 1 and sender.queue() == {}


def test_both_keep_who_was_told_451_when_the_rest_is_refused(lab, start_server, sender):
    """Exim bounces who was told 452 behind a 250 together with those that the 5xx at the end of data is for."""
    server = start_server(lab.far, "kingmailer.org", KING)
    server.on("rcpt", reply("451 4.5.3 Separately"), when="second@", times=1).on("eod", reply(NO), times=1)
    with lab.names.also(mx("quit.test", (10, "kingmailer.org"))):
        sender.send(message(), "first@quit.test", "second@quit.test")
        assert "second@quit.test" in sender.queue()
        sender.run()
    assert [one.recipients for one in server.messages] == [["second@quit.test"]]
