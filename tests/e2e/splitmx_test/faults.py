"""
Faults by stage and kind: where in its conversation an upstream fails, and how.

A Case is one fault at one of one, two or three legs. A Stage is a running splitmx with upstreams of their own for each of
its cases, so that what one case teaches it of an endpoint's health is not known in the next. `play` sends a
message past the fault and returns what was Heard; `deliver` sends it as a queueing server does, again and again.
What should come of a case is not said here: that is for the tests, by the design.
"""

import contextlib
import socket
import threading

from .client import stuff
from .identified import ALL, Identified
from .messages import assert_relayed, message
from .queueing import QueuedMessage
from .upstream import EXTENSIONS, call, chased_by, close, early, raw, reply, reset, silence, wait
from .waiting import free_port

STAGES = ("connect", "greeting", "EHLO", "STARTTLS", "handshake", "after-TLS EHLO", "XCLIENT", "MAIL", "RCPT", "DATA",
          "body first", "body middle", "body last", "end-of-data", "QUIT")
KINDS = ("4xx", "5xx", "421", "reset", "FIN", "silence", "garbage", "early reply")

# What the upstream says where it refuses, the same at every stage.
WORDS = {"4xx": "450 4.2.0 not now", "5xx": "550 5.7.1 not ever", "421": "421 4.3.2 going down"}

# The time that a silence runs into. Long enough that a healthy upstream of a busy machine keeps within it.
SHORT = "3s"
CLOCK = {"connect": "connect", "greeting": "greeting", "EHLO": "greeting", "STARTTLS": "greeting", "handshake": "greeting",
         "after-TLS EHLO": "greeting", "XCLIENT": "greeting", "MAIL": "recipient", "RCPT": "recipient", "DATA": "data",
         "body first": "data", "body middle": "data", "body last": "data", "end-of-data": "end-of-data"}

MIDDLE, LAST = b"in the MIDDLE of it\r\n", b"the LAST line\r\n"
AT = {"body first": 1, "body middle": MIDDLE, "body last": LAST}


class Case:
    """
    One of `legs` upstreams, the one at `place` (in the order of RCPT; at end-of-data and QUIT, in that of commit), fails at
    `stage` in the way `kind`: each time, or `once`.
    """

    def __init__(self, stage, kind, legs, place, once=False):
        assert stage in STAGES and kind in KINDS and place < legs
        self.stage, self.kind, self.legs, self.place, self.once = stage, kind, legs, place, once

    def __str__(self):
        where = f"{self.place + 1} of {self.legs}" if self.legs > 1 else "1 leg"
        return f"{self.stage}, {self.kind}{' once' if self.once else ''}, {where}"


class BlackHole:
    """A port whose SYNs are lost: a backlog that is full (Linux drops what does not fit)."""

    def __init__(self, address, port):
        self.next_hop = f"smtp:[{address}]:{port}"
        self._listener = socket.create_server((address, port), backlog=0)
        self._filling = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, port))
            self._filling.append(one)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (*self._filling, self._listener):
            one.close()


# How an upstream is made to fail


def _nonsense():
    return raw(b"\x80\x16\x03 what is this\xff\r\n")


def _ways(case):
    """The actions of the kind, where it is an answer that fails."""
    if case.kind in WORDS:
        return [reply(WORDS[case.kind])] + ([close()] if case.kind == "421" else [])
    return {"reset": [reset()], "FIN": [close()], "silence": [silence()], "garbage": [_nonsense()]}[case.kind]


def _in_tls(step):
    return bool(step.connection.tls)


def _early(upstream, stage, times):
    """The answer to what was not said yet, in the segment of the answer before it."""
    rules = {
        "EHLO": ("greeting", chased_by(b"250 local.test\r\n")), "STARTTLS": ("ehlo", chased_by(b"220 2.0.0 Ready\r\n")),
        "handshake": ("starttls", chased_by(b"250 2.0.0 Ok\r\n")), "after-TLS EHLO": ("secure", early(b"250 local.test\r\n")),
        "XCLIENT": ("ehlo", chased_by(b"220 local.test\r\n")), "MAIL": ("ehlo", chased_by(b"250 2.1.0 Ok\r\n")),
        "RCPT": ("mail", chased_by(b"250 2.1.5 Ok\r\n")), "DATA": ("rcpt", chased_by(b"354 go on\r\n")),
        "end-of-data": ("data", chased_by(b"250 2.0.0 Ok: queued early\r\n")), "QUIT": ("eod", chased_by(b"221 2.0.0 Bye\r\n"))}
    before, action = rules[stage]
    upstream.on(before, action, times=times, when=lambda step: not step.connection.introduced)  # behind the first EHLO only


def _in_body(upstream, case, times, over):
    at = AT[case.stage]
    if case.kind == "early reply":
        upstream.on("body", early(b"250 2.0.0 Ok: queued early\r\n"), at=at, times=times)
    elif case.kind == "silence":  # an upstream has nothing to say here: it does not listen either
        upstream.on("body", wait(over), at=at, times=times)
    else:
        upstream.on("body", *_ways(case), at=at, times=times)


