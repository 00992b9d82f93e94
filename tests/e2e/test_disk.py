"""A full disk (row 20 of the faults): the table that is in force stays so, mail goes on, and once there is room all is as before."""

import os
import subprocess

import pytest

from splitmx_test.daemon import BINARY
from splitmx_test.disk import Disk, can_mount
from splitmx_test.messages import message
from splitmx_test.waiting import poll

LOCAL, KING = "user@example.com", "kingmail@example.com"
# More than a page of the table more than before.
MANY = {f"user{n}@example.com": "king" for n in range(3000)}

needs_disk = pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="no tmpfs can be mounted here")


@pytest.fixture
def disk():
    disk = Disk()
    yield disk
    disk.remove()


@pytest.fixture
def start(disk, start_daemon, start_upstream):
    """The state directory is on the disk, and the table of before is in force."""

    def start(**settings):
        local, king = start_upstream("local.test"), start_upstream("king.test")
        daemon = start_daemon(state_directory=str(disk.folder("state")), routes={LOCAL: "local", KING: "king"}, relays={
            "local": {"next-hop": local.next_hop}, "king": {"next-hop": king.next_hop}}, **settings)
        daemon.local, daemon.king = local, king
        return daemon

    return start


def assert_serves(daemon, *recipients):
    assert daemon.send(message(), *(recipients or (LOCAL, KING))) == 250


def states(disk):
    return sorted(path.name for path in (disk.path / "state").iterdir())


@needs_disk
@pytest.mark.parametrize("leave", [0, 4096, 16384, 40960])
def test_a_table_that_does_not_fit_fails_the_reload_and_the_next_one_works(start, disk, leave):
    daemon = start()
    before, files = daemon.status()["routes"], states(disk)
    disk.fill(leave)
    left = disk.free()
    daemon.write_routes({LOCAL: "king", KING: "local", **MANY})
    for _ in range(3):
        result = daemon.reload()
        assert result.status == 1 and "No space left on device" in result.err, result
        assert daemon.status()["routes"] == before
        assert_serves(daemon)
    daemon.await_log("No space left on device")
    assert "FAILED" in daemon.command("status").out
    assert {m.recipients[0] for m in daemon.local.messages} == {LOCAL}, "the old routes are in force"
    assert states(disk) == files and disk.free() == left, "something of what did not fit is left"
    disk.empty()
    result = daemon.reload()
    assert result.status == 0, result
    assert daemon.send(message(), LOCAL) == 250
    assert daemon.king.messages[-1].recipients == [LOCAL]


@needs_disk
def test_settings_that_need_no_new_table_are_reloaded_on_a_full_disk(start, disk):
    daemon = start()
    disk.fill()
    daemon.write_config(hostname="other.splitmx.test")
    result = daemon.reload()
    assert result.status == 0, result
    with daemon.client() as client:
        assert "other.splitmx.test" in client.greeting.text
    assert_serves(daemon)


@needs_disk
def test_mail_needs_no_disk_at_all(start, disk):
    daemon = start()
    disk.fill()
    for _ in range(20):
        assert_serves(daemon)
    assert daemon.send(message(size=3_000_000), LOCAL, KING) == 250
    daemon.king.stop()
    with daemon.client() as client:
        client.mail()
        assert client.rcpt(LOCAL) == 250
        assert client.rcpt(KING) == "451 4.4.1"


@needs_disk
def test_a_start_on_a_full_disk_says_so_and_works_once_there_is_room(start, disk):
    daemon = start(start=False)
    disk.fill()
    done = subprocess.run([BINARY, "run", "-c", daemon.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    assert "No space left on device" in done.stderr, done
    disk.empty()
    daemon.start()
    assert_serves(daemon)


@needs_disk
def test_a_start_on_a_full_disk_with_the_table_of_before_serves(start, disk):
    daemon = start()
    daemon.stop()
    disk.fill()
    daemon.start()
    assert_serves(daemon, LOCAL)
    assert_serves(daemon, KING)
    assert daemon.status()["routes"]["count"] == 2
    disk.empty()
    daemon.await_log("event=ledger-usable")
    assert_serves(daemon)
    assert daemon.reload().status == 0


# Where the log goes


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>/dev/null"])
def test_a_log_that_nobody_can_have_stops_no_mail(start_split, redirection):
    split = start_split(wrapper=["bash", "-c", f'exec "$@" {redirection}', "bash"])
    for _ in range(20):
        assert_serves(split.daemon, LOCAL, KING, "third@example.com")
    assert split.daemon.reload().status == 0
    assert_serves(split.daemon)
    assert split.daemon.status()["transactions"]["accepted"] == 21
    split.daemon.stop()


@pytest.mark.threads
def test_a_log_that_nobody_reads_stops_no_mail(start_split, reachable_folder):
    pipe = reachable_folder / "log"
    os.mkfifo(pipe, 0o666)
    unread = os.open(pipe, os.O_RDWR)
    try:
        split = start_split(wrapper=["bash", "-c", f'exec "$@" 2>{pipe}', "bash"], log={"level": "debug"})
        with split.client() as client:
            for _ in range(300):
                assert client.send_mail(message(), LOCAL, KING) == 250
        assert split.daemon.reload().status == 0
        assert_serves(split.daemon)
        assert len(os.read(unread, 1 << 20)) > 30_000, "the pipe was not full"  # of 64 KiB, in pages that are not all full
        split.daemon.stop(timeout=20)
    finally:
        os.close(unread)


@needs_disk
def test_a_log_on_a_full_disk_stops_no_mail_and_goes_on_when_there_is_room(start_split, disk):
    log = disk.path / "log"
    log.touch(mode=0o666)
    log.chmod(0o666)
    disk.fill()
    split = start_split(wrapper=["bash", "-c", f'exec "$@" 2>>{log}', "bash"])
    for _ in range(30):
        assert_serves(split.daemon)
    disk.empty()

    def resumes():
        assert_serves(split.daemon, LOCAL)
        return b"event=transaction" in log.read_bytes()

    poll(resumes, "a line in the log")
    split.daemon.stop()
    for line in log.read_text().splitlines()[1:]:
        assert line[:2] == "20" and "event=" in line, f"half a line: {line}"
