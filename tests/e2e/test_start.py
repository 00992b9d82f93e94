"""Starting, and what a daemon holds while it runs: signals, the state directory, descriptors (design: section 8)."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess

import pytest

from splitmx_test.client import Client
from splitmx_test.daemon import BINARY, is_sanitized
from splitmx_test.messages import message
from splitmx_test.waiting import PATIENCE, poll

USER = "user@example.com"


@pytest.fixture
def starting(start_daemon):
    """A daemon that is starting, which takes a while, for it has many routes."""
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, routes=MANY)
    processes = []

    def start():
        processes.append(subprocess.Popen([str(BINARY), "run", "-c", str(daemon.config)], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        poll(lambda: list((daemon.folder.path / "state").glob("routes-1.lmdb.tmp")), "the table to be written")
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


MANY = "".join(f"user{n}@example.com: local\n" for n in range(300_000))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_it_starts_ends_it_with_0(starting, number):
    process = starting()
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert b"ready" not in process.stderr.read()


def test_a_hangup_while_it_starts_is_a_reload_after_the_start(starting):
    process = starting()
    process.send_signal(signal.SIGHUP)
    await_line(process, b"event=ready")
    await_line(process, b"event=reloaded")
    process.terminate()
    assert process.wait(PATIENCE) == 0


def test_a_pipe_as_configuration_is_refused_at_once(start_daemon):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}})
    daemon.config.unlink()
    os.mkfifo(daemon.config, 0o644)
    for command in ("run", "check", "status", "reload"):
        result = daemon.command(command, timeout=20)
        assert result.status == 78 and "splitmx.yaml: cannot be opened: it is no regular file" in result.err, result


def test_signals_for_log_files_are_passed_over(start_split):
    split = start_split()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        split.daemon.signal(number)
        assert split.daemon.send(message(), USER) == 250


def await_line(process, words):
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without {words}")


# one splitmx to a state directory


def test_a_second_splitmx_is_refused_though_the_files_of_the_first_are_gone(start_split):
    split = start_split()
    daemon = split.daemon
    state = daemon.folder.path / "state"
    for name in ("control.sock", "splitmx.pid"):
        (state / name).unlink()
    before = sorted(os.listdir(state))
    result = daemon.command("run", timeout=20)
    assert result.status == 1, result
    assert "another splitmx runs with this state directory" in result.err
    assert sorted(os.listdir(state)) == before
    assert daemon.send(message(), USER) == 250


def test_a_reload_brings_back_what_was_removed(start_split):
    split = start_split()
    daemon = split.daemon
    state = daemon.folder.path / "state"
    (state / "control.sock").unlink()
    (state / "splitmx.pid").unlink()
    assert daemon.command("status").status == 1
    daemon.sighup()
    poll(lambda: daemon.command("status").status == 0, "the control socket")
    assert int((state / "splitmx.pid").read_text()) == daemon.process.pid
    assert daemon.reload().status == 0


def test_a_state_directory_that_was_made_anew_is_held_after_a_reload_or_a_restart(start_split):
    split = start_split()
    daemon = split.daemon
    state = daemon.folder.path / "state"
    by_landlock = daemon.by_landlock
    state.rename(state.with_name("moved"))
    state.mkdir()
    own(state)
    daemon.sighup()
    if by_landlock:
        assert f"{state} is out of reach" in daemon.await_log("event=configuration")
        daemon.await_log("event=reload-failed")
        assert daemon.send(message(), USER) == 250
        daemon.stop()
        daemon.start()
    poll(lambda: daemon.command("status").status == 0, "the control socket")
    assert daemon.reload().status == 0
    result = daemon.command("run", timeout=20)
    assert result.status == 1 and "another splitmx runs with this state directory" in result.err, result


def test_a_state_directory_that_another_splitmx_has_taken_is_left_to_it(start_split, start_daemon):
    daemon = start_split().daemon
    state = daemon.folder.path / "state"
    by_landlock = daemon.by_landlock
    state.rename(state.with_name("moved"))
    other = start_daemon(relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, state_directory=str(state))
    assert int((state / "splitmx.pid").read_text()) == other.process.pid
    daemon.sighup()
    line = daemon.await_log("event=configuration")
    why = "is out of reach" if by_landlock else "another splitmx runs with this state directory, which is not the one"
    assert why in line
    daemon.await_log("event=reload-failed")
    assert int((state / "splitmx.pid").read_text()) == other.process.pid
    assert other.reload().status == 0
    assert daemon.send(message(), USER) == 250


def test_a_daemon_that_is_stopped_is_not_waited_for(start_split):
    daemon = start_split().daemon
    daemon.signal(signal.SIGSTOP)
    try:
        result = daemon.reload()
    finally:
        daemon.signal(signal.SIGCONT)
    assert result.status == 1
    assert "has not answered for 10 s" in result.err


def test_reload_with_another_state_directory_says_what_to_do(start_split):
    daemon = start_split().daemon
    daemon.write_config(state_directory="elsewhere")
    result = daemon.reload()
    assert result.status == 1
    assert "elsewhere" in result.err and "has to be restarted" in result.err


@pytest.mark.parametrize("make, said", [
    (lambda state: state.write_text("a file\n"), "not a directory"),
    (lambda state: (state.mkdir(), own(state, 0o777)), "may be written to by everyone"),
    (lambda state: (state.mkdir(), own(state), (state / "control.sock").mkdir()), "control.sock is in the way"),
    (lambda state: (state.mkdir(), own(state), (state / "control.sock").write_text("")), "control.sock is in the way"),
], ids=["a file", "everyone's", "a folder for a socket", "a file for a socket"])
def test_check_and_run_refuse_the_same_state_directory(start_daemon, make, said):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}})
    make(daemon.folder.path / "state")
    for command in ("check", "run"):
        result = daemon.command(command, timeout=20)
        assert result.status == 78, result
        assert re.search(rf"splitmx\.yaml:\d+:\d+: .*{said}", result.err), result


def own(folder, mode=0o700):
    folder.chmod(mode)
    shutil.chown(folder, "nobody" if os.geteuid() == 0 else os.geteuid())


def test_a_state_directory_that_is_open_to_looks_is_a_warning(start_daemon):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}})
    state = daemon.folder.path / "state"
    state.mkdir()
    own(state, 0o755)
    result = daemon.command("check")
    assert result.status == 0 and re.search(r"warning: .*state is open to everyone: chmod 700", result.err), result


@pytest.mark.parametrize("directory", ["/dev/null", "/proc/splitmx", "/dev/null/x", "nowhere/state"])
def test_check_finds_a_state_directory_that_cannot_be(start_daemon, directory):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, state_directory=directory)
    result = daemon.command("check")
    assert result.status == 78 and re.search(r"splitmx\.yaml:\d+:\d+: .*director", result.err), result


# descriptors


@pytest.mark.parametrize("style", ["text", "json"])
def test_too_few_descriptors_are_told_with_figures(start_daemon, style):
    """As an event of the log, for it is a start that succeeds."""
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, log={"format": style},
                          wrapper=["bash", "-c", 'ulimit -n 300; exec "$@"', "bash"])
    daemon.start()
    line = daemon.await_log("ulimit")
    said = json.loads(line) if style == "json" else daemon.fields(line)
    assert said["event"] == "configuration" and said["place"] == str(daemon.config), line
    assert re.search(r"300 files.*`connections: 10000`.*take 20000:", said["message"]), line


def test_the_soft_limit_of_descriptors_is_raised(start_daemon):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    daemon = start_daemon(relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, limits={"connections": 20},
                          wrapper=["bash", "-c", 'ulimit -Sn 64; exec "$@"', "bash"])
    limits = open(f"/proc/{daemon.process.pid}/limits").read()
    assert re.search(rf"Max open files +{hard} +{hard}\b", limits), limits
    assert not [line for line in daemon.lines if "ulimit" in line]


# addresses that overlap


@pytest.mark.parametrize("first, second", [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "[::]"),
                                           ("[::]", "0.0.0.0")])
def test_a_listener_moves_between_overlapping_addresses(start_split, first, second):
    split = start_split()
    daemon = split.daemon
    for address in (first, second, first):
        daemon.write_config(listen=[{"address": f"{address}:{daemon.port}"}])
        result = daemon.reload()
        assert result.status == 0, result
        assert daemon.send(message(), USER) == 250


def test_a_listener_beside_a_wildcard_is_served(start_split):
    split = start_split()
    daemon = split.daemon
    daemon.stop()
    daemon.write_config(listen=[{"address": f"[::]:{daemon.port}"}, {"address": f"0.0.0.0:{daemon.port}"}])
    daemon.start()
    assert daemon.send(message(), USER) == 250
    with Client(("::1", daemon.port)) as client:
        assert client.send_mail(message(), USER) == 250


def test_a_wildcard_that_another_server_has_a_part_of_is_refused(start_split):
    split = start_split()
    daemon = split.daemon
    with socket.create_server(("127.0.0.1", 0)) as other:
        daemon.write_config(listen=[{"address": f"0.0.0.0:{other.getsockname()[1]}"}])
        result = daemon.reload()
    assert result.status == 1 and "another server has it" in result.err
    assert daemon.send(message(), USER) == 250


# ---- what it needs of the machine ----


@pytest.mark.skipif(os.geteuid() != 0, reason="as root it becomes somebody whose tasks are counted")
@pytest.mark.skipif(is_sanitized(), reason="a sanitizer has a thread of its own")
def test_too_few_tasks_are_told_with_the_limits_to_raise(start_daemon):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]", "identity": "none"}})
    result = subprocess.run(["prlimit", "--nproc=1", str(BINARY), "run", "-c", str(daemon.config)], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert re.search(r"\d+ threads are needed, and after \d+ there are no more: .*TasksMax=.*ulimit -u", result.stderr), result.stderr


def test_a_socket_of_the_manager_that_no_listener_has_is_closed_with_a_warning(start_split):
    split = start_split(start=False)
    with socket.create_server(("127.0.0.1", 0)) as passed:
        where = "%s:%d" % passed.getsockname()
        split.daemon.start(listen_socket=passed)
        told = split.daemon.await_log("passed a socket")
        assert f"passed a socket for {where}, where no TCP listener is configured: it is closed" in told, told
        assert not os.readlink(f"/proc/{split.daemon.process.pid}/fd/3").startswith("socket:")
        assert split.daemon.reload().status == 0
        assert split.daemon.send(message(), USER) == 250
        assert len([line for line in split.daemon.lines if "passed a socket" in line]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_root_without_the_right_to_give_files_away_is_told_what_to_do(start_daemon):
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]", "identity": "none"}})
    state = daemon.folder.path / "state"
    shutil.rmtree(state, ignore_errors=True)
    result = subprocess.run(["setpriv", "--bounding-set", "-chown", str(BINARY), "run", "-c", str(daemon.config)], capture_output=True,
                            text=True, timeout=20)
    assert result.returncode == 78 and not state.exists(), result
    assert f"root lacks CAP_CHOWN: grant it, or make {state} before, belonging to nobody" in result.stderr, result.stderr


def test_a_datagram_socket_of_the_manager_is_not_listened_on(start_split):
    split = start_split()
    split.daemon.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        wrong.bind(split.daemon.where)
        split.daemon.start(listen_socket=wrong)
        assert split.daemon.send(message(), USER) == 250
