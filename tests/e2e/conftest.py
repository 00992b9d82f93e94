"""Fixtures of the end-to-end tests. The library they use is splitmx_test/ beside this file."""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from splitmx_test import daemon as daemon_module  # noqa: E402
from splitmx_test.certificates import Authority  # noqa: E402
from splitmx_test.dns import dns_server  # noqa: E402
from splitmx_test.tls import Cutter, TlsClient, TlsUpstream  # noqa: E402
from splitmx_test.upstream import ScriptedUpstream  # noqa: E402
from splitmx_test.waiting import free_port  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_program: runs build/splitmx (or SPLITMX_BIN)")
    config.addinivalue_line("markers", "threads: workers and the other threads meet in it; `make tsan` runs these")
    config.addinivalue_line("markers", "measures: measures memory; left out under a sanitizer")


def pytest_collection_modifyitems(items):
    if not daemon_module.BINARY.exists():
        skip = pytest.mark.skip(reason=f"{daemon_module.BINARY} is not built")
        for item in items:
            if "test_library" not in str(item.fspath):
                item.add_marker(skip)
    elif daemon_module.is_sanitized():
        skip = pytest.mark.skip(reason="a sanitizer's memory is not the program's")
        for item in items:
            if item.get_closest_marker("measures"):
                item.add_marker(skip)


@contextlib.contextmanager
def _upstreams():
    running = []

    def start(name="upstream.test", kind=ScriptedUpstream, **settings):
        upstream = kind(name, **settings)
        running.append(upstream)
        return upstream

    try:
        yield start
    finally:
        for upstream in running:
            upstream.stop()


@pytest.fixture
def start_upstream():
    """start_upstream("local", ...): a ScriptedUpstream (or another `kind` of it) that ends with the test."""
    with _upstreams() as start:
        yield start


@pytest.fixture
def start_tls_upstream(start_upstream):
    """start_tls_upstream("king.test", certificate, ...): one that offers STARTTLS."""
    return lambda name, certificate, **settings: start_upstream(name, kind=TlsUpstream, certificate=certificate, **settings)


@pytest.fixture(scope="session")
def ca():
    """An authority for the whole run."""
    authority = Authority()
    yield authority
    authority.remove()


@pytest.fixture(scope="session")
def stranger():
    """Another one, which nobody trusts."""
    authority = Authority("Somebody else")
    yield authority
    authority.remove()


@pytest.fixture(scope="session")
def mx_certificate(ca):
    return ca.issue("mx.splitmx.test")


@pytest.fixture
def start_daemon(start_upstream):
    """start_daemon(routes=..., relays=...): a Daemon that ends with the test, and is judged then."""
    with daemon_module.daemons() as start:
        yield start


@pytest.fixture
def dns():
    """The name server that all daemons ask; what a test adds goes with it."""
    server = dns_server()
    yield server
    server.forget()


@pytest.fixture
def reachable_folder():
    """A folder that the daemon's user can look into (pytest's own are for root alone)."""
    folder = Path(tempfile.mkdtemp(prefix="splitmx-e2e-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Split:
    """The story of the README: one splitmx before three upstreams."""

    def __init__(self, start_daemon, start_upstream, **settings):
        self.local = start_upstream("local.test")
        self.kingmailer = start_upstream("kingmailer.test")
        self.third = start_upstream("third.test")
        self.daemon = start_daemon(
            relays={
                "local": {"next-hop": self.local.next_hop},
                "kingmailer": {"next-hop": self.kingmailer.next_hop},
                "third": {"next-hop": self.third.next_hop},
            },
            routes={
                "user@example.com": "local",
                "user2@example.com": "local",
                "nobody@example.com": "local",
                "kingmail@example.com": "kingmailer",
                "king2@example.com": "kingmailer",
                "example.com": "third",
            },
            **settings,
        )

    @property
    def upstreams(self):
        return [self.local, self.kingmailer, self.third]

    def client(self, **keywords):
        return self.daemon.client(**keywords)

    def fresh(self):
        """Rules and records away, what did not settle forgotten, as at the start of a test."""
        for upstream in self.upstreams:
            upstream.forget()
        cleared = self.daemon.command("ledger", "--clear", "all")
        assert cleared.status == 0, cleared
        return self


@pytest.fixture(scope="module")
def _module_split():
    with _upstreams() as start_upstream, daemon_module.daemons() as start_daemon:
        yield Split(start_daemon, start_upstream)


@pytest.fixture
def split(_module_split):
    """One daemon for all tests of a file, with the defaults; upstreams without rules or records."""
    yield _module_split.fresh()
    assert _module_split.daemon.exit_status is None, "splitmx ended:\n" + "\n".join(_module_split.daemon.lines[-30:])


@pytest.fixture
def start_split(start_daemon, start_upstream):
    """start_split(timeouts=..., limits=...): the same with a daemon of the test's own."""
    return lambda **settings: Split(start_daemon, start_upstream, **settings)


class Secured(Split):
    """The same with a certificate, and listeners of every TLS mode: client("encrypt"), client("implicit", ...)."""

    MODES = ("encrypt", "implicit", "none")

    def __init__(self, start_daemon, start_upstream, certificate, ca, **settings):
        super().__init__(start_daemon, start_upstream, start=False, tls=certificate.settings, **settings)
        self.context = ca.client_context()
        self.ports = {"may": self.daemon.port, **{mode: free_port() for mode in self.MODES}}
        self.daemon.write_config(listen=[{"address": f"127.0.0.1:{port}", **({} if mode == "may" else {"tls": mode})}
                                         for mode, port in self.ports.items()])
        self.daemon.start()

    def client(self, mode="may", **keywords):
        return TlsClient(("127.0.0.1", self.ports[mode]), **keywords)

    def secure_client(self, mode="may", context=None, **keywords):
        """Greeting, handshake and EHLO are done."""
        context = context or self.context
        return self.client(mode, implicit=context, **keywords) if mode == "implicit" else self.client(mode, **keywords).starttls(context)

    def cutter(self, mode="may", context=None):
        """What comes next is the handshake, by the test's own hand."""
        if mode == "implicit":
            return Cutter(self.client(mode, greet=False).sock, context or self.context)
        client = self.client(mode)
        assert client.cmd("STARTTLS") == 220
        return Cutter(client.sock, context or self.context)


@pytest.fixture(scope="module")
def _module_secured(mx_certificate, ca):
    with _upstreams() as start_upstream, daemon_module.daemons() as start_daemon:
        yield Secured(start_daemon, start_upstream, mx_certificate, ca)


@pytest.fixture
def secured(_module_secured):
    """One daemon with TLS for all tests of a file, with the defaults; upstreams without rules or records."""
    yield _module_secured.fresh()
    assert _module_secured.daemon.exit_status is None, "splitmx ended:\n" + "\n".join(_module_secured.daemon.lines[-30:])


@pytest.fixture
def start_secured(start_daemon, start_upstream, mx_certificate, ca):
    """start_secured(timeouts=...): the same with a daemon of the test's own."""
    return lambda **settings: Secured(start_daemon, start_upstream, mx_certificate, ca, **settings)
