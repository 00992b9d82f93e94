"""Conditions that tests wait for. Nothing here sleeps and hopes: a waiter wakes when something was recorded."""

import contextlib
import os
import random
import resource
import socket
import threading
import time

PATIENCE = float(os.environ.get("SPLITMX_TEST_PATIENCE", 10))  # seconds until a test gives up on an event


class Timeout(AssertionError):
    """What was waited for did not come. An assertion, so that pytest shows it as a failed test."""


class Board:
    """A condition with a clock: state changes under `with board:`, waiters see every change."""

    def __init__(self):
        self._condition = threading.Condition(threading.RLock())

    def __enter__(self):
        self._condition.acquire()
        return self

    def __exit__(self, *_):
        self._condition.notify_all()
        self._condition.release()

    def wait_for(self, predicate, what, timeout=PATIENCE, state=None):
        """Returns predicate()'s first true value; `state` is called for the message when time is up."""
        deadline = time.monotonic() + timeout
        with self._condition:
            while True:
                value = predicate()
                if value:
                    return value
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    value = predicate()
                    if value:
                        return value
                    seen = f"; seen: {state()}" if state else ""
                    raise Timeout(f"waited {timeout:g} s for {what}{seen}")


def poll(predicate, what, timeout=PATIENCE, interval=0.01):
    """For things that cannot be awaited (another program's files): asks again and again."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"waited {timeout:g} s for {what}")
        time.sleep(interval)


@contextlib.contextmanager
def many_files(count):
    """Room for so many sockets of the test's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > count + 500, f"no process may open {count} files here (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


_given_out = set()

# pytest's workers, and who runs beside them, draw from ports of their own: a server that is stopped for a while, or not yet
# started, finds its port free.
PORTS, SHARES = range(10000, 32000), 8


def _own_ports():
    worker = os.environ.get("PYTEST_XDIST_WORKER", f"gw{SHARES - 1}")
    return PORTS[int(worker[2:]) % SHARES::SHARES]


def free_port(address="127.0.0.1"):
    """A port below the ephemeral range, so that no outgoing connection of the tests takes it meanwhile."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    own = _own_ports()
    if len(_given_out) > len(own) / 2:  # those of long ago
        _given_out.clear()
    while True:
        port = random.SystemRandom().choice(own)
        if port in _given_out:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        _given_out.add(port)
        return port
