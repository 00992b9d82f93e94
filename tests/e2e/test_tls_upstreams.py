"""TLS towards upstreams that strip it, break it off, or are not who they say (design: sections 3, 5 and 6; faults 4 and 16)."""

import socket
import ssl
import threading
import time

import pytest

from splitmx_test.client import stuff
from splitmx_test.messages import assert_relayed, message
from splitmx_test.tls import library, send_clear, ticket
from splitmx_test.upstream import EXTENSIONS, assert_no_copy, call, close, early, pause, raw, reply, reset, silence, slow, stall
from splitmx_test.waiting import poll

LOCAL, KING = "user@example.com", "kingmail@example.com"
STRICT = ["encrypt", "verify"]


class Town:
    def __init__(self, daemon, king, local):
        self.daemon, self.king, self.local = daemon, king, local

    def ask(self, recipient=KING):
        with self.daemon.client() as client:
            client.mail()
            return client.rcpt(recipient)

    def send(self, *recipients):
        sent = message()
        answer = self.daemon.send(sent, *(recipients or [KING]))
        assert answer == 250, answer
        return sent

    def within_reach(self, file):
        """A copy beside the configuration, where a daemon that is confined can read it."""
        return str(self.daemon.folder.write("authority.pem", file.read_bytes()))


@pytest.fixture(scope="session")
def king_certificate(ca):
    return ca.issue("king.test")


@pytest.fixture
def town(start_daemon, start_upstream, start_tls_upstream, ca, king_certificate):
    """town("verify"): king takes TLS, local is in clear; one worker, so that it is known which pool is asked."""

    def start(tls, certificate=king_certificate, upstream=None, relay=None, **settings):
        king = start_tls_upstream("king.test", certificate, **(upstream or {}))
        local = start_upstream("local.test")
        relays = {"king": {"next-hop": king.next_hop, "tls": tls, "tls-name": "king.test", "ca-file": str(ca.file), **(relay or {})},
                  "local": {"next-hop": local.next_hop}}
        if tls not in ("verify",):
            relays["king"].pop("ca-file")
        return Town(start_daemon(workers=1, relays=relays, routes={KING: "king", "example.com": "local"}, **settings), king, local)

    return start


def assert_nothing_in_clear(upstream):
    words = {line.split(b" ")[0].upper() for line in upstream.clear_words()}
    assert words <= {b"EHLO", b"HELO", b"STARTTLS", b"QUIT"}, words
    upstream.assert_has_nothing()


# Stripped


STRIPPED = {"not offered": None, "454": reply("454 4.7.0 TLS not available"), "502": reply("502 5.5.1 what"), "530": reply("530 5.7.0 no")}


@pytest.mark.parametrize("how", STRIPPED)
@pytest.mark.parametrize("tls", ["may", "none", *STRICT])
def test_a_starttls_that_is_taken_away(town, tls, how):
    town = town(tls)
    if STRIPPED[how]:
        town.king.on("starttls", STRIPPED[how])
    else:
        town.king.use(None)
    if tls in STRICT:
        assert town.ask() == "451 4.7.5"
        assert_nothing_in_clear(town.king)
        return
    sent = town.send()
    assert_relayed(town.king.only_message().data, sent)
    assert len(town.king.connections) == 1
    assert (b"STARTTLS" in town.king.commands()) is (tls == "may" and STRIPPED[how] is not None)


@pytest.mark.parametrize("tls", ["may", *STRICT])
def test_421_to_starttls_is_absence(town, tls):
    town = town(tls)
    town.king.on("starttls", reply("421 4.3.2 going down"), close())
    assert town.ask().lines[0].startswith(("451 4.4.1", "451 4.7.5"))
    assert_nothing_in_clear(town.king)


@pytest.mark.parametrize("tls", ["may", *STRICT])
def test_a_server_that_knows_helo_only(town, tls):
    town = town(tls)
    town.king.on("ehlo", reply("502 5.5.1 what"))
    if tls == "may":
        town.send()
    else:
        assert town.ask() == "451 4.7.5"
        assert_nothing_in_clear(town.king)


