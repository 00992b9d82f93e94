"""Proxies in front of us: who must send the header of the PROXY protocol, and who must not (design: sections 3 and 9)."""

import ipaddress
import struct
import time

import pytest

from splitmx_test.client import Client, Gone
from splitmx_test.daemon import await_quiet
from splitmx_test.messages import assert_relayed, message
from splitmx_test.tls import Cutter, TlsClient
from splitmx_test.waiting import poll

USER = "user@example.com"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR, SIX = "192.0.2.66", "2001:db8::66"
LISTED, UNLISTED = "127.0.0.2", "127.0.0.1"  # where a test's proxy comes from


def v1(source=FOUR, destination="192.0.2.1", ports=(40000, 25)):
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()


def v2(source=FOUR, destination="192.0.2.1", ports=(40000, 25), command=0x21, tlvs=b""):
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    body = packed + struct.pack(">HH", *ports) + tlvs
    return SIGNATURE + bytes([command, 0x21 if ":" in source else 0x11]) + struct.pack(">H", len(body)) + body


LOCAL1 = b"PROXY UNKNOWN\r\n"
LOCAL2 = SIGNATURE + b"\x20\0\0\0"
GOOD = {
    "v1": (v1(), FOUR), "v1 six": (v1(SIX, "2001:db8::1"), f"IPv6:{SIX}"), "v2": (v2(), FOUR), "v2 six": (v2(SIX, "2001:db8::1"), f"IPv6:{SIX}"),
    "v2 tlvs": (v2(tlvs=b"\x04\x00\x10" + bytes(16) + b"\x03\0\4abcd"), FOUR), "v1 local": (LOCAL1, LISTED), "v2 local": (LOCAL2, LISTED),
    "v2 local with a block": (v2(command=0x20), LISTED), "v1 unknown with more": (b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n", LISTED),
}
BAD = {
    "smtp": b"EHLO client.test\r\n", "http": b"GET / HTTP/1.1\r\n\r\n", "v1 lf": b"PROXY TCP4 192.0.2.66 192.0.2.1 1 25\n",
    "v1 address": b"PROXY TCP4 192.0.2.256 192.0.2.1 1 25\r\n", "v1 families": b"PROXY TCP4 2001:db8::1 192.0.2.1 1 25\r\n",
    "v1 port": b"PROXY TCP4 192.0.2.66 192.0.2.1 65536 25\r\n", "v1 too few": b"PROXY TCP4 192.0.2.66 192.0.2.1 1\r\n",
    "v1 spaces": b"PROXY  TCP4 192.0.2.66 192.0.2.1 1 25\r\n", "v1 endless": b"PROXY TCP4 " + b"1" * 200, "v1 small": b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "v2 version": SIGNATURE + b"\x11\x11\0\x0c" + bytes(12), "v2 command": SIGNATURE + b"\x22\x11\0\x0c" + bytes(12),
    "v2 short": SIGNATURE + b"\x21\x11\0\x04" + bytes(4), "v2 datagram": SIGNATURE + b"\x21\x12\0\x0c" + bytes(12),
    "v2 endless": SIGNATURE + b"\x21\x11\xff\xff" + bytes(5000), "tls": b"\x16\x03\x01\x00\x05" + bytes(5),
}


def put(client, octets, cut=None):
    piece = cut or len(octets) or 1
    for at in range(0, len(octets), piece):
        client.send(octets[at:at + piece])


class Town:
    def __init__(self, daemon, upstream):
        self.daemon, self.upstream = daemon, upstream

    def proxy(self, octets=b"", source=LISTED, hello=None, greet=False, cut=None, **keywords):
        """A connection through the proxy; what it says first."""
        client = TlsClient(self.daemon.where, hello=None, greet=False, source=source, **keywords)
        put(client, octets, cut)
        if greet:
            client.greeting = client.reply()
            client.cmd("EHLO client.test")
        return client


@pytest.fixture
def start(start_daemon, start_upstream, mx_certificate):
    def start(tls=None, networks=(f"{LISTED}/32",), **settings):
        upstream = start_upstream("local.test")
        daemon = start_daemon(start=False, relays={"local": {"next-hop": upstream.next_hop}}, routes={"example.com": "local"},
                              tls=mx_certificate.settings, **settings)
        daemon.write_config(listen=[{"address": f"127.0.0.1:{daemon.port}", "proxy-protocol": list(networks), **({"tls": tls} if tls else {})}])
        daemon.start()
        return Town(daemon, upstream)

    return start


def relayed_from(town, client):
    sent = message()
    assert client.send_mail(sent, USER) == 250
    return assert_relayed(town.upstream.messages[-1].data, sent)


@pytest.mark.parametrize("cut", [None, 1, 7])
@pytest.mark.parametrize("header, address", GOOD.values(), ids=GOOD)
def test_the_client_is_whom_the_header_names(start, header, address, cut):
    town = start()
    with town.proxy(header, cut=cut, greet=True) as client:
        assert client.greeting == 220
        assert f"[{address}])" in relayed_from(town, client)


@pytest.mark.parametrize("cut", [None, 1])
@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_what_is_no_header_is_answered_with_silence(start, octets, cut):
    town = start()
    client = town.proxy()
    try:
        put(client, octets, cut)
    except OSError:
        pass
    how, said = client.await_end(timeout=5)
    assert said == b"" and (cut or how == "rst")  # told to a send, perhaps
    town.daemon.await_log("event=session-refused")
    with town.proxy(v1(), greet=True) as other:
        assert other.cmd("NOOP") == 250


@pytest.mark.parametrize("header", [b"", v1()[:-1], v2()[:-1], SIGNATURE[:-1], v2(tlvs=bytes(3000))[:-1]])
def test_half_a_header_is_waited_for_in_silence_and_not_for_long(start, header):
    town = start(timeouts={"command": "500ms"})  # of this and ten seconds the lesser
    client = town.proxy(header)
    began = time.monotonic()
    how, said = client.await_end(timeout=5)
    assert said == b"" and 0.3 < time.monotonic() - began < 3
    town.daemon.await_log("waiting for the PROXY header")


def test_a_header_a_byte_now_and_then_has_the_same_time(start):
    town = start(timeouts={"command": "500ms"})
    client = town.proxy()
    began = time.monotonic()
    with pytest.raises((OSError, Gone)):
        for octet in v2(tlvs=bytes(4000)):
            client.send(bytes([octet]))
            time.sleep(0.02)  # the proxy's own pace
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("header", [v1(), v2(), LOCAL1])
def test_from_a_peer_that_is_not_listed_it_is_no_header(start, header):
    """It is greeted at once, and what it says is an early word or a bad command; never an address."""
    town = start()
    with town.proxy(source=UNLISTED) as client:
        assert client.reply() == 220
        client.send(header)
        assert client.reply().code in (500, 502, 554)
    with town.proxy(source=UNLISTED, greet=True) as client:
        assert f"[{UNLISTED}])" in relayed_from(town, client)


def test_a_second_header_is_a_command(start):
    town = start()
    with town.proxy(v1(), greet=True) as client:
        assert client.cmd("PROXY TCP4 192.0.2.99 192.0.2.1 1 25").code in (500, 502)
        assert f"[{FOUR}])" in relayed_from(town, client)


@pytest.mark.parametrize("header", [v1(), v2(), LOCAL1, LOCAL2])
def test_an_early_talker_behind_the_header(start, header):
    town = start()
    with town.proxy(header + b"EHLO client.test\r\n") as client:
        assert client.reply() == "554 5.5.1"
        assert client.await_end()[1] == b""


def test_without_the_key_nobody_is_believed(start_split):
    split = start_split()
    with Client(split.daemon.where, hello=None, source=LISTED) as client:
        assert client.greeting == 220
        assert client.cmd(v1()[:-2]).code in (500, 502)


@pytest.mark.parametrize("networks, source, listed", [
    (["127.0.0.0/24"], "127.0.0.77", True), (["127.0.0.0/24"], "127.0.1.77", False), (["127.0.0.2"], "127.0.0.2", True),
    (["10.0.0.0/8", "127.0.0.3/32"], "127.0.0.3", True), (["0.0.0.0/0"], "127.9.9.9", True),
    (["::1"], "127.0.0.1", False)])
def test_which_networks_a_peer_is_in(start, networks, source, listed):
    town = start(networks=networks)
    client = town.proxy(source=source)
    if listed:
        assert client.silent_for(0.2)
        client.send(v1())
    assert client.reply() == 220


# Limits are the client's, not the proxy's


@pytest.mark.parametrize("header", [v1, v2])
def test_the_limit_of_a_client_counts_the_client(start, header):
    town = start(limits={"connections_per_client": 2})
    mine = [town.proxy(header(), greet=True) for _ in range(2)]
    third = town.proxy(header())
    assert third.reply() == "421 4.7.0"
    with town.proxy(header("192.0.2.67"), greet=True) as other:
        assert other.cmd("NOOP") == 250
    six = [town.proxy(header(f"2001:db8::{n}", "2001:db8::1"), greet=True) for n in (1, 2)]
    assert town.proxy(header("2001:db8::3", "2001:db8::1")).reply() == "421 4.7.0", "of the same /64"
    with town.proxy(header("2001:db8:0:1::3", "2001:db8::1"), greet=True) as other:
        assert other.cmd("NOOP") == 250
    mine[0].quit()
    with town.proxy(header(), greet=True) as again:
        assert again.cmd("NOOP") == 250
    for client in mine[1:] + six:
        client.close()


def test_proxies_that_say_nothing_do_not_use_up_a_clients_share(start):
    town = start(limits={"connections_per_client": 2})
    waiting = [town.proxy() for _ in range(20)]
    clients = [town.proxy(v1(f"192.0.2.{n}"), greet=True) for n in range(1, 20)]
    assert all(client.cmd("NOOP") == 250 for client in clients)
    for client in waiting + clients:
        client.close()


def test_connections_are_counted_from_the_first_byte(start):
    town = start(limits={"connections": 10, "connections_per_client": 100}, workers=1)  # accepted in order
    waiting = [town.proxy() for _ in range(10)]
    refused = town.proxy()
    assert refused.reply() == "421 4.3.2"
    waiting[0].close()
    poll(lambda: town.proxy(v1()).reply() == 220, "a place")


# TLS behind it


@pytest.mark.parametrize("header, address", [GOOD["v1"], GOOD["v2 six"], GOOD["v2 local"]])
@pytest.mark.parametrize("cut", [None, 1])
def test_implicit_tls_behind_the_header(start, ca, header, address, cut):
    town = start("implicit")
    client = town.proxy(header, cut=cut)
    with client.secure(ca.client_context()):
        assert client.reply() == 220
        client.cmd("EHLO client.test")
        assert f"[{address}])" in relayed_from(town, client)


@pytest.mark.parametrize("header", [v1(), v2(tlvs=b"\4\0\1x")])
def test_header_and_client_hello_in_one_segment(start, ca, header):
    town = start("implicit")
    cutter = Cutter(town.proxy().sock, ca.client_context())
    cutter.put(header + cutter.first_flight())
    cutter.handshake()
    assert cutter.reply().startswith("220 ")


@pytest.mark.parametrize("behind", [b"EHLO client.test\r\n", v1()])
def test_implicit_tls_takes_nothing_in_clear_behind_the_header(start, behind):
    town = start("implicit")
    client = town.proxy(v1() + behind)
    _, said = client.await_end(timeout=5)
    assert b"220" not in said and b"554" not in said


def test_the_header_in_tls_is_a_command(start, ca):
    town = start("implicit")
    client = TlsClient(town.daemon.where, hello=None, greet=False, source=LISTED)
    with pytest.raises((OSError, Gone)):  # a listed peer begins with the header, in clear
        client.secure(ca.client_context())


@pytest.mark.parametrize("header", [v1(), v2()])
def test_starttls_behind_the_header(start, ca, header):
    town = start("may")
    with town.proxy(header, greet=True) as client:
        client.starttls(ca.client_context())
        field = relayed_from(town, client)
        assert f"[{FOUR}])" in field and " with ESMTPS id " in field


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_proxy_that_leaves_in_its_header(start, how):
    town = start()
    before = town.daemon.descriptors()
    for header in (b"", v1()[:10], v2()[:20]):
        client = town.proxy(header)
        client.reset() if how == "rst" else client.close()
    await_quiet(town.daemon, before)


def test_sigterm_does_not_wait_for_headers(start):
    town = start()
    client = town.proxy(v1()[:5])
    town.daemon.term()
    assert client.await_end(timeout=5)[1] == b""
    assert town.daemon.await_exit() == 0


def test_a_reload_changes_who_is_listed(start):
    town = start()
    old = town.proxy(v1()[:5])
    listen = town.daemon.settings["listen"]
    del listen[0]["proxy-protocol"]
    town.daemon.write_config(listen=listen)
    assert town.daemon.reload().status == 0
    with town.proxy() as client:
        assert client.reply() == 220
    old.send(v1()[5:])
    assert old.reply() == 220, "a connection goes on as it began"
