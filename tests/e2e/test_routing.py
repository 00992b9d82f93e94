"""Where a recipient goes (design: section 4), asked by RCPT."""

import pytest

from splitmx_test.daemon import Daemon
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import ScriptedUpstream, reply


def ask(daemon, *recipients):
    """The replies to RCPT, in a transaction that is then given up."""
    with daemon.client() as client:
        assert client.mail() == 250
        replies = [client.rcpt(recipient) for recipient in recipients]
        client.cmd("RSET")
        return replies[0] if len(recipients) == 1 else replies


@pytest.fixture
def named(start_upstream):
    """named("a", "b"): upstreams that answer RCPT with their name, as relays."""

    def make(*names):
        relays = {}
        for name in names:
            upstream = start_upstream(f"{name}.test")
            upstream.on("rcpt", reply(f"250 2.1.5 {name}"))
            relays[name] = {"next-hop": upstream.next_hop}
        return relays

    return make


# The transport map of the story


def test_a_transport_map_as_it_stands(start_daemon, start_upstream):
    local, king, third = (start_upstream(f"{n}.test") for n in ("local", "king", "third"))
    local.on("rcpt", reply("550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown"), when="nobody@")
    daemon = start_daemon(
        map=f"# docker-mailserver's postfix-transport_map.cf\n"
            f"kingmail@example.com     smtp:[127.0.0.1]:{king.port}\n"
            f"user@example.com         smtp:[127.0.0.1]:{local.port}\n"
            f"nobody@example.com       smtp:[127.0.0.1]:{local.port}\n"
            f"example.com              smtp:[127.0.0.1]:{third.port}\n",
        domains=["example.com"])
    sent = message()
    with daemon.client() as client:
        assert client.mail() == 250
        for recipient in ("kingmail@example.com", "user@example.com", "someone@example.com"):
            assert client.rcpt(recipient) == 250
        assert client.rcpt("nobody@example.com").lines == ["550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown"]
        assert client.rcpt("user@elsewhere.test") == "550 5.7.1"
        assert client.data() == 354
        assert client.body(sent) == 250
    for upstream, recipient in ((king, "kingmail@example.com"), (local, "user@example.com"), (third, "someone@example.com")):
        kept = upstream.only_message()
        assert kept.recipients == [recipient]
        assert_relayed(kept.data, sent)


def test_a_transport_map_adds_no_domains(start_daemon, start_upstream):
    upstream = start_upstream()
    daemon = start_daemon(map=f"example.com smtp:[127.0.0.1]:{upstream.port}\n* smtp:[127.0.0.1]:{upstream.port}\n")
    assert ask(daemon, "user@example.com") == "550 5.7.1"


# Look-up order


def test_the_longest_match_wins(start_daemon, named):
    daemon = start_daemon(
        relays=named("ext", "user", "domain", "sub", "subsub", "star"),
        domains=["example.com", ".example.com", "other.test"],
        routes={
            "user+ext@example.com": "ext", "user@example.com": "user", "example.com": "domain",
            ".example.com": "sub", ".b.example.com": "subsub", "*": "star",
        })
    for recipient, relay in (
            ("user+ext@example.com", "ext"), ("USER+EXT@EXAMPLE.COM", "ext"), ("user+other@example.com", "user"),
            ("user@example.com", "user"), ("User@Example.Com", "user"), ("other@example.com", "domain"), ("other+ext@example.com", "domain"),
            ("x@a.example.com", "sub"), ("x@b.example.com", "sub"), ("x@a.b.example.com", "subsub"), ("x@z.a.b.example.com", "subsub"),
            ("user@a.example.com", "sub"), ("x@other.test", "star")):
        answer = ask(daemon, recipient)
        assert answer.lines == [f"250 2.1.5 {relay}"], recipient


def test_the_kelvin_sign_is_no_k(start_daemon, named):
    daemon = start_daemon(relays=named("king", "rest"), routes={"king@example.com": "king", "example.com": "rest"})
    assert ask(daemon, "KING@example.com").text == "2.1.5 king"
    assert ask(daemon, "\u212aing@example.com") == "553 5.6.7"


def test_the_delimiter_can_be_another_or_none(start_daemon, named):
    relays = named("user", "domain")
    routes = {"user@example.com": "user", "example.com": "domain"}
    daemon = start_daemon(relays=relays, routes=routes, recipient_delimiter="-")
    assert [a.text for a in ask(daemon, "user-x@example.com", "user+x@example.com")] == ["2.1.5 user", "2.1.5 domain"]