def test_none_means_none(town):
    town = town("none")
    town.send()
    assert town.king.only_message().connection.tls is None


# Injected


@pytest.mark.parametrize("tls", ["may", *STRICT])
@pytest.mark.parametrize("behind", [b"250 injected\r\n", b"x", b"\r\n", b"220 2.0.0 Ready\r\n"])
def test_bytes_behind_the_220_end_the_leg(town, tls, behind):
    """CVE-2021-38371."""
    town = town(tls)
    town.king.on("starttls", raw(b"220 2.0.0 Ready\r\n" + behind), silence())
    if tls == "may":  # a handshake that fails: once more, on another connection
        town.send()
        assert town.king.only_message().connection is town.king.connections[1]
    else:
        assert town.ask() == "451 4.7.5"
        assert_nothing_in_clear(town.king)
    first = town.king.connections[0]
    town.king.wait_for(lambda: first.ended, "its end")
    assert first.ended == "rst" and first.verbs() == ["EHLO", "STARTTLS"]


@pytest.mark.parametrize("tls", STRICT)
def test_bytes_in_a_later_segment_are_no_handshake(town, tls):
    town = town(tls)
    town.king.on("starttls", raw(b"220 2.0.0 Ready\r\n"), pause(0.1), early(b"250 injected\r\n"), silence())
    assert town.ask() == "451 4.7.5"
    assert_nothing_in_clear(town.king)


# Handshakes that fail


def only_old_versions(king, certificate):
    king.use(certificate)
    king.context.set_ciphers("ALL:@SECLEVEL=0")
    king.context.minimum_version = ssl.TLSVersion.TLSv1
    king.context.maximum_version = ssl.TLSVersion.TLSv1_1


FAILED = {
    "fin": lambda king, _: king.on("handshake", close()),
    "rst": lambda king, _: king.on("handshake", reset()),
    "garbage": lambda king, _: king.on("handshake", call(lambda c: c.sock.recv(10) and None), raw(b"what is this\r\n" * 5), silence()),
    "silent": lambda king, _: king.on("handshake", silence()),
    "old": only_old_versions,
}


@pytest.mark.filterwarnings("ignore:.*TLSv1.* is deprecated")
@pytest.mark.parametrize("how", FAILED)
@pytest.mark.parametrize("tls", ["may", *STRICT])
def test_a_handshake_that_fails(town, tls, how, king_certificate):
    """With may once more, on a new connection, in clear; else not at all."""
    town = town(tls, timeouts={"greeting": "500ms"})
    FAILED[how](town.king, king_certificate)
    if tls == "may":
        town.send()
        assert len(town.king.connections) == 2
        assert b"STARTTLS" not in town.king.connections[1].commands
        assert town.king.only_message().connection is town.king.connections[1]
    else:
        assert town.ask() == "451 4.7.5"
        assert_nothing_in_clear(town.king)
        assert len(town.king.connections) == 1


@pytest.mark.parametrize("greeting, answer", [("421 4.3.2 busy", "451 4.4.1"), ("554 5.3.2 no", "451 4.3.0")])
def test_the_second_time_in_clear_is_an_attempt_like_any(town, greeting, answer):
    town = town("may")
    town.king.on("handshake", close())
    town.king.on("greeting", reply(greeting), after=1)
    assert town.ask() == answer
    assert len(town.king.connections) == 2


# Who it is


def certificates(ca, stranger):
    return {
        "good": ca.issue("king.test"), "several": ca.issue("a.test", "king.test"),
        "wrong name": ca.issue("queen.test"), "below": ca.issue("mx.king.test"), "expired": ca.issue("king.test", days=-1),
        "self-signed": ca.self_signed("king.test"), "unknown authority": stranger.issue("king.test"),
    }