def _at_end(upstreams, case, times):
    """Which leg is committed first is not for us to say: the fault goes by the order in which they come to it."""
    lock, committed, left = threading.Lock(), [], [times]

    def end(upstream):
        def act(connection):
            with lock:
                if upstream not in committed:
                    committed.append(upstream)
                fails = committed.index(upstream) == case.place and left[0] != 0
                if fails and left[0] is not None:
                    left[0] -= 1
            return any([way(connection) for way in _ways(case)]) if fails else False

        return call(act)

    for upstream in upstreams:
        upstream.on("eod", end(upstream))
    return committed


def _inflict(case, upstreams, over):
    """
    Scripts the upstreams, until the event `over` if need be; returns the list of those that came to their end of data, in
    order, if the case goes by it.
    """
    times = 1 if case.once else None
    faulty = upstreams[case.place]
    if case.stage == "end-of-data" and case.kind != "early reply":
        return _at_end(upstreams, case, times)
    if case.stage in AT:
        _in_body(faulty, case, times, over)
    elif case.kind == "early reply":
        _early(faulty, case.stage, times)
    elif case.stage == "greeting" and case.kind in ("reset", "FIN", "silence"):  # else it would be that of `connect`
        faulty.on("greeting", raw(b"220 loc"), *_ways(case), times=times)
    elif case.stage == "EHLO":
        faulty.on("ehlo", *_ways(case), times=times)
        faulty.on("helo", *_ways(case), times=times)  # who does not know EHLO may be asked for less (RFC 5321 3.2)
    elif case.stage == "after-TLS EHLO":
        faulty.on("ehlo", *_ways(case), times=times, when=_in_tls)
        faulty.on("helo", *_ways(case), times=times, when=_in_tls)
    else:
        faulty.on(case.stage.lower(), *_ways(case), times=times)
    return None


# What came of it


class Heard:
    """
    What the client was told: `rcpt` (a list), `data` and `end` (None where it did not come to that); and what each upstream
    `has`: "message" (accepted, whole and unchanged), "end" (of data, not accepted), None (no end of data).
    """

    def __init__(self):
        self.rcpt, self.data, self.end, self.has, self.faulty = [], None, None, [], None

    @property
    def last(self):
        """The answer to the transaction."""
        return self.data if self.end is None else self.end

    def __repr__(self):
        return f"<RCPT {self.rcpt}, DATA {self.data}, end {self.end}; upstreams have {self.has}>"


def _has(upstream, sent, recipient, count=1):
    if not upstream.messages:
        return "end" if upstream.ended_bodies else None
    assert len(upstream.messages) == count, f"{upstream.name} has {upstream.messages}"
    for kept in upstream.messages:
        assert kept.recipients == [recipient], kept
        assert_relayed(kept.data, sent)
    return "message"


