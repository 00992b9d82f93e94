"""The service and its socket under a real systemd, which is the first process of name spaces of its own."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from splitmx_test.daemon import BINARY, REPOSITORY, is_sanitized
from splitmx_test.waiting import poll

pytestmark = pytest.mark.skipif(BINARY.exists() and is_sanitized(), reason="a sanitizer needs more than the unit lets it have")

SYSTEMD = Path("/lib/systemd/systemd")
EXAMPLE = "/usr/local/share/doc/splitmx/examples/postfix-same-host"
# Comes, is greeted, says QUIT, again and again.
CLIENTS = """
import smtplib, sys, time
served, end = 0, time.monotonic() + 3
while time.monotonic() < end:
    smtplib.SMTP("127.0.0.1", 25, timeout=30).quit()
    served += 1
print(served)
"""


class Machine:
    def __init__(self, installed):
        self.folder = tempfile.mkdtemp(prefix="splitmx-machine-", dir="/tmp")
        script = Path(__file__).parent / "lab" / "machine.sh"
        self.process = subprocess.Popen(["unshare", "--mount", script, self.folder, installed], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.first = None

    def boot(self):
        poll(lambda: self.process.poll() is not None or self.run("systemctl", "is-active", "basic.target").stdout == "active\n",
             "systemd", 60, 0.2)
        return self.process.poll() is None

    def _find(self):
        """The first process: that whose program is systemd, below ours."""
        below = [self.process.pid]
        for pid in below:
            try:
                below += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
            except FileNotFoundError:
                pass
        return None

    def run(self, *command):
        self.first = self.first or self._find()
        if self.first is None:
            return subprocess.CompletedProcess(command, 1, "", "it has not begun")
        return subprocess.run([*self.inside(), *command], capture_output=True, text=True, timeout=120)

    def inside(self):
        return ["nsenter", f"--target={self.first}", "--all", "--root", "--wd"]

    def do(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, (done, self.log())
        return done.stdout

    def show(self, name, unit="splitmx.service"):
        return self.do("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def log(self, *which):
        return self.run("journalctl", *which, "--no-pager", "--output=cat", "--identifier=splitmx", "--identifier=systemd").stdout

    def end(self):
        """What it said."""
        if self.process.returncode is None or not self.process.stdin.closed:
            self.said = self.process.communicate(timeout=60)[1]
            os.rmdir(self.folder)
        return self.said


@pytest.fixture(scope="module")
def machine():
    """With what `make install` puts there, and what the README says next."""
    if not SYSTEMD.exists():
        pytest.skip("there is no systemd here")
    installed = tempfile.mkdtemp(prefix="splitmx-installed-", dir="/tmp")
    os.chmod(installed, 0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key not in ("MFLAGS", "BUILD")}
    subprocess.run(["make", "-s", "-o", "all", f"BUILD={BINARY.parent}", "install", f"DESTDIR={installed}"], cwd=REPOSITORY,
                   env=environment, check=True)
    machine = Machine(installed)
    try:
        if not machine.boot():
            pytest.skip(f"systemd cannot be started here: {machine.end()}")
        machine.do("systemd-sysusers", "splitmx.conf")
        machine.do("systemd-tmpfiles", "--create", "splitmx.conf")
        yield machine
    finally:
        machine.end()
        shutil.rmtree(installed)


@pytest.fixture
def serving(machine):
    machine.do("sh", "-c", f"cp {EXAMPLE}/*.yaml /etc/splitmx")
    machine.do("splitmx", "check")
    machine.run("systemctl", "reset-failed", "splitmx")  # starts are counted, too
    machine.do("systemctl", "restart", "splitmx")
    return machine


def test_without_a_configuration_it_fails_once_and_says_why(machine):
    assert machine.run("systemctl", "start", "splitmx").returncode == 1
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus"), machine.show("NRestarts")) == ("failed", "78", "0")
    assert "/etc/splitmx/splitmx.yaml: cannot be opened" in machine.log()
    assert "cannot be opened" in machine.log("--priority=err") and "<3>" not in machine.log()


def test_it_runs_as_its_user_with_one_capability_and_confined_as_without_systemd(serving):
    pid = serving.show("MainPID")
    status = dict(re.findall(r"^(\w+):\t(.*)$", serving.do("cat", f"/proc/{pid}/status"), re.M))
    user = serving.do("id", "-u", "splitmx").strip()
    assert status["Uid"].split() == [user] * 4 and user != "0"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000400"}
    assert status["NoNewPrivs"] == "1"
    confined = re.search(r"^confined +(.*)$", serving.do("splitmx", "status"), re.M)[1]
    assert "system calls by list" in confined and "not " not in confined
    assert serving.do("stat", "-c", "%U %a", "/var/lib/splitmx").split() == ["splitmx", "700"]
    serving.do("splitmx", "healthcheck")


def test_it_answers_on_port_25(serving):
    reply = serving.do("python3", "-c", 'import smtplib; c = smtplib.SMTP("127.0.0.1", 25, timeout=30); c.ehlo("client.test"); '
                       'print(c.mail("a@example.org")[0], c.rcpt("user@example.com"), c.rcpt("x@example.org")[0])')
    assert reply == "250 (451, b'4.4.1 local: connection refused') 550\n"


def test_a_reload_that_fails_is_told_and_the_old_goes_on(serving):
    pid = serving.show("MainPID")
    serving.do("systemctl", "reload", "splitmx")
    serving.do("sh", "-c", "echo 'x@example.com: lokal' >>/etc/splitmx/routes.yaml")
    assert serving.run("systemctl", "reload", "splitmx").returncode == 1
    assert "no relay is named `lokal`" in serving.log("--priority=err")
    assert (serving.show("ActiveState"), serving.show("MainPID")) == ("active", pid)


def test_a_crash_is_followed_by_a_start(serving):
    pid = serving.show("MainPID")
    serving.do("kill", "-KILL", pid)
    poll(lambda: serving.show("ActiveState") == "active" and serving.show("MainPID") != pid, "the next start", 60, 0.2)


def test_a_stop_drains_and_is_a_success(serving):
    serving.do("systemctl", "stop", "splitmx")
    assert (serving.show("ActiveState"), serving.show("Result")) == ("inactive", "success")
    assert "event=stopped" in serving.log() and "event=stopped" not in serving.log("--priority=notice")


def test_with_the_socket_unit_a_restart_refuses_nobody(serving):
    serving.do("systemctl", "stop", "splitmx")
    serving.do("systemctl", "enable", "--now", "splitmx.socket")
    try:
        with subprocess.Popen([*serving.inside(), "python3", "-c", CLIENTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as clients:
            poll(lambda: serving.show("ActiveState") == "active", "the start by a client", interval=0.1)
            pid = serving.show("MainPID")
            serving.do("systemctl", "restart", "splitmx")
            assert serving.show("MainPID") != pid
            served, wrong = clients.communicate(timeout=60)
        assert not wrong and int(served) > 0, wrong
    finally:
        serving.do("systemctl", "disable", "--now", "splitmx.socket")
