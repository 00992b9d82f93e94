"""Reload drops nothing, a broken one changes nothing, SIGTERM ends what is under way (design: section 8)."""

import re
import socket
import subprocess
import threading
import time

import pytest

from splitmx_test.client import Client, Gone, stuff
from splitmx_test.daemon import BINARY, splitmx
from splitmx_test.messages import assert_relayed, message
from splitmx_test.peers import smtp_source
from splitmx_test.upstream import wait
from splitmx_test.waiting import free_port, poll

USER = "user@example.com"


def test_a_reload_changes_where_mail_goes(start_split):
    split = start_split()
    daemon = split.daemon
    assert daemon.send(message(), USER) == 250
    daemon.write_routes({"example.com": "kingmailer"})
    result = daemon.reload()
    assert result.status == 0 and result.err == "", result
    assert daemon.send(message(), USER) == 250
    assert len(split.local.messages) == 1 and len(split.kingmailer.messages) == 1
    daemon.write_routes({"example.com": "third"})
    daemon.sighup()
    poll(lambda: daemon.send(message(), USER) == 250 and split.third.messages, "the table after SIGHUP")


@pytest.mark.threads
def test_a_transaction_keeps_the_table_it_began_with(start_split):
    split = start_split()
    sent = message()
    with split.client() as client:
        client.mail()
        assert client.rcpt(USER) == 250
        split.daemon.write_routes({"example.com": "kingmailer"})
        assert split.daemon.reload().status == 0
        assert client.rcpt("user2@example.com") == 250
        assert client.data() == 354
        assert client.body(sent) == 250
        assert client.send_mail(message(), USER) == 250
    assert split.local.only_message().recipients == [USER, "user2@example.com"]
    assert_relayed(split.local.only_message().data, sent)
    assert split.kingmailer.only_message().recipients == [USER]


@pytest.mark.parametrize("break_it", [
    lambda d: d.write_routes("example.com: nosuch\n"),
    lambda d: d.write_routes("example.com: [\n"),
    lambda d: d.write_config(text="hostnam: x\n"),
    lambda d: d.write_config(text=""),
    lambda d: (d.folder.path / "routes.yaml").unlink(),
    lambda d: d.write_config(relays={"other": {"next-hop": "smtp:[192.0.2.1]"}}),
    lambda d: d.write_config(relays={"gmail": {"hosts": [{"host": "aspmx@google.com", "priority": 1}]}}),
], ids=["unknown relay", "no YAML", "unknown key", "empty", "routes gone", "relays gone", "misspelt host"])
def test_a_broken_reload_leaves_everything_as_it_was(start_split, break_it):
    split = start_split()
    daemon = split.daemon
    with daemon.client() as client:
        break_it(daemon)
        result = daemon.reload()
        assert result.status == 1 and result.err, result
        assert client.send_mail(message(), USER, "kingmail@example.com") == 250
    assert daemon.send(message(), USER) == 250
    assert len(split.local.messages) == 2


def test_a_configuration_without_an_octet_is_half_written(start_split):
    """And `{}` is not: what it lacks then is told as ever."""
    split = start_split()
    split.daemon.write_config(text="")
    split.daemon.sighup()
    said = split.daemon.fields(split.daemon.await_log("event=configuration"))
    assert said["place"] == f"{split.daemon.config}:1:1" and "nothing is in this file, as if it were half-written" in said["message"], said
    split.daemon.await_log("event=reload-failed")
    assert split.daemon.command("check").status == 78
    split.daemon.write_config(text="{}\n")
    checked = split.daemon.command("check")
    assert "half-written" not in checked.err and "routes.yaml" in checked.err, checked


def test_a_route_file_that_says_nothing_fails_the_reload(start_split):
    """A script has emptied it, and goes on writing in a moment."""
    split = start_split()
    for nothing in ("", "# made by a script\n"):
        split.daemon.write_routes(nothing)
        result = split.daemon.reload()
        assert result.status == 1 and "routes.yaml: no route is in this file" in result.err, result
        assert split.daemon.send(message(), USER) == 250
    split.daemon.write_config(domains=["example.com"])
    split.daemon.write_routes("{}\n")
    result = split.daemon.reload()
    assert result.status == 0 and "warning: there is no route" in result.err, result
    with split.client() as client:
        client.mail()
        assert client.rcpt(USER) == "550 5.7.1"


