"""
What docker/compose.yaml makes, made by following its comments: the numbered steps are read from the file and said as they
stand there. Senders come from outside, by the published port; a second server has the name kingmailer.org.
"""

import os
import re
import shutil

from splitmx_test.client import Client
from splitmx_test.waiting import Timeout, poll

from engine import run

DOMAIN = "example.net"  # in the place of example.com, as step 2 says
OUTSIDE = "198.51.100.1"  # the address that this host has in the world
SENDER = "203.0.113.9"  # and a sender's
START = 60  # seconds: containers start, postscreen lets a new client wait for 6

# `docker compose` where it is a program of its own, without a terminal.
SHIM = """#!/bin/sh
docker={docker}
[ "$1" = compose ] || exec "$docker" "$@"
shift
verb=$1
case $verb in exec | run) shift; set -- "$verb" -T "$@" ;; esac
if "$docker" compose version >/dev/null 2>&1; then
    exec "$docker" compose "$@"
fi
exec docker-compose "$@"
"""


def image_of(repository, service):
    text = (repository / "docker" / "compose.yaml").read_text()
    return re.search(rf"^  {service}:\n    image: (\S+)$", text, re.M)[1]


def steps_of(text):
    """{number: [commands]} of the comment at the head of compose.yaml."""
    steps, number = {}, None
    for line in text.splitlines():
        head, command = re.match(r"# (\d+)\. ", line), re.match(r"# {8}(\S.*)", line)
        if head:
            number = int(head[1])
            steps[number] = []
        elif command and number is not None:
            steps[number].append(command[1])
        elif not line.startswith("#"):
            break
    return steps


class Town:
    def __init__(self, engine, repository):
        self.engine, self.repository = engine, repository
        self.folder = engine.folder / "mail"

    def __enter__(self):
        self.address_outside()
        self.make_shim()
        self.follow(1, lambda command: command.startswith("cp "), cwd=self.repository)
        self.follow(2)
        self.certificates()
        self.follow(4)
        self.kingmailer_starts()
        self.checked = self.follow(5)
        self.follow(6)
        self.mailserver, self.splitmx = self.service("mailserver"), self.service("splitmx")
        self.await_postfix(self.mailserver)
        self.await_postfix(self.kingmailer)
        return self

    def __exit__(self, *_):
        if (self.folder / "compose.yaml").exists():
            # Nothing is under way at the end of a test: what hangs is killed.
            self.shell("docker compose down --volumes --timeout 20", check=False)

    # ---- following the comments ----

    def make_shim(self):
        shim = self.engine.folder / "bin" / "docker"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(docker=shutil.which("docker")))
        shim.chmod(0o755)
        self.environment = {**self.engine.environment, "PATH": f"{shim.parent}:{os.environ['PATH']}"}

    def shell(self, command, cwd=None, **keywords):
        return run("sh", "-c", command, env=self.environment, cwd=cwd or self.folder, **keywords)

    def steps(self):
        copied = self.folder / "compose.yaml"
        return steps_of((copied if copied.exists() else self.repository / "docker" / "compose.yaml").read_text())

    def follow(self, step, which=lambda command: True, cwd=None):
        """Says the commands of a step; what they printed, errors too."""
        said = []
        for command in filter(which, self.steps()[step]):
            here = command.replace("~/mx", str(self.folder)).replace("YOUR.DOMAIN", DOMAIN)
            here = here.replace("/etc/letsencrypt", str(self.engine.folder / "letsencrypt"))
            done = self.shell(here, cwd=cwd)
            said.append(done.stdout + done.stderr)
        assert said, f"step {step} has no such command"
        return "\n".join(said)

    def certificates(self):
        live = self.engine.folder / "letsencrypt" / "live" / f"mx.{DOMAIN}"
        live.mkdir(parents=True)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN=mx.{DOMAIN}", "-addext", f"subjectAltName=DNS:mx.{DOMAIN},DNS:mail.{DOMAIN}",
            "-keyout", live / "privkey.pem", "-out", live / "fullchain.pem")

    def edit(self, path, wrong, right):
        """Replaces the file, as editors do."""
        path = self.folder / path
        text, count = re.subn(wrong, right, path.read_text())
        assert count == 1, f"{path}: {count} times {wrong}"
        part = path.with_name(path.name + ".part")
        part.write_text(text)
        part.rename(path)

    # ---- containers ----

    def service(self, name):
        return self.shell(f"docker compose ps -q {name}").stdout.strip()

    def kingmailer_starts(self):
        """Another host of the Internet: a name in the DNS of the network that compose makes."""
        self.shell("docker compose up --no-start")
        etc = self.engine.folder / "kingmailer"
        etc.mkdir()
        (etc / "postfix-accounts.cf").write_text(f"kingmail@{DOMAIN}|\nking2@{DOMAIN}|\n")
        self.kingmailer = self.engine.docker(
            "run", "--detach", "--network", self.network, "--network-alias", "kingmailer.org", "--hostname", "kingmailer.org", "--env", f"DOMAIN={DOMAIN}",
            "--volume", f"{etc}:/tmp/docker-mailserver", image_of(self.repository, "mailserver")).stdout.strip()

    @property
    def network(self):
        return f"{self.folder.name}_default"

    def address_of(self, container):
        return self.engine.inspect(container)["NetworkSettings"]["Networks"][self.network]["IPAddress"]

    def exec(self, container, *command, **keywords):
        return self.engine.docker("exec", container, *command, **keywords)

    def log(self, container):
        done = self.engine.docker("logs", container)
        return done.stdout + done.stderr

    def await_log(self, container, text, timeout=START):
        try:
            poll(lambda: text in self.log(container), f"{text!r} in the log", timeout, interval=0.1)
        except Timeout as late:
            raise Timeout(f"{late}\n{self.log(container)[-6000:]}") from None

    def await_postfix(self, container):
        self.await_log(container, "daemon started")

    def health(self):
        return self.engine.inspect(self.splitmx)["State"]["Health"]["Status"]

    def await_health(self, wanted="healthy"):
        try:
            poll(lambda: self.health() == wanted, f"{wanted} of the health check", START, interval=0.2)
        except Timeout as late:
            state = self.engine.inspect(self.splitmx)["State"]
            raise Timeout(f"{late}; {state}\n{self.log(self.splitmx)[-6000:]}") from None

    # ---- mail ----

    def address_outside(self):
        with self.engine.inside():
            for address in (OUTSIDE, SENDER):
                run("ip", "address", "add", f"{address}/32", "dev", "lo")

    def client(self, where=OUTSIDE, **keywords):
        """A sender, connected by the port that the host publishes. Its first recipient may wait for postscreen."""
        with self.engine.inside():
            return Client((where, 25), source=SENDER, timeout=START, **keywords)

    def mailbox(self, container, user):
        done = self.exec(container, "sh", "-c", f'for mail in /var/mail/{DOMAIN}/{user}/new/*; do cat "$mail"; printf "\\0"; done',
                         check=False)
        return [mail.encode() for mail in done.stdout.split("\0") if mail]

    def await_mail(self, container, user, sent):
        """Where and how often a message arrived is known by its Message-ID; it is asked for until it is there."""
        key = re.search(rb"Message-ID: (\S+)", sent)[1]
        try:
            return poll(lambda: [mail for mail in self.mailbox(container, user) if key in mail], f"mail for {user}", START, interval=0.1)
        except Timeout as late:
            raise Timeout(f"{late}\n{self.log(container)[-6000:]}") from None
