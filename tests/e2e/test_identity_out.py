"""Upstreams are told who the client is, exactly and only of that client, or there is no mail (design: section 5)."""

import re

import pytest

from splitmx_test.client import Client
from splitmx_test.identified import ALL, Identified
from splitmx_test.messages import message
from splitmx_test.upstream import call, chased_by, close, raw, reply, reset
from splitmx_test.waiting import free_port, poll

USER = "user@example.com"
NAMED, ITS_PTR = "127.0.0.77", "77.0.0.127.in-addr.arpa"  # 127.0.0.1 has a name everywhere: localhost


class Town:
    def __init__(self, daemon, local, other):
        self.daemon, self.local, self.other = daemon, local, other

    def ask(self, **keywords):
        with self.daemon.client(**keywords) as client:
            client.mail()
            return client.rcpt(USER)

    def assert_refused(self, answer="451 4.3.5"):
        assert self.ask() == answer
        assert not any(line.startswith((b"MAIL", b"RCPT")) for line in self.local.commands())
        assert self.other.connections == [], "no reason for the fallback"


@pytest.fixture
def start(start_daemon, start_upstream):
    def start(identity, attributes=ALL, tls="none", certificate=None, **settings):
        local = start_upstream("local.test", kind=Identified, attributes=attributes, certificate=certificate)
        other = start_upstream("other.test")
        if identity == "proxy":
            local.on("connect", call(lambda connection: connection._line() and None))
        daemon = start_daemon(
            workers=1, routes={"example.com": "local"}, **settings,
            relays={"local": {"next-hop": local.next_hop, "identity": identity, "tls": tls, "fallback": "other"},
                    "other": {"next-hop": other.next_hop}})
        return Town(daemon, local, other)

    return start


BOTH = pytest.mark.parametrize("identity", ["xclient", "proxy"])


# XCLIENT


def test_all_that_is_listed_is_told_before_mail_and_in_order(start, dns):
    dns.add(ITS_PTR, "PTR", "client.example.net")
    dns.add("client.example.net", "A", NAMED)
    town = start("xclient")
    with town.daemon.client(hello="the.client.test", source=NAMED) as client:
        port = client.sock.getsockname()[1]
        client.mail()
        assert client.rcpt(USER) == 250
    connection = town.local.connections[0]
    assert connection.verbs()[:5] == ["EHLO", "XCLIENT", "EHLO", "MAIL", "RCPT"]
    assert connection.commands[0] == b"EHLO mx.splitmx.test" and connection.commands[2] == b"EHLO the.client.test"
    assert connection.told() == {
        "NAME": "client.example.net", "ADDR": NAMED, "PORT": str(port), "PROTO": "ESMTP", "HELO": "the.client.test",
        "LOGIN": "[UNAVAILABLE]", "DESTADDR": "127.0.0.1", "DESTPORT": str(town.daemon.port), "REVERSE_NAME": "client.example.net"}
    assert connection.commands[1].split(b" ")[-1] == b"ADDR=127.0.0.77"


@pytest.mark.parametrize("attributes", ["ADDR", "ADDR NAME", "HELO ADDR X-NEW", "addr name helo"])
def test_what_is_not_listed_is_not_told(start, attributes):
    town = start("xclient", attributes)
    assert town.ask() == 250
    assert set(town.local.connections[0].told()) == set(attributes.upper().split()) - {"X-NEW"}


def test_without_name_and_esmtp(start):
    town = start("xclient")
    with town.daemon.client(hello=None, source=NAMED) as client:
        client.cmd("HELO [127.0.0.1]")
        client.mail()
        assert client.rcpt(USER) == 250
    told = town.local.connections[0].told()
    assert (told["NAME"], told["PROTO"], told["HELO"]) == ("[UNAVAILABLE]", "SMTP", "[127.0.0.1]")
    assert b"EHLO [127.0.0.1]" in town.local.commands()


def test_a_name_server_that_does_not_answer_is_another_thing_than_no_name(start, dns):
    dns.silent(ITS_PTR)
    town = start("xclient")
    assert town.ask(source=NAMED) == 250
    assert town.local.connections[0].told()["NAME"] == "[TEMPUNAVAIL]"


def test_a_name_that_dns_does_not_confirm_is_not_told(start, dns):
    dns.add(ITS_PTR, "PTR", "liar.example.net")
    dns.add("liar.example.net", "A", "192.0.2.1")
    town = start("xclient")
    assert town.ask(source=NAMED) == 250
    assert town.local.connections[0].told()["NAME"] == "[UNAVAILABLE]"


