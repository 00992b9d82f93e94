"""
Name servers that lie, talk nonsense, or lead where nobody may be led (design: sections 4, 6 and 7).

Every answer of TABLE is asked for as `smtp:[NAME]` by a recipient of its own at one daemon with one worker: first all that lead
nowhere, beside each other, then all that are fine. What a server said to one question must not hurt a later one; c-ares asks all over
the same sockets, so that one which breaks its TCP connection has broken it for all that are under way.
"""

import contextlib
import re
import struct
import threading

import pytest

from splitmx_test.daemon import await_quiet, daemons
from splitmx_test.faults import play_all
from splitmx_test.hostile_dns import (A, AAAA, ASKED, CNAME, HOLD, MX, PTR, HostileDns, address, exchange, framed, name,
                                      record)
from splitmx_test.messages import message, split_trace
from splitmx_test.upstream import ScriptedUpstream
from splitmx_test.waiting import free_port, many_files, poll

HERE = "127.0.0.1"
RIGHT = bytes([127, 0, 0, 1])

# ---- answers ----


def for_a(script):
    """Lies about A; of AAAA it says, rightly, that there is none."""
    return lambda q: script(q) if q.kind == A else [q.answer()]


def octets(tail, counts=(1, 1, 0, 0)):
    """These behind the question, in place of a record."""
    return for_a(lambda q: [q.answer(tail, counts=counts)])


def chain(length, circle=False):
    """Aliases, `length` of them, to an address; or round and round."""
    def script(q):
        names = [q.name, *(f"link{n}.{q.name}" for n in range(1, length + 1))]
        links = [record(one, CNAME, name(other)) for one, other in zip(names, names[1:] + ([names[0]] if circle else []))]
        return [q.answer(*links, *([] if circle else [address(HERE, owner=name(names[-1]))]))]

    return for_a(script)


def by_tcp(*pieces):
    """Truncated; and what TCP has then, octets or functions of the query."""
    def script(q):
        if not q.tcp:
            return [q.truncated()]
        return [piece(q) if callable(piece) and piece is not HOLD else piece for piece in pieces]

    return for_a(script)


def right(q):
    return q.answer(address(HERE))


def noise(*wrong):
    """Then what is right."""
    return for_a(lambda q: [one(q) for one in wrong] + [right(q)])


def another_id(q):
    return q.answer(address("127.0.0.66"), number=1)


def another_question(q):
    return q.answer(address("127.0.0.66"), question=name("another.test") + struct.pack(">HH", A, 1))


