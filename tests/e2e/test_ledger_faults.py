"""
A split that did not settle at once, and senders that try again (design: section 5; faults 13, 14 and 20): in the end each recipient
has its own relay's true outcome, and nobody a second copy of what splitmx can know was accepted.
"""

import contextlib
import itertools
import os
import pwd
import subprocess
import threading

import pytest

from splitmx_test.client import stuff
from splitmx_test.daemon import daemons
from splitmx_test.faults import KINDS, WORDS, Case, Stage, asked_for, play_all
from splitmx_test.messages import assert_relayed, message
from splitmx_test.queueing import QueuedMessage
from splitmx_test.upstream import call, close, reply, reset, wait
from splitmx_test.waiting import poll

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"
ALREADY = "250 2.0.0 already accepted"

_numbers = itertools.count(1)


def new_sender():
    """Sets go by sender and recipient: so what one test leaves in the ledger is not met by the next."""
    return f"sender{next(_numbers)}@client.test"


# Every fault from DATA on, once; and a refusal that stays


# In the body a 5xx answers nothing.
FINAL = {("DATA", "5xx"), ("end-of-data", "5xx")}

CASES = [Case(stage, kind, legs, place, once=(stage, kind) not in FINAL)
         for stage in ("DATA", "body first", "body middle", "body last", "end-of-data") for kind in KINDS
         if (stage, kind) != ("body last", "silence")  # that is silence at the end of data
         for legs in (2, 3) for place in range(legs)]


@pytest.fixture(scope="module")
def delivered(request, ca):
    """All cases that were asked for, many at a time: {case: function that gives what `Stage.deliver` does}."""
    asked = asked_for(request)
    with daemons() as start_daemon:
        stages = {}
        for number, name in enumerate(dict.fromkeys(case.stage for case in asked)):
            cases = [case for case in asked if case.stage == name]
            stages[name] = Stage(name, cases, start_daemon, None, 32 + number)
        slow_first = sorted(asked, key=lambda case: case.kind != "silence")
        yield play_all({case: (lambda case=case: stages[case.stage].deliver(case)) for case in slow_first})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sender_that_tries_again_ends_with_each_recipients_own_outcome(delivered, case):
    queued, copies, faulty = delivered[case]()
    outcomes = [queued.settled[recipient] for recipient in queued.recipients]
    for place, (outcome, count) in enumerate(zip(outcomes, copies)):
        if (case.stage, case.kind) in FINAL and place == faulty:
            assert (outcome.lines, count) == ([WORDS["5xx"]], 0), queued
        else:
            assert outcome == 250 and count == 1, queued
    assert queued.attempts <= 1 + case.legs, f"each leg needs one to hear its own answer: {queued}"


# 13 and 14


def accept_then(split, *actions, times=None):
    """
    Of two upstreams the first that is committed accepts, the other does what is said, at its first ends of data. Returns the
    list of both in that order, filled as they come.
    """
    order, lock = [], threading.Lock()

    def end(upstream):
        left = [times]

        def act(connection):
            with lock:
                if upstream not in order:
                    order.append(upstream)
            if order[0] is upstream or left[0] == 0:
                return False
            if left[0] is not None:
                left[0] -= 1
            return any([action(connection) for action in actions])

        return call(act)

    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", end(upstream))
    return order


def recipient_of(split, upstream):
    return {split.local: LOCAL, split.kingmailer: KING}[upstream]


def assert_one_copy(sent, *upstreams):
    for upstream in upstreams:
        assert_relayed(upstream.only_message().data, sent)


def unsettled(split, *actions, recipients=(LOCAL, KING), times=1, sent=None, **keywords):
    """A message that one has accepted and the other not: (QueuedMessage after that attempt, upstream A, upstream B)."""
    order = accept_then(split, *(actions or [reply("451 4.3.1 disk full")]), times=times)
    queued = QueuedMessage(split.daemon.where, sent or message(), recipients, sender=new_sender(), **keywords).attempt()
    assert queued.left == list(recipients), queued
    assert queued.said(1, "end").code == 451
    a, b = order
    assert (len(a.messages), len(b.messages)) == (1, 0)
    return queued, a, b


