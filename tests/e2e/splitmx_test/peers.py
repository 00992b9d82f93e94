"""Real servers and clients from Debian, each in a folder of its own: Postfix, Exim, swaks, msmtp, smtp-source."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from .daemon import REPOSITORY
from .waiting import PATIENCE, Timeout, free_port, poll

EXIM = REPOSITORY / "build" / "peers" / "exim" / "usr" / "sbin" / "exim4"


def prometheus_tool(name):
    """The path of `prometheus` or `promtool`, whether installed or not; where it is not, there is nothing at it."""
    return shutil.which(name) or str(REPOSITORY / "build" / "peers" / "prometheus" / "usr" / "bin" / name)


def smtp_answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            return sock.recv(4).startswith(b"220")
    except OSError:
        return False


class Peer:
    """A server with Maildirs below `mail/<local part>`; its user is nobody."""

    def __init__(self, name, recipients):
        self.name, self.recipients = name, recipients
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"splitmx-{name}-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.owner = pwd.getpwnam("nobody")
        self.mail = self.folder / "mail"
        self.mail.mkdir()
        os.chown(self.mail, self.owner.pw_uid, self.owner.pw_gid)
        self.process = None

    @property
    def next_hop(self):
        return f"smtp:[127.0.0.1]:{self.port}"

    def __enter__(self):
        try:
            self.start()
            poll(lambda: self.answers() or self.gave_up(), f"{self.name} to answer", timeout=20, interval=0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def answers(self):
        return smtp_answers(self.port)

    def gave_up(self):
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}: {self.log()}")
        return False

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in self.folder.glob("*log*") if p.is_file())

    def mailbox(self, user):
        """The messages of a user, as bytes, oldest first."""
        folder = self.mail / user / "new"
        files = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns) if folder.is_dir() else []
        return [file.read_bytes() for file in files]

    def await_mail(self, user, count=1, timeout=PATIENCE):
        try:
            poll(lambda: len(self.mailbox(user)) >= count, f"{count} messages for {user} at {self.name}", timeout)
        except Timeout as late:
            raise Timeout(f"{late}\n{self.log()}") from None
        return self.mailbox(user)


class Postfix(Peer):
    """
    Delivers to Maildirs by virtual(8); refuses unknown recipients with its own 550 5.1.1. Needs root. A recipient has one
    Maildir for all domains (of which there may be several, between spaces).

    `wrapper` is what starts it (such as `ip netns exec NAME`), `listeners` are lines of master.cf in place of the one smtpd.
    """

    def __init__(self, domain="example.com", recipients=("user",), name="postfix", wrapper=(), listeners=None, **settings):
        super().__init__(name, recipients)
        self.wrapper = list(wrapper)
        self.etc, self.queue, self.data = (self.folder / n for n in ("etc", "queue", "data"))
        for path in (self.etc, self.queue, self.data):
            path.mkdir(mode=0o755)
        postfix = pwd.getpwnam("postfix")
        os.chown(self.data, postfix.pw_uid, postfix.pw_gid)
        main = {
            "compatibility_level": "3.6",
            "queue_directory": self.queue, "data_directory": self.data,
            "maillog_file": "/dev/stdout",
            "myhostname": f"{name}.test", "mydestination": "", "mynetworks": "192.0.2.0/24",
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
            "virtual_mailbox_domains": domain, "virtual_mailbox_base": self.mail,
            "virtual_mailbox_maps": f"texthash:{self.etc}/recipients",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{self.owner.pw_uid}", "virtual_gid_maps": f"static:{self.owner.pw_gid}",
            "smtpd_recipient_restrictions": "reject_unauth_destination", "smtpd_relay_restrictions": "",
            "smtpd_client_connection_rate_limit": "0", "smtpd_client_connection_count_limit": "0",
            "smtpd_error_sleep_time": "0", "smtpd_peername_lookup": "no",
            "alias_maps": "", "local_recipient_maps": "", "biff": "no", "smtputf8_enable": "no",
            "message_size_limit": "104857600", "virtual_mailbox_limit": "0", "mailbox_size_limit": "0",
            "in_flow_delay": "0",
            **settings,
        }
        (self.etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        (self.etc / "recipients").write_text("".join(f"{user}@{one} {user}/\n" for one in domain.split() for user in recipients))
        services = list(listeners or [f"127.0.0.1:{self.port} inet n - n - 100 smtpd"])
        for service, kind, wakeup, process, program in (
                ("cleanup", "unix", "-", "0", "cleanup"), ("qmgr", "unix", "300", "1", "qmgr"),
                ("rewrite", "unix", "-", "-", "trivial-rewrite"), ("bounce", "unix", "-", "0", "bounce"),
                ("defer", "unix", "-", "0", "bounce"), ("trace", "unix", "-", "0", "bounce"),
                ("error", "unix", "-", "-", "error"), ("retry", "unix", "-", "-", "error"),
                ("discard", "unix", "-", "-", "discard"), ("virtual", "unix", "-", "20", "virtual"),
                ("anvil", "unix", "-", "1", "anvil"), ("scache", "unix", "-", "1", "scache"), ("tlsmgr", "unix", "1000?", "1", "tlsmgr"),
                ("proxymap", "unix", "-", "-", "proxymap"), ("postlog", "unix-dgram", "-", "1", "postlogd")):
            private = "n" if service in ("cleanup", "qmgr", "postlog") else "-"
            privileged = "n" if service == "virtual" else "-"
            services.append(f"{service} {kind} {private} {privileged} n {wakeup} {process} {program}")
        (self.etc / "master.cf").write_text("\n".join(services) + "\n")

    def start(self):
        output = open(self.folder / "log", "wb")
        with output:
            # start-fg makes the queue's folders and stays in front, so that it ends with the test.
            self.process = subprocess.Popen([*self.wrapper, "postfix", "-c", str(self.etc), "start-fg"],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            subprocess.run(["postfix", "-c", str(self.etc), "abort"], capture_output=True, timeout=30)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def exim_in(folder):
    """Exim runs itself again to deliver, as nobody: it has to find itself where nobody may look."""
    program = folder / "exim4"
    shutil.copyfile(EXIM, program)
    program.chmod(0o755)
    return program


class Exim(Peer):
    """Unpacked from its package by install.sh (it cannot be installed beside Postfix). Needs root."""

    def __init__(self, domain="example.com", recipients=("kingmail",), name="exim", tls=False, options=""):
        super().__init__(name, recipients)
        spool = self.folder / "spool"
        spool.mkdir()
        user, group = self.owner.pw_name, "nogroup"
        self.program = exim_in(self.folder)
        os.chown(spool, self.owner.pw_uid, self.owner.pw_gid)
        self.conf = self.folder / "exim.conf"
        self.conf.write_text(f"""