WHO = ["good", "several", "wrong name", "below", "expired", "self-signed", "unknown authority"]
GOOD = ["good", "several"]


@pytest.fixture(scope="session")
def various(ca, stranger):
    return certificates(ca, stranger)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tls", ["may", *STRICT])
def test_whose_certificate_is_good_enough(town, various, tls, who):
    town = town(tls, certificate=various[who])
    if tls != "verify" or who in GOOD:
        sent = town.send()
        assert_relayed(town.king.only_message().data, sent)
        assert town.king.only_message().connection.tls == "TLSv1.3"
        assert town.king.only_message().connection.sni == "king.test"
        return
    answer = town.ask()
    assert answer == "451 4.7.5"
    town.daemon.await_log("certificate")
    assert_nothing_in_clear(town.king)
    assert not any(line.startswith(b"MAIL") for line in town.king.commands())


def test_the_name_is_that_of_the_bracketed_host(town, dns, king_certificate, various):
    dns.add("king.test", "A", "127.0.0.1")
    there = town("verify", timeouts={"pool-idle": "0s"})
    port = there.king.port
    there.daemon.write_config(relays={"king": {"next-hop": f"smtp:[king.test]:{port}", "tls": "verify", "identity": "none",
                                               "ca-file": there.daemon.settings["relays"]["king"]["ca-file"]},
                                      "local": there.daemon.settings["relays"]["local"]})
    assert there.daemon.reload().status == 0
    there.send()
    assert there.king.only_message().connection.sni == "king.test"
    there.king.use(various["wrong name"])
    assert there.ask() == "451 4.7.5"


def test_a_literal_address_is_verified_as_an_address(town, ca):
    there = town("verify", certificate=ca.issue("127.0.0.1", "king.test"), relay={"tls-name": "127.0.0.1"}, timeouts={"pool-idle": "0s"})
    there.send()
    assert there.king.only_message().connection.sni is None  # RFC 6066 3: no literal addresses
    there.king.use(ca.issue("127.0.0.2", "king.test"))
    assert there.ask() == "451 4.7.5"


def test_a_server_that_asks_for_a_certificate_gets_none_and_the_mail(town, king_certificate):
    there = town("verify")
    there.king.use(king_certificate, verify_mode=ssl.CERT_OPTIONAL)
    there.send()


# What is offered in TLS counts


def test_what_was_offered_in_clear_is_forgotten(town):
    there = town("may", upstream={"extensions": EXTENSIONS, "secure_extensions": ()})
    with there.daemon.client() as client:
        client.mail(parameters="SIZE=1000 BODY=8BITMIME")
        assert client.rcpt(KING) == 250
    assert there.king.await_command("MAIL") == b"MAIL FROM:<sender@client.test>"


def test_what_is_offered_in_tls_only_is_used(town):
    there = town("may", upstream={"extensions": (), "secure_extensions": EXTENSIONS})
    with there.daemon.client() as client:
        client.mail(parameters="SIZE=1000 BODY=8BITMIME")
        assert client.rcpt(KING) == 250
    assert there.king.await_command("MAIL").endswith(b" SIZE=1000 BODY=8BITMIME")


@pytest.mark.parametrize("in_clear, in_tls", [(EXTENSIONS, ()), ((), EXTENSIONS)])
def test_pipelining_is_used_where_it_is_offered_in_tls(town, in_clear, in_tls):
    """A MAIL that is refused shows it: RCPT is with it already, or never comes."""
    there = town("encrypt", upstream={"extensions": in_clear, "secure_extensions": in_tls})
    there.king.on("mail", reply("550 5.7.1 not from you"))
    assert there.ask() == "550 5.7.1"
    assert there.king.connections[0].verbs() == ["EHLO", "STARTTLS", "EHLO", "MAIL", *(["RCPT"] if in_tls else [])]