FAILS = {
    # names
    "a name that points at itself": octets(b"\xc0\x2c" + struct.pack(">HHIH", A, 1, 60, 4) + RIGHT),
    "a pointer forward": octets(b"\xc0\xff" + struct.pack(">HHIH", A, 1, 60, 4) + RIGHT),
    "a pointer out of the message": octets(b"\xff\xff" + struct.pack(">HHIH", A, 1, 60, 4) + RIGHT),
    "two pointers in a circle": octets(b"\xc0\x30\xc0\x2e" + struct.pack(">HHIH", A, 1, 60, 4) + RIGHT),
    "half a pointer": octets(b"\xc0"),
    "a label of a kind that is none": octets(b"\x41ab\0" + struct.pack(">HHIH", A, 1, 60, 4) + RIGHT),
    "a name without end": octets(b"\x3f" + b"a" * 63),
    "a name too long": octets((b"\x3f" + b"a" * 63) * 5 + b"\0" + struct.pack(">HHIH", A, 1, 60, 4) + RIGHT),
    # records
    "an answer is promised and not there": octets(b""),
    "65,535 answers are promised": octets(address(HERE), counts=(1, 65535, 0, 0)),
    "half a record": octets(ASKED + struct.pack(">HHI", A, 1, 60)),
    "data beyond the message": octets(record(ASKED, A, RIGHT, length=400)),
    "an address of three octets": octets(record(ASKED, A, RIGHT[:3])),
    "an address of sixteen octets": octets(record(ASKED, A, RIGHT * 4)),
    "an address of none": octets(record(ASKED, A, b"")),
    "another's address": octets(address(HERE, owner="another.test")),
    "an address of another class": octets(record(ASKED, A, RIGHT, family=3)),
    "of another kind": octets(record(ASKED, AAAA, bytes(10) + b"\xff\xff" + RIGHT)),
    "a text for an address": octets(record(ASKED, 16, b"\x09127.0.0.1")),
    "in the wrong section": for_a(lambda q: [q.answer(authority=[address(HERE)])]),
    # aliases
    "an alias of itself": chain(0, circle=True),
    "two aliases of each other": chain(1, circle=True),
    "aliases round and round": chain(9, circle=True),
    "a chain of fifty": chain(50),
    "an alias that leads nowhere": octets(record(ASKED, CNAME, name("nowhere.test"))),
    "an alias with a line in it": octets(record(ASKED, CNAME, name("evil\r\n.test"))),
    "an alias that is cut": octets(record(ASKED, CNAME, b"\x04evil")),
    # heads
    "no answer but a question": for_a(lambda q: [q.answer(address(HERE), flags=0x0100)]),
    "two questions": for_a(lambda q: [q.answer(address(HERE), question=q.question * 2, counts=(2, 1, 0, 0))]),
    "no question": for_a(lambda q: [q.answer(address(HERE, owner=name(q.name)), question=b"")]),
    "another question": for_a(lambda q: [another_question(q)]),
    "another id": for_a(lambda q: [another_id(q)]),
    "nothing": for_a(lambda q: []),
    "an empty datagram": for_a(lambda q: [b""]),
    "one octet": for_a(lambda q: [q.octets[:1]]),
    "half a head": for_a(lambda q: [q.answer()[:7]]),
    "its own question": for_a(lambda q: [q.octets]),
    "FORMERR": for_a(lambda q: [q.answer(code=1)]),
    "NOTIMP": for_a(lambda q: [q.answer(code=4)]),
    "a code that nobody knows": for_a(lambda q: [q.answer(code=15)]),
    "SERVFAIL with an address": for_a(lambda q: [q.answer(address(HERE), code=2)]),
    "NXDOMAIN with an address": for_a(lambda q: [q.answer(address(HERE), code=3)]),
    # truncated
    "truncated, and TCP closes": by_tcp(None),
    "truncated, and TCP says nothing": by_tcp(HOLD),
    "truncated, and truncated by TCP": by_tcp(lambda q: framed(q.truncated())),
    "truncated, and nothing at all by TCP": by_tcp(framed(b"")),
    "truncated, and half of it by TCP": by_tcp(lambda q: framed(right(q))[:-3], None),
    "truncated, and less than it said by TCP": by_tcp(lambda q: framed(right(q), length=65535), None),
    "truncated, and 64 KiB of noise by TCP": by_tcp(framed(b"\xc0\x0c" * 32767)),
    "truncated, and another id by TCP": by_tcp(lambda q: framed(another_id(q)), HOLD),
    "truncated, and one octet by TCP": by_tcp(b"\0", HOLD),
}

GOES = {
    "another id first": noise(another_id, another_id, another_id),
    "another question first": noise(another_question, another_question),
    "an empty datagram first": noise(lambda q: b""),
    "a hundred of noise first": noise(*[lambda q, n=n: q.octets[:2] + bytes([n]) * 40 for n in (0, 1, 0x7f)] * 30),
    "a chain of four": chain(4),
    "a time to live of 0": for_a(lambda q: [q.answer(address(HERE, ttl=0))]),
    "a time to live of 2^31": for_a(lambda q: [q.answer(address(HERE, ttl=2 ** 31))]),
    "a time to live of 2^32 - 1": for_a(lambda q: [q.answer(address(HERE, ttl=2 ** 32 - 1))]),
    "1,000 addresses by TCP": by_tcp(lambda q: framed(q.answer(*[address(HERE)] * 1000))),
    "1,000 aliases that do not matter": by_tcp(lambda q: framed(q.answer(
        address(HERE), *[record(f"x{n}.test", CNAME, name(f"y{n}.test")) for n in range(1000)]))),
    "an address among others'": for_a(lambda q: [q.answer(address("127.0.0.66", owner="another.test"), address(HERE), address("127.0.0.67", owner="x.test"))]),
    "an address and what is no record behind it": for_a(lambda q: [right(q) + b"\xc0" * 50]),
    "of TCP a piece at a time": by_tcp(lambda q: framed(right(q))[:1], lambda q: framed(right(q))[1:9], lambda q: framed(right(q))[9:]),
}

