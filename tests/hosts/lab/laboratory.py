"""The lab as tests see it: who lives where, what their names are, and splitmx in the middle."""

import contextlib
import functools
import os
import pwd
import threading
from concurrent.futures import ThreadPoolExecutor

from splitmx_test.daemon import Daemon
from splitmx_test.waiting import Timeout

from .certificates import Authority
from .names import Names, alias, host, mx, null_mx
from .network import Network
from .queueing import EximQueue, PostfixQueue
from .servers import Gmail, Local, Scripted, Sender

# Documentation addresses are the internet; the local server is on a private network, which splitmx reaches too.
ADDRESSES = {
    "dns": ["192.0.2.53/24"],
    "mx": ["192.0.2.10/24", "2001:db8::10/64", "10.89.0.10/24"],
    "local": ["10.89.0.20/24", "10.89.0.21/24", "10.89.0.22/24", "10.89.0.25/24", "192.0.2.25/24"],
    "lower": ["192.0.2.20/24", "10.89.0.11/24"],
    "far": [f"192.0.2.{n}/24" for n in range(30, 40)] + ["2001:db8::30/64"],
    "sender1": ["192.0.2.41/24"],
    "sender2": ["192.0.2.42/24"],
    "sender3": ["192.0.2.43/24"],
    "client": ["192.0.2.50/24", "2001:db8::50/64", f"{Local.TURNED_AWAY}/24"],
    "gmail": [f"192.0.2.{n}/24" for n in range(101, 106)] + ["2001:db8::101/64"],
}
KING, KING6, TRAP = "192.0.2.30", "2001:db8::30", "192.0.2.39"
ROUTES = {"north.test": "mx1.test", "south.test": "mx1.test"}  # senders ask this host, by name, for these domains

RECORDS = [line for part in (
    host("mx.example.com", "192.0.2.10", "2001:db8::10"),
    host("lower.example.com", "192.0.2.20"),
    mx("example.com", (10, "mx.example.com"), (20, "lower.example.com")),
    host("sender1.test", "192.0.2.41"), host("sender2.test", "192.0.2.42"), host("sender3.test", "192.0.2.43"),
    # The same two hosts by names without IPv6, which the senders do not have: why a message waits is what the last host said.
    alias("mx1.test", "192.0.2.10"), alias("mx2.test", "192.0.2.20"),
    mx("pair.test", (10, "mx1.test"), (20, "mx2.test")),
    *(mx(name, (10, "mx1.test")) for name in ("one.test", "east.test", "west.test")),
    host("client.test", "192.0.2.50", "2001:db8::50"),
    # kingmailer.org receives its mail itself, whatever its MX says.
    host("kingmailer.org", KING), mx("kingmailer.org", (10, "trap.test")), host("trap.test", TRAP),
    host("aspmx.l.google.com", "192.0.2.101", "2001:db8::101"),
    *(host(f"alt{n}.aspmx.l.google.com", f"192.0.2.{101 + n}") for n in range(1, 5)),
    # Were these asked, mail for the built-in Gmail hosts would go astray.
    *(mx(name, (10, "trap.test")) for name in Gmail.HOSTS),
    host("null.test", TRAP), null_mx("null.test"),
) for line in part]


class HostDaemon(Daemon):
    """splitmx on the host mx (or another): [::]:25 and whatever else `listen` says, names by its resolv.conf, started as root."""

    def __init__(self, lab, listen=(), there=None, **settings):
        self.lab = lab
        there = there or lab.mx
        settings = {"hostname": "mx.example.com", "domains": ["example.com"], "dns": None, **settings}
        super().__init__(start=False, wrapper=there.command(), listen=[{"address": "[::]:25"}, *listen], **settings)
        self.where = (there.address, 25)
        try:
            self.start()
        except BaseException:
            self.destroy()
            raise

    def client(self, host=None, port=25, six=False, **keywords):
        """A raw client on the host "client" (or another), by IPv4 or IPv6."""
        where = (self.lab.mx.address6 if six else self.lab.mx.address, port)
        return (host or self.lab.client).client(where, **{"hello": "helo.client.test", **keywords})


