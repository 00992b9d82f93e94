"""Mail servers on hosts of the lab: scripted ones in clear text and with TLS, and Postfix as local server and as sender."""

import contextlib
import json
import re
import socket
import ssl
import subprocess

from splitmx_test import peers
from splitmx_test.upstream import EXTENSIONS, Connection, ScriptedUpstream, path_of
from splitmx_test.waiting import poll


class _Addressed(Connection):
    def __init__(self, upstream, number, sock):
        super().__init__(upstream, number, sock)
        self.client = self.address = None  # of both ends; None: gone already
        with contextlib.suppress(OSError):
            self.client, self.address = (end[0].removeprefix("::ffff:") for end in (sock.getpeername(), sock.getsockname()))


class Scripted(ScriptedUpstream):
    """A ScriptedUpstream on port 25 of one address of a host (default: of all its addresses)."""

    connection_type = _Addressed

    def __init__(self, host, name, address="::", **settings):
        self.host = host
        super().__init__(name, address=address, port=25, **settings)

    def start(self):
        with self.host.inside():
            return super().start()

    def clients(self):
        """The addresses that connections came from, in order."""
        with self.board:
            return [connection.client for connection in self.connections]


class _Tls(_Addressed):
    """
    Knows STARTTLS. `tls` is the version in use or None, `resumed` whether an earlier session was, `sni` the name asked
    for, `failed` why there was no handshake.
    """

    def __init__(self, upstream, number, sock):
        super().__init__(upstream, number, sock)
        self.tls = self.resumed = self.sni = self.failed = None

    def _offers(self):
        offers = list(self.upstream.extensions)
        return offers + ["STARTTLS"] if self.upstream.certificate is not None and self.tls is None else offers

    def _command(self, line):
        if line.upper() != b"STARTTLS" or "STARTTLS" not in self._offers():
            super()._command(line)
        elif self._answer("starttls", line, "220 2.0.0 Ready to start TLS"):
            self._handshake()

    def _handshake(self):
        if self._buffer:
            self.failed = f"bytes behind STARTTLS: {self._buffer!r}"
            self._end("tls")
        context = self.upstream.certificate_at(self.address).server_context()

        def keep_sni(_, name, __):
            self.sni = name

        context.sni_callback = keep_sni
        try:
            self.sock = context.wrap_socket(self.sock, server_side=True)
        except OSError as error:  # of which SSLError is one kind
            self.failed = str(error)
            self._end("tls")
        with self.upstream.board:
            self.tls, self.resumed = self.sock.version(), self.sock.session_reused
        self._reset_transaction()


class TlsScripted(Scripted):
    """
    Offers STARTTLS with a certificate, which may be another one at single addresses; None: it is not offered. Rules may
    name one stage more, starttls.
    """

    connection_type = _Tls

    def __init__(self, host, name, certificate, **settings):
        self.default_certificate = self.certificate = certificate
        self.certificates = {}
        super().__init__(host, name, **settings)

    def certificate_at(self, address):
        return self.certificates.get(address, self.certificate)

    def forget(self):
        super().forget()
        self.certificate = self.default_certificate
        self.certificates = {}


class _Gmail(_Tls):
    """What Gmail refuses at RCPT whoever asks (facts that its help pages and its answers give)."""

    def _rcpt(self, line):
        refusal = self._refusal(path_of(line)) if self._sender is not None else None
        if refusal is None:
            super()._rcpt(line)
        else:
            self._answer("rcpt", line, refusal)

    def _refusal(self, recipient):
        local, _, domain = recipient.lower().rpartition("@")
        if any(taken.lower().rpartition("@")[2] != domain for taken in self._recipients):
            return "451 4.3.0 Multiple destination domains per transaction is unsupported. Please try again. - gsmtp"
        if len(self._recipients) >= 100:
            return "452 4.5.3 Your message has too many recipients. - gsmtp"
        if local in self.upstream.unknown:
            return "550 5.1.1 The email account that you tried to reach does not exist. - gsmtp"
        return None


class Gmail(TlsScripted):
    """The stand-in for aspmx.l.google.com and its four alternatives; `unknown` are local parts without a mailbox."""

    connection_type = _Gmail
    HOSTS = ("aspmx.l.google.com", "alt1.aspmx.l.google.com", "alt2.aspmx.l.google.com", "alt3.aspmx.l.google.com",
             "alt4.aspmx.l.google.com")

    def __init__(self, host, certificate):
        self.unknown = {"absent", "absent2"}
        super().__init__(host, "mx.google.com", certificate, extensions=(*EXTENSIONS, "SMTPUTF8"))

    def assert_never_asked(self):
        with self.board:
            assert self.connections == [], f"Gmail was asked: {self.connections}"