def test_long_names_take_more_lines_of_at_most_512_octets(start, dns):
    name = ".".join(["x" * 60] * 4)  # 243
    helo = ".".join(["y" * 60] * 4)
    dns.add(ITS_PTR, "PTR", name)
    dns.add(name, "A", NAMED)
    town = start("xclient")
    assert town.ask(hello=helo, source=NAMED) == 250
    connection = town.local.connections[0]
    lines = [line for line in connection.commands if line.startswith(b"XCLIENT")]
    assert len(lines) >= 2 and all(len(line) + 2 <= 512 for line in lines)
    assert connection.told()["NAME"] == name and connection.told()["HELO"] == helo
    assert b" ADDR=" in lines[-1] and not any(b" ADDR=" in line for line in lines[:-1])
    assert connection.verbs()[:3 + len(lines)] == ["EHLO", *["XCLIENT"] * len(lines), "EHLO", "MAIL"]


@pytest.mark.parametrize("hello", ["[IPv6:2001:db8::1]", "a_b.test", "x", "a" * 200 + ".test"])
def test_odd_helo_names_are_told_as_they_are_or_not_at_all(start, hello):
    town = start("xclient")
    with town.daemon.client(hello=None) as client:
        if client.cmd(f"EHLO {hello}") != 250:
            return
        client.mail()
        assert client.rcpt(USER) == 250
    assert town.local.connections[0].told()["HELO"] == hello


def test_an_ipv6_client(start_daemon, start_upstream):
    local = start_upstream("local.test", kind=Identified)
    daemon = start_daemon(address="::1", relays={"local": {"next-hop": local.next_hop, "identity": "xclient"}}, routes={"example.com": "local"})
    assert daemon.send(message(), USER) == 250
    told = local.connections[0].told()
    assert told["ADDR"] == "IPV6:::1" and told["DESTADDR"] == "IPV6:::1"


@pytest.mark.parametrize("identity, expected", [
    ("xclient", {"ADDR": "192.0.2.66", "PORT": "40000", "DESTADDR": "192.0.2.1", "DESTPORT": "2525"}),
    ("proxy", b"PROXY TCP4 192.0.2.66 192.0.2.1 40000 2525")])
def test_the_client_of_a_proxy_in_front_is_the_client(start, identity, expected):
    town = start(identity, start=False)
    town.daemon.write_config(listen=[{"address": f"127.0.0.1:{town.daemon.port}", "proxy-protocol": ["127.0.0.1/32"]}])
    town.daemon.start()
    with town.daemon.client(greet=False) as client:
        client.send("PROXY TCP4 192.0.2.66 192.0.2.1 40000 2525\r\n")
        assert client.reply() == 220
        client.cmd("EHLO behind.test")
        assert client.send_mail(message(), USER) == 250
    connection = town.local.connections[0]
    if identity == "xclient":
        assert connection.told().items() >= expected.items()
    else:
        assert connection.commands[0] == expected


@pytest.mark.parametrize("answer, said", [
    ("550 5.7.0 not you", "451 4.3.5"), ("501 5.5.4 bad", "451 4.3.5"), ("503 5.5.1 no", "451 4.3.5"), ("502 5.5.1 what", "451 4.3.5"),
    ("554 5.7.1 that client is blocked", "554 5.7.1"), ("421 4.7.0 that client is too fast", "451 4.7.0"),
    ("450 4.7.1 that client later", "450 4.7.1")])
def test_xclient_refused(start, answer, said):
    """554 and 4xx are about the client (the answer is the greeting to it), the others about us; neither gets mail through."""
    town = start("xclient")
    town.local.on("xclient", reply(answer), *([close()] if answer.startswith("421") else []))
    town.assert_refused(said)


@pytest.mark.parametrize("attributes", [None, "", "NAME HELO PROTO"])
def test_xclient_that_is_not_offered_or_not_for_addresses(start, attributes):
    start("xclient", attributes).assert_refused()


def test_xclient_where_there_is_helo_only(start):
    town = start("xclient")
    town.local.on("ehlo", reply("502 5.5.1 what"))
    town.assert_refused()


@pytest.mark.parametrize("how", [reset(), close()], ids=["rst", "fin"])
def test_a_server_lost_at_xclient_is_away(start, how):
    town = start("xclient")
    town.local.on("xclient", how)
    assert town.ask() == 250
    assert len(town.other.connections) == 1