exim_user = {user}
exim_group = {group}
exim_path = {self.program}
deliver_drop_privilege = true
tls_advertise_hosts = {"*" if tls else ""}
never_users =
spool_directory = {spool}
log_file_path = {self.folder}/log-%s
primary_hostname = {name}.test
domainlist ours = {domain}
local_interfaces = 127.0.0.1
rfc1413_query_timeout = 0s
host_lookup =
dns_dnssec_ok = 0
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
queue_run_max = 20
message_size_limit = 100M
keep_environment =
timezone = UTC
{options}
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept domains = +ours
         verify = recipient
  deny message = 5.7.1 relay not permitted
begin routers
users:
  driver = accept
  domains = +ours
  local_parts = {" : ".join(recipients)}
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {self.mail}/$local_part_data
  create_directory
  maildir_format
  user = {user}
  group = {group}
begin retry
* * F,1h,1m
""")
        self.conf.chmod(0o644)
        os.chown(self.folder, self.owner.pw_uid, self.owner.pw_gid)

    def start(self):
        output = open(self.folder / "log-stderr", "wb")
        with output:
            # -odi: delivered before the answer's connection goes on, by the receiving process; no queue runner needed.
            self.process = subprocess.Popen([str(self.program), "-C", str(self.conf), "-bdf", "-odi", "-oX", f"127.0.0.1.{self.port}",
                                             "-oP", str(self.folder / "pid")],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


def in_front_of(received, sent):
    """
    The trace that servers put before a message in a Maildir (LF ends), unfolded; the message itself must be
    there unchanged: every octet from the first of what was sent.
    """
    wanted = sent.replace(b"\r\n", b"\n")
    assert received.endswith(wanted), f"changed on the way: {received!r}"
    head = received[:-len(wanted)].decode("latin-1")
    return re.sub(r"\n[ \t]+", " ", head).splitlines()


# Clients: each sends one message to the recipients and returns the completed process.


def swaks(port, sender, recipients, message, *options):
    body = message.replace(b"\r\n", b"\n").removesuffix(b"\n")  # swaks ends the last line itself
    return subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(port), "--from", sender, "--to", ",".join(recipients),
                           "--helo", "swaks.test", "--data", "-", *options], input=body, capture_output=True, timeout=60)


def msmtp(port, sender, recipients, message, *options):
    return subprocess.run(["msmtp", "--file=/dev/null", "--host=127.0.0.1", f"--port={port}", f"--from={sender}", "--tls=off",
                           "--auth=off", "--domain=msmtp.test", *options, "--", *recipients],
                          input=message.replace(b"\r\n", b"\n"), capture_output=True, timeout=60)


def smtp_source(port, *options, count=1, sessions=1, sender="source@client.test", recipient="user@example.com", timeout=120):
    return subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(count), "-f", sender, "-t", recipient, "-M", "source.test",
                           *options, f"inet:127.0.0.1:{port}"], capture_output=True, timeout=timeout, text=True)
