"""What is measured: each case opens its subjects, whose turns the runner takes in an order that changes with each round.

A turn returns metrics: `rate` (messages a second), `cpu` (seconds of the thing in the middle for a message), `p50` and `p99`
(seconds, a message's time), `memory` (bytes, for a session or a message).
"""

import functools
import statistics
import time

from figures import Bar
from generators import Load
from measure import Highest
from peers import KING, USER, Direct, HAProxy, Nginx, Postfix, Sink, SmtpSink, Splitmx, Unsuited

KIB, MIB = 1024, 1 << 20
WARM_SECONDS = 0.3
SETTLE_SECONDS = 0.2  # a server that has just answered may still be starting its last threads
CPU, RATE = "CPU a message", "messages a second"


class Case:
    """open() gives {label: turn}, started; what has to be stopped goes on the stack."""

    name = title = ""
    shown = ()  # metrics, in the order of columns
    bars = ()
    rounds = 1000  # at most so many, where a turn takes long

    def open(self, bench, stack):
        raise NotImplementedError


def splitmx_builds(bench, suffix=""):
    """The program, and with BASE= another build of it: label to file."""
    builds = {Splitmx.name: bench.program, "base": bench.base}
    return {label + suffix: program for label, program in builds.items() if program and bench.wants(label)}


def sending(bench, generator, server, load):
    """A turn that takes about as many seconds as it should, for which the first messages are a measure."""
    few = load.sessions * 4
    first = generator.send(load, server.port, few)
    if first.seconds < WARM_SECONDS:
        first = generator.send(load, server.port, int(few * WARM_SECONDS / first.seconds) + few)
    messages = max(few, int(first.rate * bench.seconds))

    def turn():
        before = server.meter.cpu() if server.meter else None
        sent = generator.send(load, server.port, messages)
        metrics = {"rate": sent.rate, "p50": sent.p50, "p99": sent.p99}
        if server.meter:
            metrics["cpu"] = (server.meter.cpu() - before) / sent.messages
        return metrics

    return turn


class Mail(Case):
    """Closed loop, everybody in the middle, in clear."""

    shown = ("rate", "cpu", "p50", "p99")

    def __init__(self, name, title, load, bars):
        self.name, self.load, self.bars = name, load, bars
        self.title = f"{in_words(load.size)}, {title}, {load.sessions} at once"

    def open(self, bench, stack):
        upstream = stack.enter_context(SmtpSink(bench.scratch))
        servers = {}
        for kind in (Direct, HAProxy, Nginx, Postfix):
            if bench.has(kind):
                servers[kind.name] = kind(bench.scratch, upstream)
        for label, program in splitmx_builds(bench).items():
            servers[label] = Splitmx(bench.scratch, upstream, program=program, label=label)
        return open_all(bench, stack, servers, bench.generator(self.load), self.load)


def in_words(size):
    for unit, words in ((MIB, "MB"), (KIB, "kB")):
        if size >= unit:
            return f"{size / unit:g} {words}"
    return f"{size} octets"


def open_all(bench, stack, servers, generator, load):
    for server in servers.values():
        server.start()
        stack.callback(server.stop)
    return {label: sending(bench, generator, server, load) for label, server in servers.items()}


class Split(Case):
    """One recipient, and two on two relays, each with a leg of its own."""

    name, title = "split", "4 kB to two recipients on two relays, connections kept, 20 at once"
    shown = ("rate", "cpu", "p50", "p99")
    bars = [Bar(f"{CPU} with two relays, to one", "splitmx, two relays", "cpu", 1.7, against="splitmx, one relay")]

    def open(self, bench, stack):
        upstreams = [stack.enter_context(SmtpSink(bench.scratch)) for _ in range(2)]
        turns = {}
        for label, program in splitmx_builds(bench).items():
            server = stack.enter_context(Splitmx(bench.scratch, *upstreams, program=program, label=label))
            for words, recipients in (("one relay", (USER,)), ("two relays", (USER, KING))):
                load = Load(sessions=20, keep=0, recipients=recipients)
                turns[f"{label}, {words}"] = sending(bench, bench.load, server, load)
        return turns