@pytest.mark.parametrize("recipients", [(LOCAL, KING), (KING, LOCAL)])
def test_13_a_gets_no_second_copy_and_b_its_first_after_a_4xx_of_b_at_commit(split, recipients):
    queued, a, b = unsettled(split, reply("451 4.3.1 disk full"), recipients=recipients)
    assert queued.said(1, "end") == "451 4.3.0" and "disk full" in queued.said(1, "end").text
    its, other = recipient_of(split, a), recipient_of(split, b)
    queued.attempt()  # who has accepted is first in turn
    assert queued.said(2, "rcpt", its) == 250 and queued.said(2, "rcpt", other) == "452 4.5.3"
    assert queued.said(2, "end") == ALREADY
    assert queued.left == [other]
    a.await_incomplete()
    assert len(a.ended_bodies) == 1, "A was not told the end of a second one"
    queued.attempt()
    assert queued.left == [] and queued.settled[other].text.startswith("2.0.0 Ok: queued as"), "B's own answer"
    assert_one_copy(queued.text, a, b)


@pytest.mark.parametrize("recipients", [(LOCAL, KING), (KING, LOCAL)])
def test_14_a_settles_without_a_second_copy_and_bs_own_5xx_reaches_the_sender(split, recipients):
    queued, a, b = unsettled(split, reply("554 5.7.1 spam, says B"), recipients=recipients, times=None)
    assert queued.said(1, "end") == "451 4.3.0" and "spam, says B" in queued.said(1, "end").text
    queued.run()
    assert queued.attempts == 3
    assert queued.settled[recipient_of(split, a)] == ALREADY
    assert queued.settled[recipient_of(split, b)].lines == ["554 5.7.1 spam, says B"]
    assert_one_copy(queued.text, a)
    assert b.messages == []


@pytest.mark.parametrize("action", [reset(), close()], ids=["rst", "fin"])
def test_a_lost_answer_of_b_costs_a_nothing(split, action):
    queued, a, b = unsettled(split, action)
    assert queued.said(1, "end") == "451 4.4.2"
    queued.run()
    assert_one_copy(queued.text, a, b)


def test_several_recipients_of_a_leg_go_together(split):
    recipients = [LOCAL, KING, "user2@example.com", "king2@example.com"]
    queued, a, b = unsettled(split, recipients=recipients)
    queued.run()
    assert queued.attempts == 3
    for upstream, own in ((split.local, recipients[0::2]), (split.kingmailer, recipients[1::2])):
        assert upstream.only_message().recipients == own


def test_a_recipient_that_b_refuses_meanwhile_bounces_and_the_others_do_not(split):
    queued, a, b = unsettled(split, recipients=[LOCAL, KING, "user2@example.com", "king2@example.com"])
    gone = {split.local: "user2@", split.kingmailer: "king2@"}[b]
    b.on("rcpt", reply("550 5.1.1 gone meanwhile"), when=gone)
    queued.run()
    bounced = [recipient for recipient, answer in queued.settled.items() if answer != 250]
    assert bounced == [gone + "example.com"]
    assert queued.settled[bounced[0]].lines == ["550 5.1.1 gone meanwhile"]
    assert len(a.messages) == 1 and b.only_message().recipients == [recipient_of(split, b)]


def test_a_sender_that_tries_452_again_at_once_needs_no_more_connections(split):
    """As Exim does."""
    queued, a, b = unsettled(split, again_at_once=True)
    queued.run()
    assert queued.attempts == 2
    assert_one_copy(queued.text, a, b)


# What may get lost on the way


def await_ends(split):
    """What was given up may still be on its way through."""
    poll(lambda: split.daemon.status()["sessions"]["open"] == 0, "the end of all sessions")


@pytest.mark.parametrize("point", QueuedMessage.POINTS)
def test_a_retry_that_is_lost_on_the_way_changes_nothing(split, point):
    """Whether or not the turn was used up, and the answer read: A has one copy, and B."""
    queued, a, b = unsettled(split)
    queued.run(attempts=5, drops=[point])
    await_ends(split)
    assert_one_copy(queued.text, a, b)


@pytest.mark.parametrize("point", QueuedMessage.POINTS)
def test_a_retry_of_b_that_is_lost_gives_a_no_second_copy(split, point):
    """B's acceptance with its answer lost is the duplicate of RFC 1047."""
    queued, a, b = unsettled(split)
    queued.run(attempts=6, drops=[None, point])
    await_ends(split)
    assert_one_copy(queued.text, a)
    assert len(b.await_messages(1)) <= (2 if point in ("end", "answer") else 1)


def test_an_attempt_that_was_overtaken_gives_no_second_copy(split):
    """The sender gave it up and was answered on another connection; what it had sent before is read only then."""
    queued, a, b = unsettled(split)
    overtaken = split.client()
    overtaken.begin(recipient_of(split, a), sender=queued.sender)
    overtaken.send(stuff(queued.text))
    queued.run()
    assert queued.settled[recipient_of(split, a)] == ALREADY
    overtaken.send(b".\r\n")
    assert overtaken.reply() == "451 4.3.0"
    overtaken.close()
    assert_one_copy(queued.text, a, b)