def test_reload_of_another_file_than_the_daemon_serves_is_refused(start_split):
    daemon = start_split().daemon
    other = daemon.folder.write("other.yaml", daemon.config.read_bytes())
    result = splitmx("reload", "-c", other)
    assert result.status == 1 and result.out == "", result
    assert f"serves {daemon.config}, not {other}" in result.err, result
    assert daemon.status()["reload"]["count"] == 0
    link = daemon.folder.path / "link.yaml"
    link.symlink_to("splitmx.yaml")
    assert splitmx("reload", "-c", link).status == 0
    assert splitmx("reload", "-c", "splitmx.yaml", cwd=daemon.folder.path).status == 0
    assert daemon.status()["configuration"] == str(daemon.config)
    assert f"\nconfiguration {daemon.config}\n" in daemon.command("status").out


def test_a_configuration_named_without_its_folder_has_it_in_the_errors_of_a_reload(start_split):
    split = start_split(start=False)
    split.daemon.wrapper = ["bash", "-c", 'cd "${3%/*}" && exec "$0" run -c splitmx.yaml']
    split.daemon.start()
    good = split.daemon.config.read_text()
    split.daemon.folder.write("splitmx.yaml", good + "frobnicate: 1\n")
    result = splitmx("reload", "-c", split.daemon.config)
    assert result.status == 1, result
    assert result.err.startswith(f"{split.daemon.config}:") and "unknown key `frobnicate`" in result.err, result
    split.daemon.folder.write("splitmx.yaml", good)


def test_another_state_directory_needs_a_restart_too(start_split):
    split = start_split()
    split.daemon.write_config(state_directory="elsewhere")
    split.daemon.sighup()  # `splitmx reload` would look for the daemon in the new one
    split.daemon.await_log("restart")
    assert split.daemon.send(message(), USER) == 250


@pytest.mark.parametrize("changes", [{"workers": 1}, {"user": "daemon"}], ids=["workers", "user"])
def test_what_needs_a_restart_is_an_error_that_says_so(start_split, changes):
    split = start_split()
    split.daemon.write_config(**changes)
    result = split.daemon.reload()
    assert result.status == 1, result
    assert re.search(r"splitmx\.yaml:\d+:\d+: .*restart", result.err), result
    assert split.daemon.send(message(), USER) == 250


def test_settings_take_effect_for_new_transactions(start_split):
    split = start_split()
    limits = {"connections-per-client": 2000, "recipients": 1}
    split.daemon.write_config(limits=limits)
    assert split.daemon.reload().status == 0
    with split.client() as client:
        client.mail()
        assert client.rcpt(USER) == 250
        assert client.rcpt("user2@example.com") == "452 4.5.3"


@pytest.mark.threads
def test_listeners_are_kept_added_and_taken_away(start_split):
    split = start_split()
    daemon = split.daemon
    first, second = daemon.port, free_port()
    with daemon.client() as old:
        daemon.write_config(listen=[{"address": f"127.0.0.1:{first}"}, {"address": f"127.0.0.1:{second}"}])
        assert daemon.reload().status == 0
        for port in (first, second):
            with Client(("127.0.0.1", port)) as client:
                assert client.send_mail(message(), USER) == 250
        daemon.write_config(listen=[{"address": f"127.0.0.1:{second}"}])
        assert daemon.reload().status == 0

        def refused():
            try:
                socket.create_connection(("127.0.0.1", first), timeout=1).close()
                return False
            except ConnectionRefusedError:
                return True

        poll(refused, "the first listener to be gone")
        assert old.send_mail(message(), USER) == 250, "its sessions go on"
    daemon.port = second


def test_a_listener_that_cannot_be_bound_fails_the_reload(start_split):
    split = start_split()
    daemon = split.daemon
    daemon.write_config(listen=[{"address": f"127.0.0.1:{daemon.port}"}, {"address": f"127.0.0.1:{split.local.port}"}])
    result = daemon.reload()
    assert result.status == 1 and str(split.local.port) in result.err
    assert daemon.send(message(), USER) == 250


