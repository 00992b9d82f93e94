"""Look-alikes of the end of data, cut anywhere: none ends a message here, and none reaches an upstream."""

import pytest

from splitmx_test.daemon import Daemon
from splitmx_test.messages import message
from splitmx_test.upstream import ScriptedUpstream

LOCAL, KING = "user@example.com", "kingmail@example.com"

LOOK_ALIKES = [
    b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\r.\r\n",
    b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\x00\r\n.\n", b"\r\n.\n\r\n", b"\n.\r", b"\r.\n",
]
SMUGGLED = (b"MAIL FROM:<smuggler@client.test>\r\nRCPT TO:<user@example.com>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nSMUGGLED\r\n")


@pytest.fixture(scope="module")
def lax():
    """An upstream that takes every look-alike for the end: what a smuggler hopes for."""
    with ScriptedUpstream("lax.test", lax=True) as local, ScriptedUpstream("lax2.test", lax=True) as king:
        with Daemon(relays={"local": {"next-hop": local.next_hop}, "kingmailer": {"next-hop": king.next_hop}},
                    routes={"user@example.com": "local", "kingmail@example.com": "kingmailer"}) as daemon:
            yield daemon, local, king


def refused(daemon, stream, cut, recipients=(LOCAL,)):
    """Sends the stream as a body in the given pieces, then the true end; the reply must refuse, and the session end."""
    with daemon.client() as client:
        client.begin(*recipients)
        try:
            for i in range(0, len(stream), cut):
                client.send(stream[i:i + cut])
            client.send(b"\r\n.\r\n")
        except OSError:
            pass
        answer = client.reply()
        assert answer == "550 5.5.2", answer
        how, rest = client.await_end()
        assert rest == b"", f"answered something behind the end: {rest!r}"
        assert how in ("fin", "rst")


@pytest.mark.parametrize("cut", [1, 2, 3, 1 << 20], ids=["1", "2", "3", "whole"])
@pytest.mark.parametrize("end", LOOK_ALIKES, ids=[repr(e)[2:-1] for e in LOOK_ALIKES])
def test_no_look_alike_ends_a_message(lax, end, cut):
    daemon, local, king = lax
    local.forget()
    king.forget()
    refused(daemon, message(b"before") + end + SMUGGLED, cut, (LOCAL, KING))
    for upstream in (local, king):
        upstream.await_incomplete()
        assert upstream.ended_bodies == [], "an upstream took a message"
        assert b"SMUGGLED" not in b"".join(m.wire for m in upstream.incomplete)
        assert b"smuggler" not in b"\n".join(upstream.commands())


@pytest.mark.parametrize("end", LOOK_ALIKES, ids=[repr(e)[2:-1] for e in LOOK_ALIKES])
def test_every_single_cut_gives_the_same(lax, end):
    daemon, local, _ = lax
    for at in range(len(end) + 1):
        local.forget()
        stream = b"Subject: x\r\n\r\nbefore" + end + SMUGGLED
        place = stream.index(end) + at
        with daemon.client() as client:
            client.begin(LOCAL)
            client.send(stream[:place])
            local.wait_for(lambda: local.incomplete or any(b"Subject: x" in c.arrived for c in local.connections),
                           "the first piece")  # so that the pieces come apart
            client.send(stream[place:] + b"\r\n.\r\n")
            assert client.reply() == "550 5.5.2"
            assert client.await_end()[1] == b""
        local.await_incomplete()
        assert local.ended_bodies == []


@pytest.mark.parametrize("bad", [b"\x00", b"a\rb", b"a\nb", b"\r\r\n", b"line\n"])
def test_bare_cr_bare_lf_and_nul_are_refused_and_nothing_behind_them_goes_upstream(lax, bad):
    daemon, local, _ = lax
    local.forget()
    refused(daemon, b"Subject: x\r\n\r\nclean\r\n" + bad + b"UNCLEAN\r\n" * 1000, 1 << 20)
    broken = local.await_incomplete()[0]
    assert b"UNCLEAN" not in broken.wire
    assert b"\x00" not in broken.wire and b"\n" not in broken.wire.replace(b"\r\n", b"") and b"\r" not in broken.wire.replace(b"\r\n", b"")
    assert local.ended_bodies == []


def test_a_body_that_ends_in_a_bare_cr_before_the_end_is_refused(lax):
    daemon, local, _ = lax
    local.forget()
    refused(daemon, b"Subject: x\r\n\r\ntext\r", 1 << 20)
    assert local.ended_bodies == []


def test_what_stands_behind_the_true_end_is_the_next_command(lax):
    daemon, local, _ = lax
    local.forget()
    with daemon.client() as client:
        client.begin(LOCAL)
        client.send(b"first\r\n.\r\nMAIL FROM:<next@client.test>\r\nRSET\r\n")
        assert [r.code for r in client.replies(3)] == [250, 250, 250]
    assert len(local.await_messages()) == 1