class Tls(Case):
    """A full handshake for each message. splitmx encrypts towards the upstream too; the others go on in clear."""

    name, title = "tls", "STARTTLS in (ECDSA P-256), one message a connection, 50 at once; splitmx with TLS out, the others in clear"
    shown = ("rate", "cpu", "p50", "p99")
    bars = [Bar(CPU, "splitmx", "cpu", 0.5, against="postfix")]

    def open(self, bench, stack):
        certificate = bench.certificate
        clear = stack.enter_context(SmtpSink(bench.scratch))
        secret = stack.enter_context(Sink(bench.scratch, bench.tool("sink"), "--pipelining", "--tls", certificate.chain, certificate.key))
        servers = {kind.name: kind(bench.scratch, clear, certificate=certificate)
                   for kind in (Nginx, Postfix) if bench.has(kind)}
        for label, program in splitmx_builds(bench).items():
            servers[label] = Splitmx(bench.scratch, secret, program=program, label=label, certificate=certificate)
        return open_all(bench, stack, servers, bench.load, Load(starttls=True))


class Paced(Case):
    """Open loop: what a message's time is while there is time to spare."""

    name = "paced"
    title = "4 kB, one message a connection, arriving at fixed intervals at half of splitmx's saturation rate"
    shown = ("p50", "p99", "cpu")
    rounds = 3
    bars = [Bar("p99 of a message's time", "splitmx", "p99", 2, against="haproxy")]

    def open(self, bench, stack):
        upstream = stack.enter_context(SmtpSink(bench.scratch))
        servers = {kind.name: kind(bench.scratch, upstream) for kind in (Direct, HAProxy) if bench.has(kind)}
        for label, program in splitmx_builds(bench).items():
            servers[label] = Splitmx(bench.scratch, upstream, program=program, label=label)
        turns = open_all(bench, stack, servers, bench.load, Load())
        rate = int(statistics.median(turns["splitmx"]()["rate"] for _ in range(3)) / 2)
        bench.remark(self, f"{rate} messages a second, for {bench.paced:g} s a turn")
        return {label: functools.partial(self.turn, bench, server, rate) for label, server in servers.items()}

    @staticmethod
    def turn(bench, server, rate):
        before = server.meter.cpu() if server.meter else None
        sent = bench.load.send_at_rate(Load(sessions=500), server.port, rate, bench.paced)
        metrics = {"rate": sent.rate, "p50": sent.p50, "p99": sent.p99}
        if server.meter:
            metrics["cpu"] = (server.meter.cpu() - before) / sent.messages
        return metrics