def test_an_answer_from_the_ledger_is_given_until_it_was_read(split):
    queued, a, b = unsettled(split)
    lost = recipient_of(split, a)
    for attempt in range(2, 8):  # each time that it is A's turn the connection is lost behind the answer
        queued.attempt("answer")
        if b.messages:
            break
    await_ends(split)
    assert lost in queued.left
    queued.run(attempts=6)
    assert queued.settled[lost] == ALREADY
    assert_one_copy(queued.text, a)


def test_who_leaves_before_354_without_having_waited_leaves_nothing_in_the_ledger(split):
    """Else anybody could fill it, with two servers that are well."""
    asked, go = threading.Event(), threading.Event()

    def act(connection):
        asked.set()
        return wait(go)(connection)

    split.kingmailer.on("data", call(act))
    before = split.daemon.status()["ledger"]["sets"]
    client = split.client()
    client.mail(new_sender())
    assert client.rcpt(LOCAL) == 250 and client.rcpt(KING) == 250
    client.send("DATA\r\n")
    assert asked.wait(10)
    client.reset()
    await_ends(split)
    go.set()
    assert split.daemon.status()["ledger"]["sets"] == before


def test_a_client_that_leaves_between_two_commits_gets_no_second_copy(split):
    """A's acceptance is on record as soon as it is there; B is not committed for a client that is gone."""
    asked, go = threading.Event(), threading.Event()
    order = []

    def first_waits(upstream):
        def act(connection):
            order.append(upstream)
            if len(order) == 1:
                asked.set()
                return wait(go)(connection)
            return False
        return call(act)

    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", first_waits(upstream))
    sent, sender = message(), new_sender()
    client = split.client()
    client.begin(LOCAL, KING, sender=sender)
    client.send(stuff(sent) + b".\r\n")
    assert asked.wait(10)
    client.reset()
    go.set()
    split.daemon.await_log(lambda line: "outcome=client-gone" in line and f"size={len(sent)}" in line)
    queued = QueuedMessage(split.daemon.where, sent, [LOCAL, KING], sender=sender).run()
    assert_one_copy(sent, split.local, split.kingmailer)
    assert queued.settled[recipient_of(split, order[0])] == ALREADY


def test_a_client_that_closes_during_the_commit_gets_no_second_copy(split):
    """It may have closed its side only, so all of it is delivered; what it did not read stays on record."""
    asked, go = threading.Event(), threading.Event()
    for upstream in (split.local, split.kingmailer):
        upstream.on("eod", call(lambda connection: (asked.set(), wait(go)(connection))[1]))
    sent, sender = message(), new_sender()
    client = split.client()
    client.begin(LOCAL, KING, sender=sender)
    client.send(stuff(sent) + b".\r\n")
    assert asked.wait(10)
    client.close()
    go.set()
    split.daemon.await_log(lambda line: "outcome=accepted" in line and f"size={len(sent)}" in line)
    await_ends(split)
    queued = QueuedMessage(split.daemon.where, sent, [LOCAL, KING], sender=sender).run()
    assert queued.settled == {LOCAL: ALREADY, KING: ALREADY}
    assert_one_copy(sent, split.local, split.kingmailer)


def test_a_client_that_has_closed_its_side_and_reads_leaves_nothing_in_the_ledger(split):
    before = split.daemon.status()["ledger"]["sets"]
    with split.client() as client:
        client.begin(LOCAL, KING, sender=new_sender())
        client.send(stuff(message()) + b".\r\n")
        client.half_close()
        assert client.reply() == 250
        assert client.await_end() == ("fin", b"")
    await_ends(split)
    assert split.daemon.status()["ledger"]["sets"] == before


@pytest.mark.parametrize("more", [True, False])
def test_messages_in_one_go_before_a_half_close_are_as_any_others(split, more):
    """What comes behind an acceptance shows nothing of a client that is gone."""
    before = split.daemon.status()["ledger"]["sets"]
    sender = new_sender()
    with split.client() as client:
        client.send(b"".join(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{LOCAL}>\r\nRCPT TO:<{KING}>\r\nDATA\r\n".encode() + stuff(message()) + b".\r\n"
                             for _ in range(3)) + (b"QUIT\r\n" if more else b""))
        client.half_close()
        codes = [answer.code for answer in client.replies(16 if more else 15)]
        assert codes == [250, 250, 250, 354, 250] * 3 + ([221] if more else [])
        assert client.await_end() == ("fin", b"")
    await_ends(split)
    assert split.daemon.status()["ledger"]["sets"] == before