def test_hundreds_of_signals_are_folded(start_split):
    split = start_split()
    for _ in range(300):
        split.daemon.sighup()
    assert split.daemon.reload().status == 0
    assert split.daemon.send(message(), USER) == 250


def test_old_generations_are_removed(start_split):
    split = start_split()
    daemon = split.daemon
    files = len(list((daemon.folder.path / "state").iterdir()))
    for n in range(10):
        daemon.write_routes({"example.com": "local", f"user{n}@example.com": "kingmailer"})
        assert daemon.reload().status == 0
    assert daemon.send(message(), USER) == 250
    poll(lambda: len(list((daemon.folder.path / "state").iterdir())) <= files + 1, "old generations to be unlinked")


def test_an_unchanged_table_is_not_built_again(start_split):
    split = start_split()
    state = split.daemon.folder.path / "state"

    def tables():
        return {p.name: p.stat().st_ino for p in state.glob("routes-*")}

    before = tables()
    assert split.daemon.reload().status == 0
    assert tables() == before
    split.daemon.stop()
    split.daemon.start()
    assert before.items() <= tables().items()


@pytest.mark.threads
def test_three_thousand_messages_while_tables_alternate_ten_times_a_second(start_split):
    """None fails, and each goes where one of the two tables says."""
    split = start_split()
    daemon = split.daemon
    recipients = ("user@example.com", "user1@example.com")
    tables = ({"user@example.com": "local", "example.com": "kingmailer"}, {"user@example.com": "kingmailer", "example.com": "third"})
    done = threading.Event()
    rounds = []

    def reload_again_and_again():
        while not done.wait(0.1):
            daemon.write_routes(tables[len(rounds) % 2])
            daemon.sighup()
            rounds.append(time.monotonic())

    daemon.write_routes(tables[1])
    assert daemon.reload().status == 0
    thread = threading.Thread(target=reload_again_and_again)
    thread.start()
    try:
        results = []
        load = [threading.Thread(target=lambda recipient=recipient, options=options: results.append(
            smtp_source(daemon.port, *options, "-l", "2000", count=1500, sessions=10, recipient=recipient)))
                for recipient, options in zip(recipients, ((), ("-d",)))]  # a session a message; many a session
        for one in load:
            one.start()
        for one in load:
            one.join()
    finally:
        done.set()
        thread.join()
    for result in results:
        assert result.returncode == 0 and result.stderr == "", result
    assert len(rounds) >= 5, "too fast to have met a reload"
    kept = [(m.recipients, u) for u in split.upstreams for m in u.messages]
    assert len(kept) == 3000
    for who, upstream in kept:
        allowed = (split.local, split.kingmailer) if who == ["user@example.com"] else (split.kingmailer, split.third)
        assert upstream in allowed, (who, upstream.name)
    assert daemon.reload().status == 0


# SIGTERM


def test_sigterm_tells_idle_clients_and_ends_with_0(start_split):
    split = start_split()
    clients = [split.client() for _ in range(5)]
    split.daemon.term()
    for client in clients:
        assert client.reply() == "421 4.3.2"
        assert client.await_end()[0] == "fin"
    assert split.daemon.await_exit() == 0


def test_sigterm_gives_a_reload_up(start_split):
    """Which may take minutes, or for ever."""
    split = start_split()
    daemon = split.daemon
    state = daemon.folder.path / "state"
    daemon.write_routes("".join(f"user{n}@example.com: local\n" for n in range(300_000)))
    asked = subprocess.Popen([BINARY, "reload", "-c", daemon.config], stderr=subprocess.PIPE, text=True)
    with split.client() as client:
        poll(lambda: list(state.glob("routes-2.lmdb.tmp")), "the table to be written", timeout=120)  # quietly, beside all else
        daemon.term()
        assert client.reply() == "421 4.3.2"
        assert client.await_end()[0] == "fin"
    assert daemon.await_exit() == 0
    assert "splitmx is shutting down" in asked.communicate(timeout=20)[1] and asked.returncode == 1
    assert not list(state.glob("routes-2.lmdb")) and not (state / "splitmx.pid").exists() and not (state / "control.sock").exists()
    assert any("event=stopped" in line for line in daemon.lines)
    daemon.write_routes({"example.com": "third"})
    daemon.start()
    assert daemon.send(message(), USER) == 250 and len(split.third.messages) == 1


