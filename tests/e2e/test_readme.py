"""The README's examples, run as they stand: files and commands behind `<!-- example: … -->`."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from splitmx_test.daemon import BINARY, REPOSITORY, SANITIZER
from splitmx_test.waiting import poll

EXAMPLE = re.compile(r"<!-- example: (.*?) -->\n```\w*\n(.*?)^```$", re.S | re.M)
PORTS = (2525, 2526, 2527)
PATIENCE = 60


@pytest.fixture(scope="module")
def examples():
    found = dict(EXAMPLE.findall((REPOSITORY / "README.md").read_text()))
    assert len(found) == 9, f"examples in the README: {list(found)}"
    return found


@pytest.fixture
def folder(examples):
    """A folder as the reader has it: the example files, and the program at build/splitmx."""
    path = Path(tempfile.mkdtemp(prefix="splitmx-readme-", dir="/tmp"))
    (path / "build").mkdir()
    shutil.copy2(BINARY, path / "build" / "splitmx")
    for name, text in examples.items():
        if "/" in name:
            target = path / name
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for item in (path, *path.rglob("*")):
            os.chown(item, nobody.pw_uid, nobody.pw_gid)
    yield path
    shutil.rmtree(path)


def as_reader():
    """The examples are for an ordinary user; root becomes one."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def run(command, folder):
    done = subprocess.run(command, shell=True, cwd=folder, text=True, capture_output=True, timeout=PATIENCE, **as_reader())
    assert not SANITIZER.search(done.stderr), done.stderr
    return done


def commands(block):
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def port_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port):
    """Unlike port_free this takes the port from nobody who is about to bind it."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def free_ports():
    busy = [port for port in PORTS if not port_free(port)]
    assert not busy, f"the README's examples need these ports of 127.0.0.1: {busy}"


def test_commands_that_only_read_work_and_leave_nothing_behind(examples, folder):
    for command in commands(examples["run in the folder above quickstart"]):
        done = run(command, folder)
        assert done.returncode == 0, (command, done)
        assert "error" not in done.stderr, (command, done.stderr)
    assert not (folder / "quickstart" / "state").exists()


def test_the_table_says_what_the_readme_says(folder):
    addresses = ["user@example.com", "User+list@example.com", "kingmail@example.com", "anyone@example.com",
                 "old@example.com", "stranger@example.org"]
    done = run("build/splitmx route -c quickstart/splitmx.yaml --json " + " ".join(addresses), folder)
    said = {line["address"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(said) == addresses
    assert [said[a]["relay"] for a in addresses[:2]] == ["local", "local"]
    assert said["User+list@example.com"]["matched"] == "user@example.com"
    assert [(hop["host"], hop["port"], hop["mx"]) for hop in said["kingmail@example.com"]["next_hops"]] == [
        ("kingmailer.org", 25, False)
    ]
    assert said["kingmail@example.com"]["source"].endswith("postfix-transport_map.cf:1")
    assert said["anyone@example.com"]["matched"] == "example.com"
    assert said["old@example.com"]["action"].startswith("error:5.1.6")
    assert said["stranger@example.org"]["action"].startswith("error:5.7.1")


def test_what_is_said_to_a_serving_daemon_works(examples, folder, free_ports):
    daemon = subprocess.Popen(["/bin/sh", "-c", "exec " + examples["serve"].strip()], cwd=folder, text=True,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **as_reader())
    try:
        poll(lambda: daemon.poll() is not None or answers(2525), "splitmx on port 2525", PATIENCE)
        assert daemon.poll() is None, daemon.stderr.read()
        for command in commands(examples["while it serves"]):
            done = run(command, folder)
            assert done.returncode == 0, (command, done)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            _, log = daemon.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            daemon.kill()
            raise
    assert daemon.returncode == 0, log


def test_a_broken_table_is_told_with_its_place(folder):
    (folder / "quickstart" / "routes.yaml").write_text("user@example.com: lokal\n")
    done = run("build/splitmx check -c quickstart/splitmx.yaml", folder)
    assert done.returncode == 78
    assert re.search(r"routes\.yaml:1:\d+: .*lokal", done.stderr), done.stderr


def change(folder, old, new, file="splitmx.yaml"):
    path = folder / "quickstart" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def certify(folder):
    """A key and a certificate for it, as the reader has them from wherever."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=mx.example.com", "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
                   check=True, capture_output=True)
    os.chmod(folder / "privkey.pem", 0o600)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for item in (folder, *folder.iterdir()):
            os.chown(item, nobody.pw_uid, nobody.pw_gid)


def test_a_listener_with_tls_needs_a_certificate(folder):
    change(folder, "address: 127.0.0.1:2525", "address: 127.0.0.1:2525\n    tls: encrypt")
    done = run("build/splitmx check -c quickstart/splitmx.yaml", folder)
    assert done.returncode == 78
    assert re.search(r"splitmx\.yaml:\d+:\d+: a listener with TLS needs `tls:`", done.stderr), done.stderr
    certify(folder / "certs")
    change(folder, "relays:", "tls: {certificate: ../certs/fullchain.pem, private-key: ../certs/privkey.pem}\nrelays:")
    done = run("build/splitmx check -c quickstart/splitmx.yaml", folder)
    assert done.returncode == 0, done.stderr
    os.chmod(folder / "certs" / "privkey.pem", 0o644)
    done = run("build/splitmx check -c quickstart/splitmx.yaml", folder)
    assert done.returncode == 78 and "read or written by everyone" in done.stderr