def test_quotes_around_a_local_part_lead_nowhere_else(start_daemon, start_upstream):
    king, rest = start_upstream("king.test"), start_upstream("rest.test")
    daemon = start_daemon(relays={"king": {"next-hop": king.next_hop}, "rest": {"next-hop": rest.next_hop}},
                          routes={"kingmail@example.com": "king", "example.com": "rest"})
    assert daemon.send(message(), '"kingmail"@example.com') == 250
    assert king.only_message().recipients == ['"kingmail"@example.com'] and not rest.messages  # as the client wrote it
    assert ask(daemon, '"king@mail"@example.com') == "550 5.7.1"


# Actions


def test_actions_answer_themselves(start_daemon, named):
    daemon = start_daemon(relays=named("local"), routes={
        "e1@example.com": "error:gone fishing", "e2@example.com": "error:5.1.6 moved away", "e3@example.com": "error:4.2.1 back soon",
        "r1@example.com": "retry:", "r2@example.com": "retry:wait a bit", "d@example.com": "discard:", "example.com": "local",
    })
    answers = ask(daemon, "e1@example.com", "e2@example.com", "e3@example.com", "r1@example.com", "r2@example.com", "d@example.com")
    assert answers[0].lines == ["550 5.0.0 gone fishing"]
    assert answers[1].lines == ["550 5.1.6 moved away"]
    assert answers[2].lines == ["450 4.2.1 back soon"]
    assert answers[3] == "450 4.0.0"
    assert answers[4].lines == ["450 4.0.0 wait a bit"]
    assert answers[5] == 250


def test_discarded_mail_is_accepted_logged_and_goes_nowhere(start_daemon, start_upstream):
    local = start_upstream()
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}},
                          routes={"d@example.com": "discard:", "example.com": "local"})
    assert daemon.send(message(), "d@example.com", sender="dropped@client.test") == 250
    daemon.await_log(lambda l: "event=transaction" in l and "dropped@client.test" in l and "discard" in l)
    assert local.connections == []
    sent = message()
    assert daemon.send(sent, "d@example.com", "user@example.com") == 250
    kept = local.only_message()
    assert kept.recipients == ["user@example.com"]
    assert_relayed(kept.data, sent)


# What is accepted at all


def test_the_default_domains_are_those_spelled_in_yaml_keys(start_daemon, named):
    daemon = start_daemon(relays=named("a", "b", "c"), routes={"user@one.test": "a", "two.test": "a", ".three.test": "b", "*": "c"})
    accepted = ("user@one.test", "other@one.test", "x@two.test", "x@sub.three.test", "x@a.b.three.test")
    refused = ("x@three.test", "x@sub.two.test", "x@sub.one.test", "x@elsewhere.test", "x@xtwo.test", "x@test", "x@three.test.evil.test")
    for recipient in accepted:
        assert ask(daemon, recipient) == 250, recipient
    for recipient in refused:
        assert ask(daemon, recipient) == "550 5.7.1", recipient


def test_domains_narrow_what_routes_say(start_daemon, named):
    daemon = start_daemon(relays=named("a"), routes={"one.test": "a", "two.test": "a", "*": "a"}, domains=["one.test", ".sub.test"])
    assert ask(daemon, "x@one.test", "x@two.test", "x@a.sub.test", "x@sub.test") == ["250 2.1.5", "550 5.7.1", "250 2.1.5", "550 5.7.1"]


def test_a_domain_without_a_route_is_refused(start_daemon, named):
    daemon = start_daemon(relays=named("a"), routes={"user@one.test": "a"}, domains=["one.test", "two.test"])
    assert ask(daemon, "user@one.test", "other@one.test", "x@two.test") == ["250 2.1.5", "550 5.7.1", "550 5.7.1"]