class Idle(Case):
    """Memory of sessions that have said EHLO and wait. A server of its own for each turn: memory once had is kept."""

    name, title = "idle", "idle sessions after EHLO"
    shown = ("memory", "sessions")
    bars = [Bar("memory a session, in clear", "splitmx", "memory", 3, unit="KiB", scale=KIB),
            Bar("memory a session, TLS", "splitmx, TLS", "memory", 18, unit="KiB", scale=KIB)]
    sessions, few = 10000, 100  # few: of a server that has a process for each

    def open(self, bench, stack):
        upstream = stack.enter_context(SmtpSink(bench.scratch))
        many, both_sides = min(self.sessions, bench.descriptors - 200), min(self.sessions, (bench.descriptors - 200) // 2)
        turns = {}
        for certificate, suffix in ((None, ""), (bench.certificate, ", TLS")):
            for label, program in splitmx_builds(bench, suffix).items():
                make = functools.partial(Splitmx, bench.scratch, upstream, program=program, label=label, certificate=certificate)
                turns[label] = functools.partial(self.turn, bench, make, many, bool(certificate))
        for kind, sessions in ((HAProxy, both_sides), (Nginx, many), (Postfix, self.few)):
            if bench.has(kind):
                make = functools.partial(kind, bench.scratch, upstream)
                turns[kind.name] = functools.partial(self.turn, bench, make, sessions, False)
        return turns

    @staticmethod
    def turn(bench, make, sessions, starttls):
        with make() as server:
            time.sleep(SETTLE_SECONDS)
            before = server.meter.memory()
            with bench.load.idle(server.port, sessions, starttls):
                return {"memory": (server.meter.memory() - before) / sessions, "sessions": sessions}


class Big(Case):
    """Memory when the upstream is slow: the client is to wait, not the message in memory."""

    name, title = "big", "20 messages of 50 MB at once, upstreams that take 10 MB a second each"
    shown = ("memory", "rate")
    bars = [Bar("memory a message at its highest", "splitmx", "memory", 256, unit="KiB", scale=KIB),
            Bar("memory a message at its highest, two relays", "splitmx, two relays", "memory", 256, unit="KiB", scale=KIB)]
    messages = 20

    def open(self, bench, stack):
        upstreams = [stack.enter_context(Sink(bench.scratch, bench.tool("sink"), "--rate", 10 * MIB)) for _ in range(2)]
        turns = {}
        for label, program in splitmx_builds(bench).items():
            make = functools.partial(Splitmx, bench.scratch, *upstreams, program=program, label=label)
            turns[label] = functools.partial(self.turn, bench, make, (USER,))
            turns[f"{label}, two relays"] = functools.partial(self.turn, bench, make, (USER, KING))
        if bench.has(HAProxy):
            make = functools.partial(HAProxy, bench.scratch, upstreams[0])
            turns[HAProxy.name] = functools.partial(self.turn, bench, make, (USER,))
        return turns

    def turn(self, bench, make, recipients):
        load = Load(size=50 * MIB, sessions=self.messages, recipients=recipients)
        with make() as server:
            time.sleep(SETTLE_SECONDS)
            with Highest(server.meter.memory) as memory:
                sent = bench.load.send(load, server.port, self.messages)
        return {"memory": memory.value / self.messages, "rate": sent.rate}


class Cores(Case):
    """Whether a second worker is worth a second core; the load has cores of its own."""

    name, title = "cores", "4 kB, one message a connection, one worker and two"
    shown = ("rate", "cpu")
    bars = [Bar(RATE, "two workers", "rate", 1.7, against="one worker", at_least=True)]

    def open(self, bench, stack):
        if bench.cores < 4:
            raise Unsuited(f"needs four cores, there are {bench.cores}")
        upstream = stack.enter_context(SmtpSink(bench.scratch))
        servers = {f"{words} worker{'s' if count > 1 else ''}":
                   Splitmx(bench.scratch, upstream, program=bench.program, label=f"{count}-workers", workers=count)
                   for words, count in (("one", 1), ("two", 2))}
        return open_all(bench, stack, servers, bench.load, Load(sessions=100))


def all_cases(size=4 * KIB):
    """`size`: of a small message."""
    one, kept = "one message a connection", "connections kept"
    return [
        Mail("one", one, Load(size=size), [
            Bar(CPU, "splitmx", "cpu", 0.6, 0.5, against="haproxy"),
            Bar(RATE, "splitmx", "rate", 1.5, 1.8, against="haproxy", at_least=True)]),
        Mail("kept", kept, Load(size=size, sessions=20, keep=0), [
            Bar(CPU, "splitmx", "cpu", 1.0, 0.85, against="haproxy")]),
        Mail("mb", one, Load(size=MIB, sessions=10), [
            Bar(CPU, "splitmx", "cpu", 1.05, 0.9, against="haproxy")]),
        Split(), Tls(), Paced(), Idle(), Big(), Cores(),
    ]