def test_where_tls_knows_helo_only_nothing_is_left_of_what_was_offered_in_clear(town):
    there = town("verify")
    there.king.on("ehlo", reply("502 5.5.1 what"), when=lambda step: step.connection.tls)
    with there.daemon.client() as client:
        client.mail(parameters="SIZE=1000 BODY=8BITMIME")
        assert client.rcpt(KING) == 250
        assert there.king.connections[0].commands[2:] == [
            b"EHLO mx.splitmx.test", b"HELO mx.splitmx.test", b"MAIL FROM:<sender@client.test>", b"RCPT TO:<kingmail@example.com>"]


def test_starttls_that_is_offered_again_is_not_said_again(town):
    there = town("verify", upstream={"secure_extensions": (*EXTENSIONS, "STARTTLS")})
    there.send()
    assert there.king.connections[0].verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest.mark.parametrize("tls", STRICT)
@pytest.mark.parametrize("answer", ["250 2.0.0 Ok", "334 go on", "220-never ends", "2"])
def test_another_answer_to_starttls_is_no_reason_to_go_on_in_clear(town, tls, answer):
    town = town(tls, timeouts={"greeting": "500ms"})
    town.king.on("starttls", reply(answer), silence())
    assert town.ask().code == 451
    assert_nothing_in_clear(town.king)


# Tickets, and words that nobody asked for


def signal_after(event):
    return call(lambda _: event.set())


@pytest.mark.parametrize("stage", ["ehlo", "mail", "rcpt", "data", "body", "eod", "rset"])
@pytest.mark.parametrize("before", [True, False])
def test_a_ticket_is_no_word(town, stage, before):
    """Before a reply that is owed, and after it, when nothing is."""
    there = town("verify")
    said = threading.Event()
    if stage == "body":
        there.king.on("body", *([ticket()] * (1 if before else 5)), signal_after(said), at=20)
    elif stage == "rset" and before:
        there.king.on("rset", ticket())
        there.king.on("after-rset", signal_after(said))
    else:
        there.king.on(stage if before else f"after-{stage}", *([] if before else [pause(0.05)]), ticket(), signal_after(said),
                      when=lambda step: step.connection.tls)
    sent = message()
    with there.daemon.client() as client:
        if stage == "rset":
            client.mail()
            assert client.rcpt(KING) == 250
            assert client.cmd("RSET") == 250
            assert said.wait(10)
            assert client.cmd("NOOP") == 250  # the upstream's answer has come, and is read by then
        client.mail()
        assert client.rcpt(KING) == 250
        if stage == "rcpt":
            assert said.wait(10)
        assert client.data() == 354
        client.send(stuff(sent))
        if stage in ("data", "body"):
            assert said.wait(10)
        client.send(b".\r\n")
        assert client.reply() == 250
        assert said.wait(10)
        assert client.send_mail(sent, KING) == 250
    assert len(there.king.connections) == 1, "the connection was in order all the time"
    for there_is in there.king.await_messages(2):
        assert_relayed(there_is.data, sent)


def test_a_ticket_while_the_connection_is_idle_keeps_it(town):
    there = town("encrypt")
    said = threading.Event()
    there.king.on("eod", reply("250 2.0.0 Ok"), pause(0.1), ticket(), ticket(), signal_after(said), times=1)
    there.send()
    assert said.wait(10)
    there.send()
    assert len(there.king.connections) == 1


@pytest.mark.parametrize("words", [early(b"250 2.0.0 Ok: queued\r\n"), early(b"x"), send_clear(b"250 2.0.0 Ok: queued\r\n"),
                                   call(lambda c: library.update_key(c.sock._sslobj) and None)],
                         ids=["a reply", "a letter", "in clear", "new keys"])