def test_a_joint_250_that_was_lost_is_the_duplicate_of_rfc_1047_at_most(split):
    queued = QueuedMessage(split.daemon.where, message(), [LOCAL, KING], sender=new_sender()).run(drops=["answer"])
    assert all(answer == 250 for answer in queued.settled.values())
    for upstream in (split.local, split.kingmailer):
        assert 1 <= len(upstream.messages) <= 2


def test_a_set_outlives_sigkill(start_split):
    """What the client was told 451 for is on the disk."""
    split = start_split()
    queued, a, b = unsettled(split)
    for _ in range(2):
        split.daemon.kill()
        split.daemon._expect_failure = False
        split.daemon.start()
    queued.run(attempts=4)
    assert_one_copy(queued.text, a, b)


def test_a_set_outlives_a_restart_and_a_reload(start_split):
    split = start_split()
    queued, a, b = unsettled(split)
    split.daemon.stop()
    split.daemon.start()
    assert split.daemon.reload().status == 0
    queued.attempt()
    assert queued.said(2, "end") == ALREADY
    split.daemon.stop()
    split.daemon.start()
    queued.run()
    assert_one_copy(queued.text, a, b)


# Whose turn it is


def test_who_has_given_up_a_starves_nobody(split):
    """The sender's queue has no more for A, whose turn it is: it moves on all the same."""
    queued, a, b = unsettled(split)
    queued.left.remove(recipient_of(split, a))
    queued.run(attempts=2)
    assert_one_copy(queued.text, a, b)


@pytest.mark.parametrize("recipients", [(LOCAL, KING, THIRD), (THIRD, LOCAL, KING)])
def test_a_leg_that_defers_on_keeps_no_other_waiting(split, recipients):
    split.kingmailer.on("data", reply("451 4.3.1 disk full"), times=4)
    queued = QueuedMessage(split.daemon.where, message(), recipients, sender=new_sender()).run(attempts=12)
    assert_one_copy(queued.text, *split.upstreams)
    others = [at for at, stage, _, answer in queued.history if stage == "end" and answer == 250][:2]
    assert max(others) <= 4, f"each had its turn: {queued}"


# Which message it is


def test_another_message_to_the_same_recipients_is_not_taken_for_it(split):
    first, a, b = unsettled(split)
    second = QueuedMessage(split.daemon.where, message(), [LOCAL, KING], sender=first.sender)
    while first.left or second.left:
        assert first.attempts + second.attempts < 16, (first, second)
        for queued in (second, first):
            if queued.left:
                queued.attempt()
    for upstream in (a, b):
        kept = [copy.data for copy in upstream.messages]
        assert len(kept) == 2 and sum(data.endswith(first.text) for data in kept) == 1, upstream.messages
        assert sum(data.endswith(second.text) for data in kept) == 1


def test_fields_that_a_relay_adds_on_the_way_do_not_make_it_another_message(split):
    sent = message()
    queued, a, b = unsettled(split, sent=sent)
    queued.text = b"Received: from queue.test by other.test; Mon, 23 Nov 2026 12:00:00 +0000\r\nX-Tried: twice\r\n" + sent
    queued.attempt()
    assert queued.said(2, "end") == ALREADY
    queued.run()
    assert len(a.messages) == 1 and len(b.messages) == 1


@pytest.mark.parametrize("field", [b"Subject: another", b"From: Other <other@client.test>", b"Content-Type: text/html"])
def test_a_message_that_differs_in_what_counts_is_another(split, field):
    sent = message()
    queued, a, b = unsettled(split, sent=sent)
    name = field.split(b":")[0]
    head, body = sent.split(b"\r\n\r\n", 1)
    lines = [line for line in head.split(b"\r\n") if not line.startswith(name)]
    other = b"\r\n".join([field, *lines]) + b"\r\n\r\n" + body
    second = QueuedMessage(split.daemon.where, other, [recipient_of(split, a)], sender=queued.sender).run(attempts=6)
    assert second.settled[recipient_of(split, a)] != ALREADY
    assert len(a.messages) == 2


@pytest.mark.parametrize("missing", [b"Date", b"Message-ID"])
def test_a_message_without_identity_is_never_answered_from_the_ledger(split, missing):
    sent = b"\r\n".join(line for line in message(b"text\r\n").split(b"\r\n") if not line.startswith(missing))
    queued, a, b = unsettled(split, sent=sent)
    queued.run()
    assert not any(answer == ALREADY for _, _, _, answer in queued.history)
    assert len(a.messages) == 2 and len(b.messages) == 1


