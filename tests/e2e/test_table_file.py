"""The table's file, damaged: mail is put off at most, never bounced, and splitmx mends it (design: sections 4 and 9)."""

import os
import re
import resource
import subprocess

import pytest

from splitmx_test.daemon import BINARY, splitmx
from splitmx_test.messages import message
from splitmx_test.waiting import poll

USER = "user@example.com"


def table_of(daemon):
    """Its file; a superseded one goes when its last transaction has gone."""

    def only():
        paths = list((daemon.folder.path / "state").glob("routes-*.lmdb"))
        return paths[0] if len(paths) == 1 else None

    return poll(only, "one table in the state directory")


def noise(path):
    with open(path, "r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def zeroes(path):
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def cut(path):
    os.truncate(path, 4096)


def empty(path):
    os.truncate(path, 0)


DAMAGE = pytest.mark.parametrize("damage", [noise, zeroes, cut, empty], ids=lambda f: f.__name__)


@DAMAGE
def test_a_damaged_table_is_built_again_at_the_start(start_split, damage):
    split = start_split()
    split.daemon.stop()
    damage(table_of(split.daemon))
    explained = split.daemon.command("route", "--json", USER)
    assert explained.status == 0 and '"relay":"local"' in explained.out and "damaged" in explained.err, explained
    split.daemon.start()
    assert split.daemon.send(message(), USER, "kingmail@example.com", "any@example.com") == 250
    said = split.daemon.fields(split.daemon.await_log("event=configuration"))
    assert said["place"].endswith("routes-1.lmdb") and "the file is damaged" in said["message"], said
    assert table_of(split.daemon).name == "routes-2.lmdb"


@DAMAGE
def test_a_table_of_ordinary_size_serves_on_whatever_happens_to_its_file(start_split, damage):
    split = start_split()
    with split.client() as client:
        assert client.mail() == 250
        assert client.rcpt(USER) == 250
        damage(table_of(split.daemon))
        assert client.rcpt("user2@example.com") == 250
        assert client.rcpt("elsewhere@example.net") == "550 5.7.1"
        assert client.data() == 354
        assert client.body(message()) == 250


@pytest.fixture(scope="module")
def long_routes():
    """Routes whose table is too long to be copied to memory."""
    return "user@example.com: local\n" + "".join(f"{n:0120}@example.com: local\n" for n in range(130_000))


@DAMAGE
def test_a_long_table_damaged_under_a_running_daemon_puts_mail_off_until_it_is_built_again(start_daemon, start_upstream, long_routes, damage):
    local = start_upstream("local.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes=long_routes)
    with daemon.client() as client:
        assert client.mail() == 250
        assert client.rcpt(USER) == 250
        damage(table_of(daemon))
        assert client.rcpt(f"{7:0120}@example.com") == "451 4.3.0"
        assert client.rcpt("elsewhere@example.net") == "451 4.3.0"  # who knows whether it is not
        daemon.await_log("event=table-damaged")
        daemon.await_log("event=reload")
        assert client.data() == 354  # the transaction keeps what it has, and its table
        assert client.body(message()) == 250
        assert client.send_mail(message(), USER, f"{7:0120}@example.com") == 250
    assert table_of(daemon).name == "routes-2.lmdb"
    assert splitmx("route", "-c", daemon.config, USER).err == ""


def test_a_long_table_damaged_again_and_again_is_told_and_mended(start_daemon, start_upstream, long_routes):
    local = start_upstream("local.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes=long_routes)
    empty(table_of(daemon))
    health = daemon.command("healthcheck")  # nobody sends mail: it is found all the same
    assert health.status == 1 and "damaged" in health.err, health
    line = daemon.await_log("event=table-damaged")
    assert "built again now" in line
    daemon.await_log("event=reloaded")
    assert daemon.command("healthcheck").status == 0
    assert daemon.status()["routes"]["damaged"] is False
    for count in (2, 3, 4):  # so that a slow machine meets one of the pauses
        noise(table_of(daemon))
        with daemon.client() as client:
            assert client.mail() == 250
            assert client.rcpt(USER) == "451 4.3.0"
        if re.search(r"built again in \d s", daemon.await_log("event=table-damaged", count=count)):
            break
        daemon.await_log("event=reloaded", count=count)
    else:
        pytest.fail("it was built again at once each time")
    assert daemon.status()["routes"]["damaged"] is True
    assert "DAMAGED: recipients get 451" in daemon.command("status").out
    assert daemon.command("healthcheck").status == 1
    daemon.await_log("event=reloaded", count=count)  # by itself
    assert daemon.command("healthcheck").status == 0
    assert daemon.send(message(), USER) == 250


def test_a_damaged_table_is_tried_again_until_its_sources_are_right(start_daemon, start_upstream, long_routes):
    local = start_upstream("local.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes=long_routes)
    daemon.write_routes("example.com: nosuch\n")
    empty(table_of(daemon))
    assert daemon.command("healthcheck").status == 1
    daemon.await_log("event=reload-failed")
    assert "built again in" in daemon.await_log("event=table-damaged", count=2)
    daemon.write_routes({"example.com": "local"})
    daemon.await_log("event=reloaded")
    assert daemon.send(message(), USER) == 250
    assert daemon.command("healthcheck").status == 0


@DAMAGE
def test_a_reload_with_unchanged_sources_heals(start_split, damage):
    split = start_split()
    damage(table_of(split.daemon))
    result = split.daemon.reload()
    assert result.status == 0 and "damaged" in result.out + result.err, result
    assert split.daemon.send(message(), USER) == 250


def test_what_a_killed_process_had_in_force_is_removed_at_the_next_start(start_split):
    split = start_split()
    split.daemon.kill()
    split.daemon.write_routes({"example.com": "third"})
    split.daemon.start()
    assert table_of(split.daemon).name == "routes-2.lmdb"


def test_a_full_disk_is_no_error_of_the_configuration(start_daemon):
    daemon = start_daemon(relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, start=False)

    def fill():  # a limit stands for the disk: writing is cut short in the same way
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))

    for command in ("run", "check", "route"):
        operand = [USER] if command == "route" else []
        done = subprocess.run([BINARY, command, "-c", daemon.config, *operand], preexec_fn=fill, timeout=60,
                              capture_output=True, text=True)
        assert done.returncode == 1, done
        assert "the routing table cannot be written: File too large; this process may write no larger file: raise `ulimit -f`" in done.stderr, done


def test_a_limit_of_file_sizes_does_not_end_a_daemon(start_daemon, start_upstream):
    local = start_upstream("local.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes={USER: "local"}, wrapper=["bash", "-c", 'ulimit -f 100; exec "$@"', "bash"])
    daemon.write_routes("".join(f"user{n}@example.com: local\n" for n in range(30_000)))
    result = daemon.reload()
    assert result.status == 1 and "the routing table cannot be written: File too large" in result.err, result
    assert daemon.send(message(), USER) == 250


@pytest.mark.parametrize("broken", ["", "foo: bar\n"], ids=["only that", "beside another error"])
def test_a_pipe_as_routes_is_refused_at_once(start_daemon, broken):
    daemon = start_daemon(relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, start=False)
    daemon.write_config(text=daemon.config.read_text() + broken)
    (daemon.folder.path / "routes.yaml").unlink()
    os.mkfifo(daemon.folder.path / "routes.yaml")
    result = daemon.command("check")
    assert result.status == 78 and "no regular file" in result.err, result


def test_no_descriptor_is_left_of_tables_that_were_replaced(start_split):
    split = start_split()
    before = None
    for _ in range(5):
        empty(table_of(split.daemon))
        assert split.daemon.reload().status == 0
        now = poll(lambda: (n := split.daemon.descriptors()) and (before is None or n <= before) and n, "as many descriptors as before")
        before = before or now
