"""
Fixtures of the tests between hosts: the lab of lab/, with real port 25, names and certificates, and splitmx in it.

Daemon, clients and scripted upstreams are those of the end-to-end tests beside this folder.
"""

import contextlib
import functools
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "e2e")]

from lab.laboratory import Counted, HostDaemon, Laboratory, scripted  # noqa: E402
from lab.network import why_impossible  # noqa: E402
from splitmx_test import daemon as daemon_module  # noqa: E402
from splitmx_test.daemon import daemons  # noqa: E402


def pytest_collection_modifyitems(items):
    impossible = why_impossible()
    if impossible is None and not daemon_module.BINARY.exists():
        impossible = f"{daemon_module.BINARY} is not built"
    if impossible is not None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=impossible))


def pytest_terminal_summary(terminalreporter):
    """How long it took: told, never judged. A test says it by record_property("took", text)."""
    took = [(report.nodeid.split("::")[-1], text) for report in terminalreporter.getreports("passed")
            for name, text in report.user_properties if name == "took"]
    for name, text in took:
        terminalreporter.write_line(f"{name}: {text}")


@pytest.fixture(scope="session")
def lab():
    with Laboratory() as laboratory:
        yield laboratory


@pytest.fixture
def start_daemon(lab):
    """start_daemon(routes=..., relays=...): splitmx on the host mx until the test ends, and judged then."""
    with daemons(functools.partial(HostDaemon, lab)) as start:
        yield start


@pytest.fixture(scope="module")
def module_daemon(lab):
    """The same for all tests of a file."""
    with daemons(functools.partial(HostDaemon, lab)) as start:
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