TABLE = {**{f"{words}: no": script for words, script in FAILS.items()}, **{f"{words}: yes": script for words, script in GOES.items()}}


def host_of(number):
    return f"case{number}.test"


@pytest.fixture(scope="module")
def town():
    names, upstream = HostileDns(), ScriptedUpstream("here.test")
    for number, script in enumerate(TABLE.values()):
        names.on(host_of(number), script)
    with daemons() as start_daemon:
        daemon = start_daemon(workers=1, dns={"servers": [names.address]}, timeouts={"pool-idle": "100ms"}, routes={
            f"r{number}@example.com": f"smtp:[{host_of(number)}]:{upstream.port}" for number in range(len(TABLE))})
        daemon.names, daemon.upstream = names, upstream
        yield daemon
    upstream.stop()
    names.stop()


def ask(daemon, recipient, source=None):
    with daemon.client(timeout=20, source=source) as client:
        client.mail()
        answer = client.rcpt(recipient)
        assert client.cmd("NOOP") == 250
        client.quit()
        return answer


@pytest.fixture(scope="module")
def played(town):
    """All of them together, {words: function that gives the answer to RCPT}; and that nothing of it is left behind."""
    idle = town.descriptors()
    answers = {}
    for some in (FAILS, GOES):
        jobs = {words: (lambda number=number: ask(town, f"r{number}@example.com")) for number, (words, script) in enumerate(TABLE.items())
                if script in some.values()}
        answers.update(play_all(jobs, at_once=len(jobs)))
    poll(lambda: town.status()["sessions"]["open"] == 0, "the end of all sessions")
    await_quiet(town, idle + 4, timeout=20)  # idle connections to the upstream, and sockets for DNS
    return answers


@pytest.mark.parametrize("words", TABLE)
def test_an_answer_of_a_name_server(played, words):
    answer = played[words]()
    assert answer == ("451 4.4.3" if words.endswith(": no") else 250), answer


def test_a_time_to_live_of_2_to_the_31_is_none(played, town):
    """RFC 2181 section 8. It is asked again after the second that everything lives."""
    number = list(TABLE).index("a time to live of 2^31: yes")

    def asks_again():
        before = len(town.names.asked(host_of(number)))
        assert ask(town, f"r{number}@example.com") == 250
        return len(town.names.asked(host_of(number))) > before

    assert poll(asks_again, "another question", timeout=5, interval=0.2)


def test_truncated_without_tcp_is_451_4_4_3(start_daemon):
    names = HostileDns(tcp=False).on("cut.test", lambda q: [q.truncated()])
    daemon = start_daemon(dns={"servers": [names.address]}, routes={"r@example.com": "smtp:[cut.test]"})
    assert ask(daemon, "r@example.com") == "451 4.4.3"
    names.stop()


# ---- where names may not lead ----

FORBIDDEN = ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "224.0.0.1",
             "239.255.255.250", "ff02::1", "240.0.0.1", "255.255.255.255", "169.254.169.254", "fe80::1"]


def only(kind, one):
    """The records that the kind of an address has; of the other, none."""
    def script(q):
        return [q.answer(*([one] if q.kind == kind else []))]

    return script