@pytest.mark.parametrize("answer", ["550 5.7.1 no", "421 4.3.2 closing", "450 4.3.2 later"])
def test_the_second_ehlo_refused(start, answer):
    town = start("xclient")
    town.local.on("ehlo", reply(answer), after=1)
    town.local.on("helo", reply(answer))
    with town.daemon.client() as client:
        client.mail()
        client.rcpt(USER)
    assert not any(line.startswith((b"MAIL", b"RCPT")) for line in town.local.commands())


def test_an_answer_to_xclient_before_it_was_sent_does_not_shift_the_others(start):
    """Else the answer to each RCPT would be taken for that to the next."""
    town = start("xclient")
    town.local.on("ehlo", chased_by(b"220 local.test\r\n"), times=1)
    town.local.on("rcpt", reply("550 5.1.1 unknown"), when="absent")
    with town.daemon.client() as client:
        client.mail()
        assert client.rcpt("absent@example.com") == 451
    assert town.local.connections[0].verbs() == ["EHLO"], "it ends there"


def test_xclient_comes_in_tls(start, ca):
    town = start("xclient", tls="encrypt", certificate=ca.issue("local.test"))
    assert town.ask() == 250
    assert town.local.connections[0].verbs()[:6] == ["EHLO", "STARTTLS", "EHLO", "XCLIENT", "EHLO", "MAIL"]


def test_what_was_offered_in_clear_only_is_not_offered(start, ca):
    town = start("xclient", tls="encrypt", certificate=ca.issue("local.test"))
    town.local.on("ehlo", reply("250-local.test", "250 SIZE"), when=lambda step: step.connection.tls)
    town.assert_refused()


# A connection is one client's


def told_of(town):
    return [connection.told().get("HELO") for connection in town.local.connections]


def test_a_session_uses_its_connection_again_and_another_of_the_same_client_does_not(start):
    town = start("xclient")
    for _ in range(2):
        with town.daemon.client() as client:
            for _ in range(3):
                assert client.send_mail(message(), USER) == 250
    assert len(town.local.connections) == 2
    assert [c.verbs().count("MAIL") for c in town.local.connections] == [3, 3]


@pytest.mark.parametrize("verb, name", [("EHLO", "other.test"), ("HELO", "client.test"), ("HELO", "other.test")])
def test_a_client_that_says_hello_anew_is_told_anew(start, verb, name):
    town = start("xclient")
    with town.daemon.client(hello="client.test") as client:
        assert client.send_mail(message(), USER) == 250
        assert client.cmd(f"{verb} {name}") == 250
        assert client.send_mail(message(), USER) == 250
        assert client.send_mail(message(), USER) == 250
    last = [m.connection for m in town.local.messages]
    assert last[0] is not last[1] and last[1] is last[2]
    assert last[1].told()["HELO"] == name and last[1].told()["PROTO"] == ("ESMTP" if verb == "EHLO" else "SMTP")


def test_the_same_hello_again_is_no_news(start):
    town = start("xclient")
    with town.daemon.client(hello="client.test") as client:
        assert client.send_mail(message(), USER) == 250
        assert client.cmd("EHLO client.test") == 250
        assert client.cmd("RSET") == 250
        assert client.send_mail(message(), USER) == 250
    assert told_of(town)[-1] == "client.test"


def test_many_clients_and_no_name_is_anothers(start):
    town = start("xclient")
    clients = {f"c{n}.test": town.daemon.client(hello=f"c{n}.test", source=f"127.0.0.{n + 1}") for n in range(1, 9)}
    for _ in range(3):
        for name, client in clients.items():
            assert client.send_mail(message(), USER, sender=f"x@{name}") == 250
    for client in clients.values():
        client.quit()
    assert len(town.local.messages) == 24
    for there in town.local.messages:
        name = there.sender.split("@")[1]
        told = there.connection.told()
        assert told["HELO"] == name and told["ADDR"] == f"127.0.0.{int(name[1:-5]) + 1}"
        assert f"from {name} (".encode() in there.data


# PROXY


def test_the_header_comes_first_and_ehlo_gives_the_clients_name(start):
    town = start("proxy")
    with town.daemon.client(hello="the.client.test") as client:
        port = client.sock.getsockname()[1]
        assert client.send_mail(message(), USER) == 250
    commands = town.local.connections[0].commands
    assert commands[0] == f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {town.daemon.port}".encode()
    assert commands[1] == b"EHLO the.client.test"
    assert re.fullmatch(rb"PROXY [^\r\n]*\r\n.*", town.local.connections[0].segments[0], re.S)