def test_an_early_250_in_tls_is_no_acceptance(town, words, request):
    there = town("verify")
    said = threading.Event()
    there.king.on("body", words, signal_after(said), at=20)
    with there.daemon.client() as client:
        client.begin(KING, LOCAL)
        client.send(stuff(message(size=2000)))
        assert said.wait(10)
        assert client.silent_for(0.1)  # the early word is on its way
        client.send(b".\r\n")
        if "new keys" in request.node.name:  # says nothing, and changes nothing
            assert client.reply() == 250
            return
        assert client.reply() == 451
    there.king.assert_has_nothing()
    there.local.assert_has_nothing()


def unwrap(connection):
    """Our close_notify, and the wait for the other's."""
    try:
        connection.sock.unwrap()
    except OSError:
        pass


@pytest.mark.parametrize("words", [early(b"421 4.4.2 idle\r\n"), early(b"250 Ok\r\n"), close(), reset(), send_clear(b"421 4.4.2 idle\r\n"),
                                   call(unwrap)],
                         ids=["421", "250", "fin", "rst", "clear", "close_notify"])
def test_what_comes_while_a_connection_is_idle_ends_it(town, words):
    there = town("verify")
    there.king.on("eod", reply("250 2.0.0 Ok"), pause(0.05), words, times=1)
    first = there.send()
    there.king.await_all_ended()
    second = there.send()
    assert_relayed(there.king.messages[0].data, first)
    assert_relayed(there.king.await_messages(2)[1].data, second)
    assert len(there.king.connections) == 2


@pytest.mark.parametrize("tls", ["none", "may", "verify"])
@pytest.mark.parametrize("stage", ["greeting", "ehlo"])
def test_a_surplus_reply_before_the_first_transaction_does_not_shift_the_answers(town, tls, stage):
    there = town(tls)
    polite = {"greeting": b"220 king.test ESMTP\r\n", "ehlo": b"250 king.test\r\n"}[stage]
    there.king.on(stage, raw(polite + b"250 surplus\r\n"), when=lambda step: stage != "ehlo" or tls == "none" or step.connection.tls)
    there.king.on("rcpt", reply("550 5.1.1 unknown"))
    assert there.ask() == 451


def test_an_upstream_that_wants_new_keys_again_and_again_is_left(town):
    there = town("verify")

    def flood(connection):
        for _ in range(5000):
            try:
                library.update_key(connection.sock._sslobj)
                connection.sock.do_handshake()
            except OSError:
                return

    there.king.on("body", call(flood), at=20)
    with there.daemon.client() as client:
        client.begin(KING)
        client.send(stuff(message(size=2000)) + b".\r\n")
        assert client.reply() == "451 4.4.2"
    there.king.assert_has_nothing()


def test_a_renegotiating_upstream_changes_nothing(town, king_certificate):
    there = town("verify")
    there.king.use(king_certificate, maximum_version=ssl.TLSVersion.TLSv1_2)

    def again(connection):
        try:
            library.renegotiate(connection.sock._sslobj)
            connection.sock.do_handshake()
        except OSError:
            pass  # refused

    there.king.on("rcpt", call(again))
    with there.daemon.client() as client:
        client.mail()
        assert client.rcpt(KING).code in (250, 451)
    assert there.ask(LOCAL) == 250


# Lost


@pytest.mark.parametrize("how", [reset(), close()], ids=["rst", "fin"])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_connection_in_tls_that_is_lost_before_354_is_replayed_in_tls(town, stage, how):
    there = town("verify")
    there.king.on(stage, how, times=1)
    sent = there.send()
    assert_relayed(there.king.only_message().data, sent)
    assert [c.tls for c in there.king.connections] == ["TLSv1.3"] * 2