class Stage:
    """One splitmx whose relays reach the given stage, and of each case as many as it has legs."""

    def __init__(self, name, cases, start_daemon, certificate, number, settings=None):
        self.name, self.cases = name, list(cases)
        self._certificate = certificate if name in ("STARTTLS", "handshake", "after-TLS EHLO") else None
        self._number, self._port = number, free_port("127.0.0.1")
        relays, routes = {}, {}
        for index, case in enumerate(self.cases):
            for leg in range(case.legs):
                relay = f"c{index}-{leg}"
                relays[relay] = {"next-hop": f"smtp:[{self._address(index, leg)}]:{self._port}", **self._policy(leg == case.place)}
                routes[f"case{index}.leg{leg + 1}@example.com"] = relay
        timeouts = {CLOCK[name]: SHORT} if name in CLOCK else {"pool-idle": "100ms"}
        self.daemon = start_daemon(relays=relays, routes=routes, timeouts=timeouts, **(settings or {}))

    def _address(self, index, leg):
        return f"127.{64 + self._number}.{index}.{leg + 1}"

    def _policy(self, faulty):
        if self._certificate is not None:
            return {"tls": "encrypt" if faulty else "none"}
        return {"identity": "xclient"} if faulty and self.name == "XCLIENT" else {}

    def _upstream(self, index, case, leg):
        faulty = leg == case.place
        buffers = {"receive_buffer": 65536} if faulty and case.kind == "silence" and case.stage in AT else {}
        extensions = EXTENSIONS
        if (case.stage, case.kind) == ("RCPT", "early reply"):  # where RCPT is sent with MAIL its answer is not early
            extensions = tuple(one for one in EXTENSIONS if one != "PIPELINING")
        return Identified(f"leg{leg + 1}.test", address=self._address(index, leg), port=self._port, extensions=extensions,
                          attributes=ALL if case.stage == "XCLIENT" and faulty else "", certificate=self._certificate, **buffers)

    @contextlib.contextmanager
    def _set(self, case):
        """The case's recipients and upstreams, in place and scripted, the order of commit if that is known, and an event for
        the end of what an upstream does for long."""
        index, over = self.cases.index(case), threading.Event()
        with contextlib.ExitStack() as stack:
            upstreams = []
            for leg in range(case.legs):
                if case.stage == "connect" and case.kind == "silence" and leg == case.place:
                    stack.enter_context(BlackHole(self._address(index, leg), self._port))
                    upstreams.append(None)
                else:
                    upstreams.append(stack.enter_context(self._upstream(index, case, leg)))
            committed = None if None in upstreams else _inflict(case, upstreams, over)
            yield [f"case{index}.leg{leg + 1}@example.com" for leg in range(case.legs)], upstreams, committed, over

    def play(self, case):
        """One message for all legs, sent once."""
        heard = Heard()
        sent, wire = _message_for(case)
        with self._set(case) as (recipients, upstreams, committed, over):
            with self.daemon.client(timeout=30) as client:
                client.mail()
                heard.rcpt = [client.rcpt(recipient) for recipient in recipients]
                heard.data = client.data()
                if heard.data == 354:
                    heard.end = self._send_body(client, case, wire, upstreams)
                answer = client.cmd("NOOP")
                assert answer == 250, f"the session does not go on: {answer}; {heard}"
                if case.stage == "QUIT":
                    self._after_quit(client, recipients, upstreams, sent)
                client.quit()
            over.set()
            count = 2 if case.stage == "QUIT" else 1
            for upstream, recipient in zip(upstreams, recipients):
                if upstream is None:
                    heard.has.append(None)
                    continue
                upstream.wait_for(lambda: not any(c.body for c in upstream.connections), "the end of every body", timeout=20)
                heard.has.append(_has(upstream, sent, recipient, count))
            heard.faulty = _place_of_fault(case, upstreams, committed)
        return heard

    def _send_body(self, client, case, wire, upstreams):
        client.send(wire)
        _await_fault_in_body(case, upstreams)
        client.send(b".\r\n")
        return client.reply()

    def _after_quit(self, client, recipients, upstreams, sent):
        """The connections that are idle are given up, whatever that meets; the next message finds others."""
        for upstream in upstreams:
            upstream.wait_for(lambda: upstream.connections[0].ended, "the end of an idle connection")
        answer = client.send_mail(sent, *recipients)
        assert answer == 250, answer
        assert all(len(upstream.connections) == 2 for upstream in upstreams)

    def deliver(self, case, attempts=12):
        """The same as a queueing sender does it: (the QueuedMessage in the end, what each upstream has)."""
        sent, _ = _message_for(case)
        with self._set(case) as (recipients, upstreams, committed, over):
            queued = QueuedMessage(self.daemon.where, sent, recipients)
            queued.before_end = lambda: _await_fault_in_body(case, upstreams) if queued.attempts == 1 else None
            queued.run(attempts)
            over.set()
            counts = [len(upstream.messages) for upstream in upstreams]
            for upstream, recipient in zip(upstreams, recipients):
                _has(upstream, sent, recipient, len(upstream.messages))
            return queued, counts, _place_of_fault(case, upstreams, committed)


def _await_fault_in_body(case, upstreams):
    """The end of data is held back until the fault has done what it can do; else its words might answer that."""
    if case.stage in AT and case.kind != "silence":
        faulty = upstreams[case.place]
        faulty.wait_for(lambda: faulty.connections[-1].ended, "the end of the leg, which said what nobody asked for or was lost")


def _place_of_fault(case, upstreams, committed):
    """Which upstream failed, by the order of RCPT."""
    if committed is None:
        return case.place
    return upstreams.index(committed[case.place]) if len(committed) > case.place else None


def _message_for(case):
    """The message, and what of it goes over the wire."""
    # For one that stops reading: more than what all sockets on the way hold; one of several is waited for anyhow.
    more = 4 * 1024
    if case.stage in AT and case.kind == "silence":
        more = 16 * 1024 * 1024 if case.legs == 1 else 1024 * 1024
    first, rest = message(size=4 * 1024) + MIDDLE, (b"x" * 70 + b"\r\n") * (more // 72) + LAST
    return first + rest, stuff(first) + rest  # no dots in the long part, and no time to look for them


def asked_for(request):
    """The cases of the tests in this file that were chosen to run."""
    mine = [item.callspec.params for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    return [params["case"] for params in mine if "case" in params]


def play_all(jobs, at_once=12):
    """
    Runs all jobs (callables by name) and returns {name: function that gives its value or raises its error}. So many at a
    time: time-outs pass beside each other.
    """
    results, pending, lock = {}, list(jobs.items()), threading.Lock()

    def work():
        while True:
            with lock:
                if not pending:
                    return
                name, job = pending.pop(0)
            try:
                value = job()
                results[name] = lambda value=value: value
            except BaseException as error:  # a test's to report
                def fail(error=error):
                    raise error

                results[name] = fail

    threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