def test_an_ipv6_client_in_a_header(start_daemon, start_upstream):
    local = start_upstream("local.test")
    local.on("connect", call(lambda connection: connection._line() and None))
    daemon = start_daemon(address="::1", relays={"local": {"next-hop": local.next_hop, "identity": "proxy"}}, routes={"example.com": "local"})
    assert daemon.send(message(), USER) == 250
    assert re.fullmatch(rb"PROXY TCP6 ::1 ::1 \d+ %d" % daemon.port, local.connections[0].commands[0])


def test_connections_with_a_header_are_not_kept(start):
    town = start("proxy")
    with town.daemon.client() as client:
        for _ in range(3):
            assert client.send_mail(message(), USER) == 250
    assert [c.verbs().count("MAIL") for c in town.local.connections] == [1, 1, 1]
    town.local.wait_for(lambda: all(c.ended for c in town.local.connections), "their ends")


@pytest.mark.parametrize("greeting, said", [("554 5.7.1 blocked", "554 5.7.1"), ("550 5.7.1 blocked", "550 5.7.1"), ("450 4.7.1 wait", "450 4.7.1"),
                                            ("421 4.7.0 too fast", "451 4.7.0"), ("521 5.7.1 no mail", "521 5.7.1")])
def test_a_greeting_that_refuses_is_about_the_client(start, greeting, said):
    town = start("proxy")
    town.local.on("greeting", reply(greeting), close())
    for _ in range(5):
        town.assert_refused(said)
    town.local.rules = [rule for rule in town.local.rules if rule.stage != "greeting"]
    assert town.ask() == 250, "nor is the endpoint thought to be down"


@pytest.mark.parametrize("at_once", [False, True])
def test_a_server_that_takes_the_header_for_a_command(start, at_once):
    town = start("proxy")
    if at_once:
        town.local.on("greeting", raw(b"220 local.test ESMTP\r\n502 5.5.2 Error: command not recognized\r\n"))
    else:
        town.local.rules.clear()  # greets without waiting, and knows no PROXY
    assert town.ask() == "451 4.3.5"
    assert not any(line.startswith((b"MAIL", b"RCPT")) for line in town.local.commands())
    assert town.other.connections == []


@BOTH
def test_absence_is_absence_whatever_the_identity(start, identity):
    town = start(identity)
    town.local.stop()
    assert town.ask() == 250
    assert len(town.other.connections) == 1
    assert not any(line.startswith((b"XCLIENT", b"PROXY")) for line in town.other.commands())


@BOTH
def test_a_probe_does_not_speak_for_a_client(start, identity):
    town = start(identity)
    rules = list(town.local.rules)
    town.local.on("ehlo", raw(b""), reset())
    for _ in range(4):
        assert town.ask() == 250
    town.local.rules = rules

    def probed():
        with town.local.board:
            return any(c.commands[-1:] == [b"QUIT"] and b"EHLO mx.splitmx.test" in c.commands for c in town.local.connections)

    poll(probed, "a probe", timeout=15)
    for connection in town.local.connections:
        if connection.commands[-1:] == [b"QUIT"]:
            assert set(connection.verbs()) <= {"PROXY", "EHLO", "QUIT"}
            assert b"EHLO client.test" not in connection.commands


def test_two_relays_at_one_address_share_nothing(start_daemon, start_upstream):
    """One by XCLIENT, one without: neither uses the other's connection."""
    local = start_upstream("local.test", kind=Identified)
    daemon = start_daemon(workers=1, routes={USER: "known", "example.com": "plain"},
                          relays={"known": {"next-hop": local.next_hop, "identity": "xclient"}, "plain": {"next-hop": local.next_hop}})
    with daemon.client() as client:
        for _ in range(2):
            assert client.send_mail(message(), USER) == 250
            assert client.send_mail(message(), "anyone@example.com") == 250
    assert len(local.connections) == 2
    for there in local.messages:
        assert bool(there.connection.told()) is (there.recipients == [USER])


def test_a_listener_of_another_port_is_another_destination(start):
    town = start("xclient", start=False)
    second = free_port()
    town.daemon.write_config(listen=[{"address": f"127.0.0.1:{port}"} for port in (town.daemon.port, second)])
    town.daemon.start()
    with Client(("127.0.0.1", second)) as client:
        client.mail()
        assert client.rcpt(USER) == 250
    assert town.local.connections[0].told()["DESTPORT"] == str(second)
