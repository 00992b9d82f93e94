"""
Servers that queue mail, as senders: Debian's Postfix and Exim, of which a test asks and sees the same.

send() puts a message into the queue, where one attempt at it is made; run() makes an attempt at all that is queued and
returns when it is over; queue() tells who is still waited for, and why; settle() runs until nothing is left.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from splitmx_test import peers
from splitmx_test.waiting import poll

PATIENCE = 60  # seconds for one attempt at the whole queue


class Queueing:
    """What is the same for both: `name`, `log()` (of every delivery), and how a queue is brought to its end."""

    def settle(self, runs=12, until=lambda queue: not queue):
        """Attempts until the queue is as it should be (empty). How many it took."""
        for run in range(runs + 1):
            if run > 0:
                self.run()
            if until(self.queue()):
                return run
        raise AssertionError(f"after {runs} runs the queue of {self.name} is {self.queue()}\n{self.log()[-8000:]}")


class PostfixQueue(Queueing):
    """Of a lab.servers.Sender, whose own runs of its queue go on beside those that are asked for here."""

    def __init__(self, server):
        self.server, self.name, self.address = server, server.name, server.host.address

    def send(self, message, *recipients, sender="sender@client.test"):
        self.server.send(message, *recipients, sender=sender)
        self._await_rest({})

    def run(self):
        before = {entry["queue_id"]: self._attempts(entry["queue_id"]) for entry in self.server.entries()}
        self.server.command("postqueue", "-f")
        self._await_rest(before)

    def queue(self):
        """{recipient: why there was no delivery}."""
        return {one["address"]: one.get("delay_reason", "") for entry in self.server.entries() for one in entry["recipients"]}

    def log(self):
        return self.server.log()

    def forget(self):
        """What is queued is thrown away."""
        if self.server.entries():
            self.server.command("postsuper", "-d", "ALL")
            poll(lambda: not self.server.entries(), f"the queue of {self.name} to empty", PATIENCE)

    def _attempts(self, queue_id):
        return len(re.findall(rf" {queue_id}: from=.*\(queue active\)", self.log()))

    def _await_rest(self, before):
        """Until nothing is being delivered, and each of `before` has been once more since it was counted."""

        def rests():
            entries = self.server.entries()
            here = {entry["queue_id"] for entry in entries}
            return all(entry["queue_name"] == "deferred" for entry in entries) and \
                all(queue_id not in here or self._attempts(queue_id) > count for queue_id, count in before.items())

        poll(rests, f"the end of a queue run of {self.name}", PATIENCE, interval=0.03)


class EximQueue(Queueing):
    """
    Takes a message by its command line and delivers when it is told to run its queue, without a daemon. Needs root.

    `routes` names the hosts to ask in place of a domain's MX.
    """

    def __init__(self, host, name, routes=()):
        self.host, self.name, self.address = host, name, host.address
        self.folder = Path(tempfile.mkdtemp(prefix=f"splitmx-{name}-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.spool = self.folder / "spool"
        self.spool.mkdir()
        self.program = peers.exim_in(self.folder)
        self.conf = self.folder / "exim.conf"
        self.conf.write_text(f"""
exim_user = nobody
exim_group = nogroup
exim_path = {self.program}
deliver_drop_privilege = true
never_users =
spool_directory = {self.spool}
log_file_path = {self.folder}/log-%s
primary_hostname = {name}.test
disable_ipv6 = true
dns_dnssec_ok = 0
keep_environment =
timezone = UTC
begin routers
given:
  driver = manualroute
  domains = lsearch;{self.folder}/routes
  route_data = $domain_data
  transport = smtp
mx:
  driver = dnslookup
  transport = smtp
begin transports
smtp:
  driver = smtp
begin retry
* * F,1h,1s
""")
        (self.folder / "routes").write_text("".join(f"{domain}: {route}\n" for domain, route in dict(routes).items()))
        for path in (self.folder, self.spool):
            shutil.chown(path, "nobody", "nogroup")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, message, *recipients, sender="sender@client.test"):
        self._exim("-odq", "-oi", "-f", sender or "<>", "--", *recipients, input=message.replace(b"\r\n", b"\n"))
        self.run()

    def run(self):
        self._exim("-qff")

    def queue(self):
        """{recipient: why there was no delivery}."""
        waiting = re.findall(r"^          (\S+)$", self._exim("-bp"), re.M)  # a D before it: delivered
        return {recipient: self._reason(recipient) for recipient in waiting}

    def log(self):
        path = self.folder / "log-main"
        return path.read_text(errors="replace") if path.exists() else ""

    def forget(self):
        """What is queued is thrown away, and what is known of hosts and recipients."""
        shutil.rmtree(self.spool)
        self.spool.mkdir()
        shutil.chown(self.spool, "nobody", "nogroup")

    def _reason(self, recipient):
        deferred = re.findall(rf" == {re.escape(recipient)} (.*)$", self.log(), re.M)
        return deferred[-1] if deferred else ""

    def _exim(self, *arguments, **keywords):
        command = self.host.command(self.program, "-C", self.conf, *arguments)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, **keywords)
        assert done.returncode == 0, f"exim {arguments}: {done.stderr.decode()}"
        return done.stdout.decode()