@pytest.mark.parametrize("how", [reset(), close(), silence()], ids=["rst", "fin", "silence"])
@pytest.mark.parametrize("stage, answer", [("starttls", "451 4.4.1"), ("secure", "451 4.4.1"), ("body", "451 4.4.2"), ("eod", "451 4.4.2")])
def test_a_connection_that_is_lost_otherwise(town, stage, answer, how):
    there = town("encrypt", timeouts={"greeting": "500ms", "data": "1s", "end_of_data": "61s"})
    there.king.on(stage, how, **({"at": 20} if stage == "body" else {}))
    if stage == "eod" and how.__qualname__.startswith("silence"):
        return  # as in clear: a matter of the minutes that end-of-data has
    if stage == "body" and how.__qualname__.startswith("silence"):
        return  # takes all, and says nothing: nothing is due
    with there.daemon.client() as client:
        client.mail()
        said = client.rcpt(KING)
        if stage in ("body", "eod"):
            assert said == 250
            assert client.data() == 354
            said = client.body(message(size=200_000))
        assert said == answer or said == "451 4.7.5", said
    assert there.king.messages == []


def test_an_upstream_in_tls_that_stops_reading_is_given_its_time(town):
    there = town("encrypt", timeouts={"data": "1s"})
    there.king.on("body", stall(), at=20)
    wire = stuff(message(size=24 * 1024 * 1024)) + b".\r\n"
    with there.daemon.client(timeout=30) as client:
        client.begin(KING, LOCAL)
        began = time.monotonic()
        client.send(wire)
        assert client.reply() == "451 4.4.2"
        assert time.monotonic() - began < 15
    there.local.await_incomplete()
    there.local.assert_has_nothing()
    there.king.assert_has_nothing()


def test_a_slow_upstream_in_tls_is_not_taken_for_a_dead_one(town):
    there = town("encrypt", timeouts={"data": "1s"})
    there.king.on("data", slow(150_000))
    sent = message(size=400_000)
    with there.daemon.client(timeout=60) as client:
        client.begin(KING, LOCAL)
        assert client.body(sent) == 250
    assert_relayed(there.king.only_message().data, sent)


def test_a_handshake_in_many_pieces(town, king_certificate):
    """The server's words come a byte at a time."""
    there = town("verify")

    def through_a_funnel(connection):
        inner, outer = socket.socketpair()
        real, connection.sock = connection.sock, inner
        threading.Thread(target=funnel, args=(outer, real, 1), daemon=True).start()
        threading.Thread(target=funnel, args=(real, outer, 65536), daemon=True).start()

    there.king.on("handshake", call(through_a_funnel))
    sent = there.send()
    assert_relayed(there.king.only_message().data, sent)


def funnel(source, drain, most):
    try:
        while True:
            octets = source.recv(most)
            if not octets:
                drain.shutdown(socket.SHUT_WR)
                return
            drain.sendall(octets)
    except OSError:
        pass


@pytest.mark.parametrize("count", [0, 50])
def test_no_tickets_and_very_many(town, king_certificate, count):
    there = town("verify", timeouts={"pool_idle": "0s"})
    there.king.use(king_certificate, num_tickets=count)
    for _ in range(3):
        there.send()
    assert [c.resumed for c in there.king.connections] == [False, count > 0, count > 0]


# Split over TLS and clear


def test_both_legs_get_the_same_bytes_and_neither_its_end_early(town):
    there = town("verify")
    sent = message(size=700_000)
    with there.daemon.client() as client:
        client.begin(KING, LOCAL)
        wire = stuff(sent)
        client.send(wire)
        for upstream in (there.king, there.local):
            assert not upstream.await_body(len(wire)).complete
        there.king.assert_has_nothing()
        there.local.assert_has_nothing()
        client.send(b".\r\n")
        assert client.reply() == 250
    assert_relayed(there.king.only_message().data, sent)
    assert_relayed(there.local.only_message().data, sent)


@pytest.mark.parametrize("lost", ["king", "local"])
@pytest.mark.parametrize("how", [reset(), close()], ids=["rst", "fin"])
@pytest.mark.parametrize("at", [20, 400_000])
def test_one_lost_in_mid_body_is_no_copy_at_the_other(town, lost, how, at):
    there = town("verify")
    getattr(there, lost).on("body", how, at=at)
    with there.daemon.client() as client:
        client.begin(KING, LOCAL)
        client.send(stuff(message(size=900_000)) + b".\r\n")
        assert client.reply() == "451 4.4.2"
    assert_no_copy(there.king, there.local)