class Forbidden:
    """Servers wait wherever a forbidden address might lead; nobody may come to them."""

    def __init__(self, stack, start_daemon):
        self.names = HostileDns()
        self.port = free_port()
        self.traps = [stack.enter_context(ScriptedUpstream("trap.test", address=where, port=self.port)) for where in ("127.0.0.1", "::1")]
        routes = {}
        for number, where in enumerate(FORBIDDEN):
            kind = AAAA if ":" in where else A
            self.names.on(f"host{number}.test", only(kind, address(where)))
            self.names.on(f"mx{number}.test", only(MX, exchange(f"host{number}.test")))
            self.names.on(f"alias{number}.test", only(MX, exchange(f"to{number}.test")))
            self.names.on(f"to{number}.test", lambda q, n=number, k=kind, w=where: [
                q.answer(record(ASKED, CNAME, name(f"host{n}.test")), *([address(w, owner=name(f"host{n}.test"))] if q.kind == k else []))])
            for way in ("mx", "host", "alias"):
                routes[f"{way}{number}@example.com"] = f"smtp:{way}{number}.test:{self.port}"
        self.names.on("mx-local.test", only(MX, exchange("localhost")))
        self.names.on("mx-sub.test", only(MX, exchange("mail.localhost")))
        self.names.on("mx-many.test", lambda q: [q.truncated()] if not q.tcp else [framed(q.answer(
            *[exchange(f"many{n}.test", preference=n) for n in range(1000)] if q.kind == MX else []))])
        self.names.on("*.test", lambda q: [q.answer(*([address("127.0.0.1")] if q.kind == A and q.name.startswith("many") else []))])
        routes.update({f"{way}@example.com": f"smtp:{way}.test:{self.port}" for way in ("mx-local", "mx-sub", "mx-many")})
        routes["gmail@example.com"] = "gmail"
        for number, host in enumerate(("aspmx", "alt1.aspmx", "alt2.aspmx", "alt3.aspmx", "alt4.aspmx")):
            self.names.on(f"{host}.l.google.com", only(AAAA if number % 2 else A, address("::1" if number % 2 else "127.0.0.1")))
        routes["bracket@example.com"] = f"smtp:[host0.test]:{self.port}"
        self.daemon = start_daemon(workers=1, dns={"servers": [self.names.address]}, routes=routes,
                                   timeouts={"pool-idle": "0s"}, relays={"gmail": {"port": self.port, "tls": "none"}})


@pytest.fixture(scope="module")
def forbidden():
    with contextlib.ExitStack() as stack:
        yield Forbidden(stack, stack.enter_context(daemons()))


@pytest.mark.parametrize("way", ["mx", "host", "alias"])
@pytest.mark.parametrize("number", range(len(FORBIDDEN)), ids=FORBIDDEN)
def test_a_name_outside_brackets_leads_to_no_such_address(forbidden, way, number):
    """By an MX, by the domain's own address for want of one, by an MX that is an alias."""
    assert ask(forbidden.daemon, f"{way}{number}@example.com") == "451 4.4.3"
    assert all(trap.connections == [] for trap in forbidden.traps)


@pytest.mark.parametrize("way", ["mx-local", "mx-sub", "gmail"])
def test_nor_do_names_that_need_no_asking_nor_those_of_gmail(forbidden, way):
    assert ask(forbidden.daemon, f"{way}@example.com") == "451 4.4.3"
    assert all(trap.connections == [] for trap in forbidden.traps)


def test_of_a_thousand_exchanges_a_few_are_asked_for(forbidden):
    assert ask(forbidden.daemon, "mx-many@example.com") == "451 4.4.3"
    asked = {query[0] for query in forbidden.names.queries if query[0].startswith("many")}
    assert asked == {f"many{n}.test" for n in range(16)}, "the most preferred"


def test_in_brackets_a_name_leads_where_it_leads(forbidden):
    """So the traps of the others are real."""
    assert ask(forbidden.daemon, "bracket@example.com") == 250
    assert len(forbidden.traps[0].await_all_ended()) == 1
    forbidden.traps[0].connections.clear()


# ---- the names of clients ----

