"""Whom splitmx asks for names where its configuration does not say: resolv.conf, and a reload that reads it again."""

import contextlib
import socket
import time

import pytest

from lab.laboratory import KING, KING6, TRAP, scripted
from lab.names import Names, host
from splitmx_test.messages import message

ROUTES = {"six@example.com": "smtp:[six.test]", "king@example.com": "smtp:[king.test]", "again@example.com": "smtp:[again.test]",
          "short@example.com": "smtp:[trap]", "short-mx@example.com": "smtp:trap"}
MOVED = "192.0.2.34"


@pytest.fixture(scope="module")
def names(lab):
    with lab.names.also(host("six.test", KING6), host("king.test", KING), host("again.test", KING)):
        yield lab.names


@pytest.fixture
def servers(lab):
    """Scripted servers; the one at TRAP must not hear of anything."""
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(scripted(lab.far, f"{name}.test", address))
                 for name, address in {"king": KING, "king6": KING6, "moved": MOVED, "trap": TRAP}.items()}
        yield found
        assert found["trap"].connections == []


@pytest.fixture
def resolv_conf(lab):
    """resolv_conf("192.0.2.53", ..., options="..."): that of splitmx's host."""

    def write(*nameservers, more=""):
        lab.mx.write("resolv.conf", "".join(f"nameserver {address}\n" for address in nameservers) + more)

    yield write
    write(lab.network.nameserver)


@pytest.fixture
def start(start_daemon):
    # One worker, since each asks for itself.
    return lambda: start_daemon(routes=ROUTES, workers=1)


def test_another_name_server_is_asked_from_the_next_reload_on(lab, names, servers, resolv_conf, start):
    splitmx = start()
    assert splitmx.send(message(), "six@example.com") == 250
    servers["king6"].only_message()
    with Names(lab.lower, host("six.test", MOVED)):
        resolv_conf(lab.lower.address)
        assert splitmx.reload().status == 0
        assert splitmx.send(message(), "six@example.com") == 250
        servers["moved"].only_message()
    resolv_conf(lab.network.nameserver)
    assert splitmx.reload().status == 0
    assert splitmx.send(message(), "six@example.com") == 250
    assert len(servers["king6"].await_messages(2)) == 2


def test_names_are_asked_for_as_they_are_whatever_is_searched(lab, names, servers, resolv_conf, start):
    resolv_conf(lab.network.nameserver, more="search test example.com\noptions ndots:5\n")
    splitmx = start()
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt("short@example.com") == 451
        assert client.rcpt("short-mx@example.com") == 451
        assert client.rcpt("king@example.com") == 250
    assert names.asked("trap", "A") > 0 and names.asked("trap", "MX") > 0
    assert names.asked("king.test.test", "A") == 0


def test_a_name_server_that_says_nothing_is_waited_for_a_few_times_only(lab, names, servers, resolv_conf, start):
    with lab.far.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((TRAP, 53))
        resolv_conf(TRAP, lab.network.nameserver)
        splitmx = start()
        for recipient in ("six@example.com", "king@example.com"):
            began = time.monotonic()
            assert splitmx.send(message(), recipient) == 250
            assert time.monotonic() - began < 6
        began = time.monotonic()
        assert splitmx.send(message(), "again@example.com") == 250
        assert time.monotonic() - began < 0.9