def test_a_client_lost_in_mid_body_is_no_copy_in_tls(town):
    there = town("verify")
    client = there.daemon.client().begin(KING, LOCAL)
    client.send(stuff(message(size=50_000)))
    there.king.await_body(1000)
    client.reset()
    assert_no_copy(there.king, there.local)
    assert [c.ended for c in there.king.connections] == ["rst"]


# Kept connections and kept sessions


def test_a_connection_in_tls_is_used_again(town):
    there = town("verify")
    for _ in range(10):
        there.send()
    assert len(there.king.connections) == 1
    assert there.king.connections[0].verbs().count("EHLO") == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_goes_on_in_the_next_connection(town, king_certificate, version):
    there = town("verify", timeouts={"pool_idle": "0s"})
    there.king.use(king_certificate, maximum_version=version)
    for _ in range(4):
        there.send()
    assert [c.resumed for c in there.king.connections] == [False, True, True, True]


def test_a_session_does_not_go_on_under_another_trust(town, stranger):
    there = town("verify", timeouts={"pool_idle": "0s"})
    there.send()
    there.send()
    relays = there.daemon.settings["relays"]
    relays["king"]["ca-file"] = there.within_reach(stranger.file)
    there.daemon.write_config(relays=relays)
    assert there.daemon.reload().status == 0
    assert there.ask() == "451 4.7.5"
    assert not there.king.connections[-1].resumed


def test_a_session_made_without_verification_is_no_proof(town, ca, stranger):
    """encrypt took a stranger's; verify must not take that session."""
    there = town("encrypt", certificate=stranger.issue("king.test"), timeouts={"pool_idle": "0s"})
    there.send()
    relays = there.daemon.settings["relays"]
    relays["king"].update({"tls": "verify", "ca-file": there.within_reach(ca.file)})
    there.daemon.write_config(relays=relays)
    assert there.daemon.reload().status == 0
    assert there.ask() == "451 4.7.5"


def test_a_kept_connection_does_not_outlive_its_trust(town, stranger):
    there = town("verify")
    there.send()
    relays = there.daemon.settings["relays"]
    relays["king"]["ca-file"] = there.within_reach(stranger.file)
    there.daemon.write_config(relays=relays)
    assert there.daemon.reload().status == 0
    assert there.ask() == "451 4.7.5"
    there.king.wait_for(lambda: there.king.connections[0].ended, "the end of the old connection")