class Laboratory:
    """with Laboratory() as lab. Servers that take a moment to start do so when a test first asks for them."""

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        try:
            network = self._stack.enter_context(Network(ADDRESSES, nameserver="192.0.2.53"))
            self.network = network
            for name, there in network.hosts.items():
                setattr(self, f"{name}_host" if name in ("dns", "local", "gmail") else name, there)
            self.names = self._stack.enter_context(Names(self.dns_host, RECORDS))
            self.ca = self._stack.enter_context(Authority())
            self._start_postfix()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    # certificates

    @functools.cached_property
    def mx_certificate(self):
        """splitmx's own. Its key is for the group of the user that splitmx switches to, and for nobody else."""
        certificate = self.ca.issue("mx.example.com")
        os.chown(certificate.key, 0, pwd.getpwnam("nobody").pw_gid)
        certificate.key.chmod(0o640)
        return certificate

    @functools.cached_property
    def wrong_name(self):
        return self.ca.issue("somebody.else.test")

    @functools.cached_property
    def expired(self):
        return self.ca.issue(*Gmail.HOSTS, days=-1)

    # servers

    @functools.cached_property
    def gmail(self):
        return self._stack.enter_context(Gmail(self.gmail_host, self.ca.issue(*Gmail.HOSTS)))

    @property
    def local(self):
        return self._postfix["local"].result()

    @property
    def senders(self):
        return [self._postfix[name].result() for name in ("sender1", "sender2")]

    @functools.cached_property
    def queues(self):
        """Senders by their makers' names."""
        return {"postfix": PostfixQueue(self.senders[0]),
                "exim": self._stack.enter_context(EximQueue(self.sender3, "sender3", ROUTES))}

    def _start_postfix(self):
        """Each takes seconds to start: they do so at once, while tests that need none of them run."""
        servers = {"local": Local(self.local_host, self.mx, ["user", "user2"]),
                   **{there.name: Sender(there, there.name, self.ca.file, ROUTES) for there in (self.sender1, self.sender2)}}
        starters = self._stack.enter_context(ThreadPoolExecutor(len(servers)))
        self._postfix = {name: starters.submit(self._enter, server) for name, server in servers.items()}

    def _enter(self, server):
        server.__enter__()
        with self._lock:
            self._stack.push(server)
        return server

    @property
    def gmail_relay(self):
        """The built-in rule, but that it trusts the lab's authority."""
        return {"ca-file": str(self.ca.file)}


class Counted:
    """What has come to the local server's mailboxes since the test began."""

    def __init__(self, server):
        self.server = server
        self.before = {user: len(server.mailbox(user)) for user in server.recipients}
        self.log_before = len(server.log())

    def new(self, user):
        return self.server.mailbox(user)[self.before[user]:]

    def await_new(self, user, count=1):
        try:
            mails = self.server.await_mail(user, self.before[user] + count)[self.before[user]:]
        except Timeout as late:
            raise Timeout(str(late)[-6000:]) from None
        assert len(mails) == count, f"{len(mails)} messages for {user} instead of {count}"
        return mails

    def await_log(self, *texts):
        return self.server.await_log(*texts, after=self.log_before)

    def assert_nothing(self):
        """Nothing queued, nothing in a mailbox: cleanup(8) logs every message that comes to have an id."""
        assert "postfix/cleanup" not in self.server.log()[self.log_before:], self.server.log()[self.log_before:]
        assert all(self.new(user) == [] for user in self.server.recipients)


@contextlib.contextmanager
def scripted(there, name, address="::", **settings):
    upstream = Scripted(there, name, address, **settings)
    try:
        yield upstream
    finally:
        upstream.stop()
