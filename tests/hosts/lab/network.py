"""
Hosts as network namespaces on one switch. Nothing of it is seen from outside: the switch is a bridge in a namespace
of its own, no host has a default route, and the namespace that the tests run in is left as it is.

Names begin with splitmx- and the test's pid, so that runs side by side do not meet. Should the run be killed, a
process that waits for just that (cleaner.py) ends what is in its namespaces.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
import sys

from splitmx_test.client import Client

from . import cleaner
from .cleaner import NAMESPACES, SETTINGS, namespaces, remove

PREFIX = "splitmx"
CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _set_namespace(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    """One namespace: `addresses` are "a.b.c.d/n" or IPv6 ones, the first of each family is the host's own."""

    def __init__(self, network, name, addresses):
        self.network, self.name, self.namespace = network, name, f"{network.prefix}-{name}"
        self.addresses = [address.split("/")[0] for address in addresses]
        self._networks = addresses

    @property
    def address(self):
        return self.addresses[0]

    @property
    def address6(self):
        return next(address for address in self.addresses if ":" in address)

    def make(self):
        _ip("netns", "add", self.namespace)
        if self.network.switch is None:
            return
        switch = self.network.switch.namespace
        _ip("link", "add", "eth0", "netns", self.namespace, "type", "veth", "peer", "name", self.name, "netns", switch)
        _ip("-n", switch, "link", "set", self.name, "master", "switch", "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        for address in self._networks:
            # An address may be used at once when nobody looks for a duplicate of it first.
            _ip("-n", self.namespace, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        _ip("-n", self.namespace, "link", "set", "eth0", "up")

    def write(self, name, text):
        """A file that commands inside see in /etc, such as resolv.conf."""
        folder = SETTINGS / self.namespace
        while not folder.is_dir():
            with contextlib.suppress(FileNotFoundError):  # another run has just removed the empty folder above
                folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def command(self, *arguments):
        """The command line that runs something inside (`ip` becomes the program: its pid is the program's)."""
        return ["ip", "netns", "exec", self.namespace, *map(str, arguments)]

    def run(self, *arguments, **keywords):
        return subprocess.run(self.command(*arguments), **{"capture_output": True, "timeout": 60, **keywords})

    @contextlib.contextmanager
    def inside(self):
        """The sockets that this thread makes here are this host's, and stay so."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NAMESPACES / self.namespace, os.O_RDONLY)
        try:
            _set_namespace(there)
            try:
                yield self
            finally:
                _set_namespace(back)
        finally:
            os.close(there)
            os.close(back)

    def client(self, where, **keywords):
        """A raw SMTP client on this host."""
        with self.inside():
            return Client(where, **keywords)


class Network:
    """with Network({"mx": ["192.0.2.10/24"], ...}) as network: network.hosts["mx"]."""

    def __init__(self, hosts, nameserver=None):
        self.prefix = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.switch = None
        self.nameserver = nameserver
        self.hosts = {name: Host(self, name, addresses) for name, addresses in hosts.items()}

    def __enter__(self):
        self._cleaner = subprocess.Popen([sys.executable, cleaner.__file__, self.prefix], stdin=subprocess.PIPE, text=True,
                                         start_new_session=True)
        try:
            switch = Host(self, "switch", [])
            switch.make()
            self.switch = switch
            _ip("-n", switch.namespace, "link", "add", "switch", "type", "bridge", "forward_delay", "0")
            _ip("-n", switch.namespace, "link", "set", "switch", "up")
            for host in self.hosts.values():
                host.make()
                host.write("hosts", "127.0.0.1 localhost\n::1 localhost\n")
                host.write("resolv.conf", f"nameserver {self.nameserver}\noptions timeout:1\n" if self.nameserver else "")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in namespaces(self.prefix):
            remove(name)
        self._cleaner.communicate("done")


def why_impossible():
    """Why namespaces with links between them cannot be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    if shutil.which("ip") is None:
        return "network namespaces are made by `ip` (package iproute2)"
    try:
        with Network({"probe": ["192.0.2.1/24", "2001:db8::1/64"]}) as network:
            done = network.hosts["probe"].run("true")
            return None if done.returncode == 0 else f"ip netns exec: {done.stderr.decode().strip()}"
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"
