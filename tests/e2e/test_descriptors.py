"""No descriptors (row 20 of the faults): clients are told in time, mail is put off, and all is as before once there are some."""

import contextlib
import grp
import os
import pwd
import re
import subprocess
import time
from pathlib import Path

import pytest

from splitmx_test.client import Gone
from splitmx_test.messages import message
from splitmx_test.waiting import poll

LOCAL, KING = "user@example.com", "kingmail@example.com"
SPARE = 64


def at_rest(daemon):
    """The numbers in use, once what was opened for a moment only is closed."""
    before = None
    while True:
        used = {int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd")}
        if used == before:
            return used
        before = used
        time.sleep(0.05)


@contextlib.contextmanager
def no_more(daemon, more=0):
    """The running daemon may open so many more files and no others."""
    def limit(number):  # as its own user, who may; root in a container may not
        who = {"user": daemon.folder.user, "group": grp.getgrgid(pwd.getpwnam(daemon.folder.user).pw_gid).gr_name, "extra_groups": []}
        subprocess.run(["prlimit", "--pid", str(daemon.process.pid), f"--nofile={number}:"], check=True, **(who if os.geteuid() == 0 else {}))

    before = re.search(r"Max open files +(\d+)", Path(f"/proc/{daemon.process.pid}/limits").read_text())[1]
    used = at_rest(daemon)
    limit(min(set(range(len(used) + 1)) - used) + more)  # the lowest free number: the limit is one of numbers
    try:
        yield
    finally:
        limit(before)



def test_clients_are_told_within_64_of_the_limit_and_those_before_are_served(start_split):
    split = start_split(wrapper=["prlimit", "--nofile=256:256"], workers=1, timeouts={"pool-idle": "0s"},
                        limits={"connections": 100_000, "connections_per_client": 100_000})
    with contextlib.ExitStack() as held:
        clients = []
        while True:
            client = held.enter_context(split.client(hello=None))
            if client.greeting != 220:
                break
            clients.append(client)
            assert len(clients) < 256
        assert client.greeting == "421 4.3.2", client.greeting
        assert client.await_end()[0] == "fin"
        assert 256 - SPARE - 2 <= split.daemon.descriptors() <= 256 - SPARE + 1
        for one in (clients[0], clients[-1]):  # the spare ones are for them
            assert one.cmd("EHLO client.test") == 250
            assert one.send_mail(message(), LOCAL, KING, "third@example.com") == 250
        poll(lambda: split.daemon.status()["upstreams"]["open"] == 0, "the end of what served them")
        again = held.enter_context(split.client(hello=None))
        assert again.greeting == "421 4.3.2"
        assert split.daemon.command("status").status == 0
        clients[5].quit()
        poll(lambda: split.daemon.descriptors() < 256 - SPARE, "a free descriptor")
        assert split.daemon.send(message(), LOCAL, KING) == 250


@pytest.fixture
def town(start_daemon, start_upstream):
    """local has a fallback, which is not for want of descriptors."""
    local, king, fallback = (start_upstream(name) for name in ("local.test", "king.test", "fallback.test"))
    daemon = start_daemon(workers=1, timeouts={"pool-idle": "0s"}, routes={LOCAL: "local", KING: "king"}, relays={
        "local": {"next-hop": local.next_hop, "fallback": "fallback"}, "king": {"next-hop": king.next_hop},
        "fallback": {"next-hop": fallback.next_hop}})
    daemon.local, daemon.king, daemon.fallback = local, king, fallback
    return daemon


def test_no_descriptor_for_an_upstream_is_451_and_no_absence_of_it(town):
    with town.client() as client:
        with no_more(town):
            for _ in range(12):  # more than a relay may fail
                client.mail()
                assert client.rcpt(LOCAL) == "451 4.3.0"
                assert client.rcpt(KING) == "451 4.3.0"
                assert client.data() == "554 5.5.1"
                client.cmd("RSET")
        assert client.send_mail(message(), LOCAL, KING) == 250
    assert town.fallback.connections == []
    assert town.status()["endpoints"] == [] or {e["state"] for e in town.status()["endpoints"]} == {"ok"}
    town.local.only_message(), town.king.only_message()


def test_a_leg_that_has_no_descriptor_does_not_harm_the_other(town):
    with town.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        with no_more(town):
            assert client.rcpt(KING) == "451 4.3.0"
            assert client.data() == 354
            assert client.body(message()) == 250
    assert town.local.only_message().recipients == [LOCAL]
    assert town.king.connections == []
    assert town.send(message(), LOCAL, KING) == 250


def test_clients_that_come_when_there_is_no_descriptor_at_all_are_not_kept_waiting(town):
    with no_more(town):
        for _ in range(30):
            with contextlib.suppress(Gone, OSError), town.client(hello=None) as client:
                assert client.greeting == "421 4.3.2"
    for _ in range(5):
        assert town.send(message(), LOCAL, KING) == 250


def test_no_descriptor_for_dns_is_452_and_forgotten_at_once(start_daemon, start_upstream, dns):
    local = start_upstream("local.test")
    dns.add("local-host.test", "A", "127.0.0.1")
    daemon = start_daemon(workers=1, routes={LOCAL: "local"}, relays={
        "local": {"next-hop": f"smtp:[local-host.test]:{local.port}", "fallback": "fallback"}, "fallback": {"next-hop": local.next_hop}})
    with daemon.client() as client:
        client.mail()
        with no_more(daemon):
            assert client.rcpt(LOCAL) == "452 4.3.1"
        client.cmd("RSET")
        assert client.send_mail(message(), LOCAL) == 250
    assert b"fallback" not in local.only_message().data


def test_a_reload_without_descriptors_fails_and_the_next_works(town):
    with no_more(town, more=3):  # the request of the command itself, and the files that are read one by one
        town.write_routes({LOCAL: "king", KING: "local"})
        with contextlib.ExitStack() as held:
            for _ in range(2):
                with contextlib.suppress(Gone, OSError):
                    held.enter_context(town.client(hello=None))
            result = town.reload()
            assert result.status == 1 and result.err, result
    assert town.send(message(), LOCAL) == 250
    assert town.local.only_message()
    result = town.reload()
    assert result.status == 0, result
    assert town.send(message(), LOCAL) == 250
    assert town.king.only_message()
