"""
Fixtures of the tests between hosts: the lab of lab/, with real port 25, names and certificates, and splitmx in it.

Daemon, clients and scripted upstreams are those of the end-to-end tests beside this folder.
"""

import contextlib
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "e2e")]

from lab.laboratory import Counted, HostDaemon, Laboratory, scripted  # noqa: E402
from lab.network import why_impossible  # noqa: E402
from splitmx_test import daemon as daemon_module  # noqa: E402

# What the program does not do yet. Tests say with @needs("word") what they are about; taking a word away here
# brings them to life.
NOT_YET: set[str] = set()

WORDS = frozenset({"tls", "xclient", "proxy", "fallback", "unknown-recipient", "gmail", "health"})


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*words): features of the program, of those that NOT_YET may name")


def pytest_collection_modifyitems(items):
    impossible = why_impossible()
    if impossible is None and not daemon_module.BINARY.exists():
        impossible = f"{daemon_module.BINARY} is not built"
    for item in items:
        wanted = {word for mark in item.iter_markers("needs") for word in mark.args}
        assert wanted <= WORDS, f"{item.nodeid}: no such feature: {wanted - WORDS}"
        missing = sorted(wanted & NOT_YET)
        if impossible is not None:
            item.add_marker(pytest.mark.skip(reason=impossible))
        elif missing:
            item.add_marker(pytest.mark.skip(reason=f"not in this version: {', '.join(missing)}"))


@pytest.fixture(scope="session")
def lab():
    with Laboratory() as laboratory:
        yield laboratory


@contextlib.contextmanager
def _daemons(lab):
    running = []

    def start(**settings):
        daemon = HostDaemon(lab, **settings)
        running.append(daemon)
        return daemon

    try:
        yield start
        for daemon in running:
            daemon.stop(timeout=20)
    finally:
        for daemon in running:
            daemon.destroy()


@pytest.fixture
def start_daemon(lab):
    """start_daemon(routes=..., relays=...): splitmx on the host mx until the test ends, and judged then."""
    with _daemons(lab) as start:
        yield start


@pytest.fixture(scope="module")
def module_daemon(lab):
    """The same for all tests of a file."""
    with _daemons(lab) as start:
        yield start


@pytest.fixture
def start_server(lab):
    """start_server(lab.far, "king.test", "192.0.2.30"): a scripted server on port 25 until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda there, name, address="::", **settings: stack.enter_context(scripted(there, name, address, **settings))


@pytest.fixture
def gmail(lab):
    """The Gmail stand-in without rules, records or live connections."""
    lab.gmail.await_all_ended()
    lab.gmail.forget()
    return lab.gmail


@pytest.fixture
def local(lab):
    """The local Postfix, with what came to it since the test began."""
    return Counted(lab.local)