def test_a_ca_file_that_changes_in_place_is_read_again(town, ca, stranger, tmp_path):
    there = town("verify")
    own = there.daemon.folder.write("ca.pem", ca.file.read_bytes())
    relays = there.daemon.settings["relays"]
    relays["king"]["ca-file"] = str(own)
    there.daemon.write_config(relays=relays)
    assert there.daemon.reload().status == 0
    there.send()
    there.daemon.folder.write("ca.pem", stranger.file.read_bytes())
    assert there.daemon.reload().status == 0
    assert there.ask() == "451 4.7.5"
    there.daemon.folder.write("ca.pem", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    result = there.daemon.reload()
    assert result.status == 1 and "ca.pem" in result.err
    there.daemon.folder.write("ca.pem", stranger.file.read_bytes() + ca.file.read_bytes())
    assert there.daemon.reload().status == 0
    there.send()


def test_two_names_at_one_address_share_no_connection(start_daemon, start_tls_upstream, ca, king_certificate):
    """What was verified for one is not verified for the other."""
    king = start_tls_upstream("king.test", king_certificate)
    verified = {"next-hop": king.next_hop, "tls": "verify", "ca-file": str(ca.file)}
    daemon = start_daemon(workers=1, routes={KING: "king", LOCAL: "queen"},
                          relays={"king": {**verified, "tls-name": "king.test"}, "queen": {**verified, "tls-name": "queen.test"}})
    assert daemon.send(message(), KING) == 250
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == "451 4.7.5"
        assert client.rcpt(KING) == 250
    assert len(king.connections) == 2


def test_a_fallback_is_taken_for_the_sake_of_tls(start_daemon, start_upstream, start_tls_upstream, ca, stranger):
    """A relay whose TLS cannot be had is unavailable (section 6)."""
    king = start_tls_upstream("king.test", stranger.issue("king.test"))
    other = start_upstream("other.test")
    daemon = start_daemon(
        routes={"example.com": "king"},
        relays={"king": {"next-hop": king.next_hop, "tls": "verify", "tls-name": "king.test", "ca-file": str(ca.file), "fallback": "other"},
                "other": {"next-hop": other.next_hop}})
    assert daemon.send(message(), KING) == 250
    assert b"(splitmx fallback)" in other.only_message().data
    assert_nothing_in_clear(king)


@pytest.mark.parametrize("end", [call(unwrap), close(), reset()], ids=["close_notify", "fin", "rst"])
def test_an_acceptance_counts_whatever_comes_behind_it(town, end):
    there = town("verify")
    there.king.on("after-eod", end)
    for _ in range(3):
        there.send()
    assert len(there.king.await_messages(3)) == 3


def test_in_clear_again_and_again_with_one_place(town):
    """What lies idle from the second attempt keeps nobody waiting."""
    there = town("may", relay={"max-connections": 1})
    there.king.on("handshake", call(lambda c: c.sock.recv(10) and None), reset())
    began = time.monotonic()
    for _ in range(20):
        there.send()
    assert time.monotonic() - began < 5
    with there.king.board:
        assert sum(c.ended is None for c in there.king.connections) <= 1


def test_behind_a_proxy_header_too(town):
    there = town("verify", relay={"identity": "proxy"})
    there.king.on("connect", call(lambda connection: connection._line() and None))
    there.send()
    assert there.king.connections[0].verbs()[:5] == ["PROXY", "EHLO", "STARTTLS", "EHLO", "MAIL"]
    assert there.king.connections[0].commands[3] == b"EHLO client.test"


def test_several_hops_each_by_its_own_merits(start_daemon, start_tls_upstream, ca, stranger, various):
    """Whose certificate does not hold is passed over; nobody is spoken to in clear."""
    kings = [start_tls_upstream(f"king{n}.test", certificate)
             for n, certificate in enumerate([various["expired"], stranger.issue("king.test"), None, various["good"]])]
    hops = ", ".join(f"[127.0.0.1]:{king.port}" for king in kings)
    daemon = start_daemon(routes={KING: "king"},
                          relays={"king": {"next-hop": f"smtp:{hops}", "tls": "verify", "tls-name": "king.test", "ca-file": str(ca.file)}})
    assert daemon.send(message(), KING) == 250
    kings[3].only_message()
    for king in kings[:3]:
        assert len(king.connections) == 1
        assert_nothing_in_clear(king)


def test_probes_clear_an_endpoint_that_fails_in_tls_only(town, various):
    """It is there, after all: mail is deferred for the certificate's sake, and goes as soon as that is mended."""
    there = town("verify", certificate=various["expired"])
    for _ in range(6):
        assert there.ask() == "451 4.7.5"
    there.king.use(various["good"])
    poll(lambda: there.ask() == 250, "the first mail", timeout=10)


def test_nothing_is_left_behind(town):
    there = town("may", timeouts={"pool_idle": "100ms"})
    there.send()
    poll(lambda: all(c.ended for c in there.king.connections), "the end of the connection")
    before = there.daemon.descriptors()
    there.king.on("handshake", call(lambda c: c.sock.recv(10) and None), reset(), times=20)
    for _ in range(20):
        there.send()
    poll(lambda: there.daemon.descriptors() <= before, "all descriptors back")