def test_what_has_settled_is_forgotten(split):
    """Without a set no mail is answered from the ledger: the same message again is delivered again, together."""
    queued, a, b = unsettled(split)
    queued.run()
    assert QueuedMessage(split.daemon.where, queued.text, [LOCAL, KING], sender=queued.sender).run(attempts=1).left == []
    assert (len(a.messages), len(b.messages)) == (2, 2)


# 20: the ledger itself


def test_20_a_broken_ledger_is_set_aside_and_mail_goes_on(start_split):
    split = start_split()
    queued, a, b = unsettled(split)
    split.daemon.stop()
    files = [path for path in (split.daemon.folder.path / "state").rglob("*") if "ledger" in str(path) and path.is_file()]
    assert files, "no ledger in the state directory"
    for path in files:
        path.write_bytes(os.urandom(64 * 1024))
    split.daemon.start()
    split.daemon.await_log("ledger")
    queued.run()
    assert all(answer == 250 for answer in queued.settled.values())
    assert 1 <= len(a.messages) <= 2, "what was on record is lost: a duplicate, never a loss"
    assert len(b.messages) == 1
    for upstream in split.upstreams:
        upstream.forget()
    again, a, b = unsettled(split)
    again.run()
    assert_one_copy(again.text, a, b)


def takes_one_leg_only(split):
    with split.client() as client:
        client.mail("probe@client.test")
        return client.rcpt(THIRD) == 250 and client.rcpt(LOCAL) == "452 4.5.3"


def test_20_a_full_ledger_takes_one_leg_at_a_time(start_split):
    """`max-size` is reached by sets of a thousand recipients; what comes then is as with `split: defer`."""
    split = start_split(ledger={"max-size": "1M"})
    split.third.on("data", reply("451 4.3.1 not now"))
    for number in range(40):
        if takes_one_leg_only(split):
            break
        with split.client(timeout=30) as client:
            client.mail(f"{number}@client.test")
            client.send(f"RCPT TO:<{LOCAL}>\r\n" + "".join(f"RCPT TO:<{'r' * 50}{n}@example.com>\r\n" for n in range(998)))
            assert all(answer == 250 for answer in client.replies(999))
            assert client.data() == "451 4.3.0"
    assert takes_one_leg_only(split), "40,000 recipients fit into a megabyte"
    for upstream in split.upstreams:
        upstream.forget()
    sent = message()
    queued = QueuedMessage(split.daemon.where, sent, [LOCAL, KING], sender=new_sender())
    queued.attempt()
    assert queued.said(1, "rcpt", KING) == "452 4.5.3" and queued.settled[LOCAL] == 250
    queued.run(attempts=2)
    assert_one_copy(sent, split.local, split.kingmailer)


def small_disk(start_split):
    """A split whose state directory is a disk of four megabytes; (split, that directory)."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    split = start_split(start=False, ledger={"max-size": "2M"})
    state = split.daemon.folder.path / "state"
    state.mkdir()
    user, group = pwd.getpwnam(split.daemon.folder.user)[2:4]
    script = f'mount -t tmpfs -o size=4m,mode=700,uid={user},gid={group} none "{state}" && exec "$@"'
    split.daemon.wrapper = ["unshare", "-m", "sh", "-c", script, "sh"]
    split.daemon.start()
    return split, f"/proc/{split.daemon.process.pid}/root{state}"


def fill(path):
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_20_a_full_disk_turns_nothing_into_250_and_nothing_accepted_by_all_into_4xx(start_split):
    split, state = small_disk(start_split)
    fill(f"{state}/filler")
    sent = message()
    assert split.daemon.send(sent, LOCAL, KING, sender="well@client.test") == 250, "accepted by all"
    assert_one_copy(sent, split.local, split.kingmailer)
    split.fresh()
    queued, a, b = unsettled(split, reply("554 5.7.1 spam"), times=None)  # which is told 451, though it cannot be written down
    poll(lambda: takes_one_leg_only(split), "one leg at a time, as with split: defer")
    queued.run()
    assert queued.settled[recipient_of(split, b)].lines == ["554 5.7.1 spam"]
    assert queued.settled[recipient_of(split, a)] == 250
    assert_one_copy(queued.text, a)  # what is known in memory goes on counting
    os.unlink(f"{state}/filler")
    poll(lambda: not takes_one_leg_only(split), "splitting again, without a restart", timeout=20, interval=0.2)
    split.fresh()
    again, a, b = unsettled(split)
    again.run()
    assert_one_copy(again.text, a, b)