@pytest.mark.parametrize("recipient, expected", [
    ("<@relay.test,@other.test:user@example.com>", "250 2.1.5"), ("<@relay.test:x@elsewhere.test>", "550 5.7.1"),
    ("<user%elsewhere.test@example.com>", "550 5.7.1"), ("<elsewhere.test!user@example.com>", "550 5.7.1"),
    ("<user@elsewhere.test@example.com>", "550 5.7.1"), ('<"user@elsewhere.test"@example.com>', "550 5.7.1"),
    ('<"user%elsewhere.test"@example.com>', "550 5.7.1"), ('<"a!b"@example.com>', "550 5.7.1"),
    ('<"quiet name"@example.com>', "250 2.1.5"), ("<user@[127.0.0.1]>", "550 5.7.1"), ("<user@[192.0.2.1]>", "250 2.1.5"),
    ("<user@EXAMPLE.com.>", None), ("<user>", "5"), ("<@example.com>", "5"), ("<user@>", "5"), ("<us er@example.com>", "5"),
    ("<user@example..com>", "5"), ("<user@exam_ple.com>", "5"), ("<user@xn--exmple-cua.com>", "550 5.7.1"),
    ("<user@example.com\u200b>", "553 5.6.7"), ("<Postmaster>", "250 2.1.5"), ("<postmaster>", "250 2.1.5"),
])
def test_routing_tricks(tricky, recipient, expected):
    with tricky.client() as client:
        client.mail()
        answer = client.cmd(f"RCPT TO:{recipient}")
        if expected is None:
            assert answer.code in (250, 501, 550, 553)
        else:
            assert answer.lines[0].startswith(expected), answer
        assert client.cmd("NOOP") == 250


@pytest.fixture(scope="module")
def tricky():
    with ScriptedUpstream("local.test") as local:
        with Daemon(relays={"local": {"next-hop": local.next_hop}},
                    routes={"example.com": "local", "user@[192.0.2.1]": "local", "postmaster@mx.splitmx.test": "local"}) as daemon:
            yield daemon


def test_postmaster_without_a_domain_goes_to_local_else_nowhere(start_daemon, named):
    both = start_daemon(relays=named("local", "other"), routes={"postmaster@mx.splitmx.test": "other", "example.com": "local"})
    local = start_daemon(relays=named("local", "other"), routes={"example.com": "other"})
    none = start_daemon(relays=named("other"), routes={"example.com": "other"})
    assert ask(both, "postmaster").text == "2.1.5 other"
    assert ask(local, "PostMaster").text == "2.1.5 local"
    assert ask(none, "postmaster") == 550


def test_the_recipient_the_upstream_is_asked_for(start_daemon, start_upstream):
    upstream = start_upstream()
    daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}}, routes={"example.com": "local"})
    ask(daemon, "@a.test,@b.test:User+Ext@Example.com", '"quiet name"@example.com', "postmaster")
    upstream.await_command("RCPT", 3)
    asked = [l for l in upstream.commands() if l.startswith(b"RCPT")]
    assert asked[0] == b"RCPT TO:<User+Ext@Example.com>"
    assert asked[1] == b'RCPT TO:<"quiet name"@example.com>'


# Next hops by name


def test_a_bracketed_name_is_looked_up_as_a_host(start_daemon, start_upstream, dns):
    upstream = start_upstream()
    dns.add("king.test", "A", "127.0.0.1")
    dns.add("king.test", "MX", (10, "wrong.test"))
    daemon = start_daemon(routes={"example.com": f"smtp:[king.test]:{upstream.port}"})
    assert daemon.send(message(), "user@example.com") == 250
    upstream.only_message()
    assert ("king.test", 15) not in dns.queries, "brackets mean: no MX lookup"


def test_every_address_of_a_name_is_tried(start_daemon, start_upstream, dns):
    upstream = start_upstream()
    dns.add("king.test", "A", "127.0.0.9")  # nobody listens there
    dns.add("king.test", "A", "127.0.0.1")
    dns.add("king.test", "AAAA", "::1")
    daemon = start_daemon(routes={"example.com": f"smtp:[king.test]:{upstream.port}"})
    for _ in range(3):
        assert daemon.send(message(), "user@example.com") == 250


@pytest.mark.parametrize("trouble, expected", [("fail", "451 4.4.3"), (None, "451")])
def test_a_name_that_cannot_be_resolved_is_451(start_daemon, start_upstream, dns, trouble, expected):
    if trouble:
        getattr(dns, trouble)("king.test")
    local = start_upstream()
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}},
                          routes={"king@example.com": "smtp:[king.test]:2525", "example.com": "local"})
    king, user = ask(daemon, "king@example.com", "user@example.com")
    assert king.lines[0].startswith(expected), king
    assert user == 250


# Loops


def test_a_next_hop_that_turns_out_to_be_splitmx_itself_is_451_4_4_6(start_daemon):
    daemon = start_daemon(relays={"local": {"next-hop": "smtp:[localhost]:1"}})
    daemon.write_config(relays={"local": {"next-hop": f"smtp:[localhost]:{daemon.port}", "identity": "none"}})
    assert daemon.reload().status == 0  # only the name's address tells
    with daemon.client() as client:
        client.mail()
        assert client.rcpt("user@example.com") == "451 4.4.6"