def test_a_reload_that_ends_while_it_drains_is_not_switched_to(start_split):
    split = start_split()
    daemon = split.daemon
    state = daemon.folder.path / "state"
    daemon.write_routes("".join(f"user{n}@example.com: third\n" for n in range(100_000)) + "user@example.com: third\n")
    with split.client() as client:
        client.begin(USER)
        daemon.sighup()
        poll(lambda: list(state.glob("routes-2.lmdb.tmp")), "the table to be written", timeout=120)  # quietly, beside all else
        daemon.term()
        poll(lambda: list(state.glob("routes-2.lmdb")), "the reload's end")
        assert client.body(message()) == 250
        assert client.reply() == "421 4.3.2"
    assert daemon.await_exit() == 0
    assert len(split.local.messages) == 1
    assert not any("event=reloaded" in line for line in daemon.lines)


def test_sigterm_lets_transactions_end(start_split):
    split = start_split()
    sent = message()
    committing = threading.Event()
    split.kingmailer.on("eod", wait(committing))
    with split.client() as body, split.client() as commit:
        body.begin(USER)
        body.send(stuff(sent)[:100])
        split.local.await_body(100)
        commit.begin("kingmail@example.com").send(stuff(sent) + b".\r\n")
        split.kingmailer.wait_for(lambda: split.kingmailer.ended_bodies, "end of data")
        split.daemon.term()

        def refused():
            try:
                Client(split.daemon.where, hello=None).close()
                return False
            except (ConnectionRefusedError, ConnectionResetError, Gone):
                return True

        poll(refused, "no new connections")
        body.send(stuff(sent)[100:] + b".\r\n")
        assert body.reply() == 250
        assert body.reply() == "421 4.3.2"
        assert split.daemon.exit_status is None, "a commit is under way"
        committing.set()
        assert commit.reply() == 250
        assert commit.reply() == "421 4.3.2"
    assert split.daemon.await_exit() == 0
    assert_relayed(split.local.only_message().data, sent)
    assert_relayed(split.kingmailer.only_message().data, sent)


def test_a_transaction_that_outlasts_the_drain_is_421_and_leaves_no_copy(start_split):
    split = start_split(timeouts={"drain": "500ms"})
    with split.client() as client:
        client.begin(USER)
        client.send(b"Subject: slow\r\n")
        split.local.await_body(b"slow")
        split.daemon.term()
        assert client.reply() == "421 4.3.2"
        assert split.daemon.await_exit() == 0
    split.local.await_incomplete()
    split.local.assert_has_nothing()


def test_a_commit_outlasts_the_drain_in_its_own_time(start_split):
    split = start_split(timeouts={"drain": "300ms"})
    go = threading.Event()
    split.local.on("eod", wait(go))
    with split.client() as client:
        client.begin(USER).send(b"text\r\n.\r\n")
        split.local.wait_for(lambda: split.local.ended_bodies, "end of data")
        split.daemon.term()
        assert client.silent_for(1.0)
        go.set()
        assert client.reply() == 250
    assert split.daemon.await_exit() == 0


def test_killed_and_started_again_it_serves(start_split):
    split = start_split()
    split.daemon.kill()
    split.daemon._expect_failure = False
    split.daemon.start()
    assert split.daemon.send(message(), USER) == 250


# Sockets of the service manager


def test_a_restart_with_passed_sockets_refuses_nobody(start_split):
    split = start_split()
    daemon = split.daemon
    daemon.stop()
    with socket.create_server(("127.0.0.1", daemon.port)) as listening:
        daemon.start(listen_socket=listening)
        assert daemon.send(message(), USER) == 250
        daemon.stop()
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as early:  # nobody runs: it waits in the socket
            daemon.start(listen_socket=listening)
            assert early.recv(100).startswith(b"220 ")