def client_names():
    """What a client's own name server may say of it: {words: (script for its reverse name)}."""
    def ptr(*names_):
        return lambda q: [q.answer(*[record(ASKED, PTR, one if isinstance(one, bytes) else name(one)) for one in names_])]

    return {
        "a name with a line in it": ptr("evil\r\nX-Evil: yes.test"),
        "a name with a bracket in it": ptr("good.test (evil) [192.0.2.1].test"),
        "a name with an escape in it": ptr("\x1b[31mred.test"),
        "a name with a NUL in it": ptr("evil\0.test"),
        "a name with a dot in a label": ptr(b"\x09evil.test\x04test\0"),
        "a name that is an address": ptr("192.0.2.1"),
        "the empty name": ptr(b"\0"),
        "a name of 255 octets": ptr(".".join(["a" * 63] * 3 + ["b" * 59]) + ".t"),
        "an alias of itself": lambda q: [q.answer(record(ASKED, CNAME, ASKED))],
        "a name that points at itself": lambda q: [q.answer(b"\xc0\x2e" + struct.pack(">HHIH", PTR, 1, 60, 2) + b"\xc0\x0c")],
        "data that is cut": ptr(b"\x04evil"),
        "1,000 names": lambda q: [q.truncated()] if not q.tcp else [framed(q.answer(
            *[record(ASKED, PTR, name(f"n{n}.nowhere.test")) for n in range(1000)]))],
        "SERVFAIL": lambda q: [q.answer(code=2)],
        "another's": lambda q: [q.answer(record("1.0.0.127.in-addr.arpa", PTR, name("good.test")))],
    }


@pytest.fixture(scope="module")
def met():
    names, upstream = HostileDns(), ScriptedUpstream("here.test")
    for number, script in enumerate(client_names().values()):
        names.on(f"{number + 1}.7.0.127.in-addr.arpa", script)
    with daemons() as start_daemon:
        daemon = start_daemon(workers=1, dns={"servers": [names.address]}, relays={"local": {"next-hop": upstream.next_hop}})
        daemon.upstream = upstream
        yield daemon
    upstream.stop()
    names.stop()


@pytest.mark.parametrize("number, words", enumerate(client_names()), ids=client_names())
def test_a_client_whose_name_server_lies_is_unknown_and_served(met, number, words):
    met.upstream.forget()
    source = f"127.0.7.{number + 1}"
    with met.client(source=source) as client:
        assert client.send_mail(message(), "user@example.com") == 250
        client.quit()
    field, rest = split_trace(met.upstream.only_message().data)
    assert f"(unknown [{source}])".encode() in re.sub(rb"\r\n[ \t]+", b" ", field)
    assert b"vil" not in re.sub(rb"\bid \S+", b"", field), "but by chance in an id"
    assert rest.startswith(b"From: ")
    line = met.await_log(lambda line: "event=transaction" in line and source in line)
    assert line.isprintable() and line.count("event=") == 1


def test_clients_whose_names_lead_to_silence_keep_no_next_hop_from_being_asked_for(start_daemon, start_upstream):
    """
    Whoever has many addresses, and their name server, can have each of them wait for four names that nobody answers for: all at
    once, more questions than may be under way. The names of next hops are answered for all that.
    """
    names, local = HostileDns(), start_upstream("local.test")
    clients, hops, go = 1400, 20, threading.Event()

    def four_names(q):
        return [q.answer(*[record(ASKED, PTR, name(f"n{n}.{q.name}.silent.test")) for n in range(4)])] if go.is_set() else []

    names.on("*.in-addr.arpa", four_names).on("*.silent.test", lambda q: []).on("*.hop.test", for_a(lambda q: [right(q)]))
    daemon = start_daemon(workers=1, dns={"servers": [names.address]}, limits={"connections_per_client": 5},
                          routes={f"r{n}@example.com": f"smtp:[n{n}.hop.test]:{local.port}" for n in range(hops)})
    with many_files(clients), contextlib.ExitStack() as stack:
        for n in range(clients):
            stack.enter_context(daemon.client(source=f"127.1.{n // 200}.{n % 200 + 1}", hello=None))
        go.set()  # each is asked for again after a second
        poll(lambda: len(names.asked_below(".silent.test")) > 1000, "questions for names that nobody answers for")
        for n in range(hops):
            assert ask(daemon, f"r{n}@example.com") == 250  # 127.0.0.1 has a name without asking
    names.stop()