@pytest.mark.parametrize("identity, warned", [("", True), ("none", False), ("xclient", False), ("proxy", False)])
def test_a_server_next_door_that_is_not_told_the_client_is_warned_of(folder, identity, warned):
    line = f"    identity: {identity}\n" if identity else ""
    path = folder / "quickstart" / "splitmx.yaml"
    path.write_text(re.sub(r"    identity: none.*\n", line, path.read_text()))
    done = run("build/splitmx check -c quickstart/splitmx.yaml", folder)
    assert done.returncode == 0
    assert ("will take this host for the client" in done.stderr) == warned, done.stderr


# The family on two servers.


@pytest.fixture
def family(folder):
    """The two files as they stand in their container: paths and state are where a test may have them."""
    path = folder / "family" / "splitmx.yaml"
    text = path.read_text()
    assert text.count("/certs/") == 2
    path.write_text(text.replace("/certs/", f"{folder}/certs/") + "state-directory: state\n")
    certify(folder / "certs")
    return folder


def routes_of(folder, *addresses):
    done = run("build/splitmx route -c family/splitmx.yaml --json " + " ".join(addresses), folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_familys_files_are_good(family):
    done = run("build/splitmx check -c family/splitmx.yaml", family)
    assert done.returncode == 0 and not re.search("warning|error", done.stderr), done.stderr


def test_the_familys_files_say_what_the_readme_says(family):
    user, king, aunt, postmaster = routes_of(family, "user@example.com", "kingmail@example.com", "aunt@example.com",
                                             "postmaster@example.com")
    assert (user["relay"], user["fallback"], user["tls"]) == ("local", "gmail", "none")
    assert [(hop["host"], hop["mx"]) for hop in user["next_hops"]] == [("mailserver", False)]
    assert [(hop["host"], hop["mx"]) for hop in king["next_hops"]] == [("kingmailer.org", False)]
    assert king["fallback"] is None
    assert (aunt["relay"], aunt["fallback"], aunt["tls"]) == ("gmail", None, "verify")
    assert aunt["next_hops"][0]["host"] == "aspmx.l.google.com" and len(aunt["next_hops"]) == 5
    assert postmaster["relay"] == "local"


def test_the_familys_other_way_asks_gmail_second(family, examples):
    path = family / "family" / "routes.yaml"
    text, count = re.subn(r"^example\.com: gmail.*\n", lambda _: examples["family, not told apart"], path.read_text(), flags=re.M)
    assert count == 1
    path.write_text(text)
    (aunt,) = routes_of(family, "aunt@example.com")
    assert (aunt["relay"], aunt["unknown_recipient"], aunt["fallback"]) == ("local", "gmail", None)


def test_the_family_fits_into_the_example_with_docker(family):
    """What the comments of docker/compose.yaml promise of the files there holds for these, too."""
    docker = (REPOSITORY / "docker" / "splitmx" / "splitmx.yaml").read_text()
    for line in (family / "family" / "splitmx.yaml").read_text().splitlines():
        key = re.match(r"\s*(next-hop|identity|hostname|domains): (\S+)", line)
        assert not key or f"{key[1]}: {key[2]}" in re.sub(r": +", ": ", docker), line


def demo(*arguments):
    return subprocess.Popen([sys.executable, REPOSITORY / "tests" / "demo" / "demo.py", *arguments, BINARY],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def remains(output):
    """The folder that the demo leaves for its reader."""
    return Path(re.search(r"The mail and the log stay in (\S+)\.$", output, re.M)[1])


def read_until_serving(process):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("change it and say"):
            break
    return lines


def test_make_run_shows_one_message_with_two_servers(free_ports):
    process = demo("--once")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    folder = remains(output)
    try:
        for name, recipient in (("local", "user@example.com"), ("kingmailer", "kingmail@example.com")):
            kept = list((folder / name / "new").iterdir())
            assert len(kept) == 1 and str(kept[0]) in output
            text = kept[0].read_text()
            assert f"Delivered-To: {recipient}\n" in text and text.count("Received: ") == 1
        assert not SANITIZER.search((folder / "splitmx.log").read_text())
    finally:
        shutil.rmtree(folder)
    assert all(port_free(port) for port in PORTS)


def test_make_run_serves_until_interrupted_and_leaves_no_process(free_ports):
    process = demo()
    lines = read_until_serving(process)
    assert process.poll() is None and not port_free(2525), "".join(lines)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, "".join(lines) + rest
    shutil.rmtree(remains(rest))
    assert all(port_free(port) for port in PORTS)


def test_splitmx_ends_with_a_demo_that_is_killed(free_ports):
    process = demo()
    lines = read_until_serving(process)
    folder = re.search(r"The configuration is in (\S+);", "".join(lines))[1]
    process.kill()
    process.wait()
    process.stdout.close()
    poll(lambda: all(port_free(port) for port in PORTS), "the end of splitmx", PATIENCE)
    shutil.rmtree(folder)


def test_make_run_says_who_to_look_for_when_the_port_is_taken(free_ports):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 2525))
        taken.listen()
        started = time.monotonic()
        process = demo("--once")
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "port 2525 of 127.0.0.1 is not free" in output and "Traceback" not in output
    assert time.monotonic() - started < 10