class HostPostfix(peers.Postfix):
    """Debian's Postfix on a host; `log` is what it wrote to its log."""

    def __init__(self, host, name, recipients=(), listeners=(), ready=None, domain="example.com", **settings):
        self.host, self.ready = host, ready or host.address
        super().__init__(domain, recipients, name=name, wrapper=host.command(), listeners=listeners, myhostname=f"{name}.test",
                         inet_interfaces="all", inet_protocols="all", mynetworks="127.0.0.0/8", **settings)

    def answers(self):
        try:
            with self.host.inside(), socket.create_connection((self.ready, 25), timeout=1) as sock:
                return sock.recv(4).startswith(b"220")
        except OSError:
            return False

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def await_log(self, *texts, after=0, timeout=10):
        """The first line (past that many octets of log) that holds all the texts."""

        def found():
            return next((line for line in self.log()[after:].splitlines() if all(text in line for text in texts)), None)

        return poll(found, f"a line with {texts} in the log of {self.name}", timeout)


class Local(HostPostfix):
    """
    The mail server behind splitmx, on addresses of its host: smtpd that takes XCLIENT from splitmx, postscreen that
    wants PROXY, and smtpd that takes neither, on a private address and on a public one. postscreen turns away clients
    of one address. What has POISON as its subject is refused after the data, with the words REFUSAL.
    """

    TURNED_AWAY = "192.0.2.66"
    DOMAINS = "example.com one.test pair.test"
    POISON, REFUSAL = "poison", "Nobody here drinks that"

    def __init__(self, host, splitmx, recipients):
        self.xclient, self.proxy, self.plain = host.addresses[:3]
        self.public = host.addresses[-1]
        super().__init__(
            host, "local", recipients, domain=self.DOMAINS,
            listeners=[
                f"{self.xclient}:25 inet n - n - 100 smtpd -o smtpd_authorized_xclient_hosts={splitmx.addresses[-1]}",
                f"{self.proxy}:25 inet n - n - 1 postscreen -o postscreen_upstream_proxy_protocol=haproxy",
                f"{self.plain}:25 inet n - n - 100 smtpd", f"{self.public}:25 inet n - n - 100 smtpd",
                "smtpd pass - - n - - smtpd", "dnsblog unix - - n - 0 dnsblog", "tlsproxy unix - - n - 0 tlsproxy"],
            smtpd_peername_lookup="yes", smtpd_hard_error_limit="1000", smtpd_soft_error_limit="1000",
            postscreen_access_list=f"inline:{{ {{ {self.TURNED_AWAY} = reject }} }}, static:permit",
            postscreen_denylist_action="drop", postscreen_greet_wait="1s", postscreen_cache_map="",
            header_checks=f"regexp:{{ {{ /^Subject: {self.POISON}/ REJECT {self.REFUSAL} }} }}")

    def accepted(self, message_id):
        """How many messages with that id it has taken: those that came to its queue whole."""
        log = self.log()
        came = re.findall(rf"cleanup\[\d+\]: (\w+): message-id={re.escape(message_id)}$", log, re.M)
        return sum(f" {queue_id}: from=<" in log for queue_id in came)


class Sender(HostPostfix):
    """
    A queueing server that sends on by DNS (to `routes`, hosts for domains, without), tries again after two seconds, and
    takes mail from its own host on loopback.

    With one second a message may be due while its delivery still ends; qmgr(8) then leaves it alone for a minute.
    """

    def __init__(self, host, name, ca_file, routes=()):
        given = "".join(f" {{ {domain} = smtp:[{route}] }}" for domain, route in dict(routes).items())
        super().__init__(
            host, name, listeners=["127.0.0.1:25 inet n - n - 100 smtpd", "smtp unix - - n - - smtp",
                                   "showq unix n - n - - showq", "pickup unix n - n 60 1 pickup"],
            ready="127.0.0.1", virtual_mailbox_domains="", transport_maps=f"inline:{{{given} }}" if given else "", smtpd_recipient_restrictions="permit_mynetworks, reject",
            queue_run_delay="1s", minimal_backoff_time="2s", maximal_backoff_time="2s", smtp_host_lookup="dns",
            smtp_tls_security_level="may", smtp_tls_CAfile=ca_file, smtp_tls_loglevel="1", smtp_connection_cache_on_demand="no")

    def send(self, message, *recipients, sender="sender@client.test"):
        """Into the queue, which is all that a client is promised."""
        with self.host.client(("127.0.0.1", 25)) as client:
            reply = client.send_mail(message, *recipients, sender=sender)
            assert reply == 250, reply
            client.quit()

    def entries(self):
        """
        What is queued, as postqueue(1) lists it in JSON, when two looks agree: a file that goes from one queue to another
        while showq(8) reads them in turn is in none of them (6 looks of 16,000 at a queue that was never empty).
        """

        def look():
            return [json.loads(line) for line in self.command("postqueue", "-j").splitlines()]

        def alike():
            first, second = look(), look()
            return [second] if [one["queue_id"] for one in first] == [one["queue_id"] for one in second] else None

        return poll(alike, f"two looks at the queue of {self.name} to agree", 30)[0]

    def command(self, program, *arguments):
        command = [program, "-c", str(self.etc), *arguments]
        done = subprocess.run([*self.wrapper, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def await_empty_queue(self, timeout=20):
        try:
            poll(lambda: not self.entries(), f"the queue of {self.name} to empty", timeout, interval=0.05)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.log()[-8000:]}") from None
