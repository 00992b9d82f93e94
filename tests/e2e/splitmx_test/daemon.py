"""The program under test as a process: configuration written, started, awaited, reloaded, ended and judged."""

import contextlib
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from .client import Client, Gone
from .dns import dns_server
from .waiting import PATIENCE, Board, free_port, poll

REPOSITORY = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("SPLITMX_BIN", REPOSITORY / "build" / "splitmx")).absolute()
SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:|MemorySanitizer|ThreadSanitizer")
START_PATIENCE = 30.0
WORKERS = int(os.environ.get("SPLITMX_TEST_WORKERS", 2))


def is_sanitized():
    program = BINARY.read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


def yaml(value, indent=0):
    """Block YAML for mappings, flow for lists; strings double-quoted where plain ones could be misread."""
    pad = "  " * indent
    if isinstance(value, dict):
        if not value:
            return " {}\n"
        lines = []
        for key, item in value.items():
            lines.append(f"{pad}{_scalar(key)}:{yaml(item, indent + 1)}")
        return ("\n" if indent else "") + "".join(lines)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = ["{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in i.items()) + "}" for i in value]
        return "\n" + "".join(f"{pad}- {item}\n" for item in items)
    return f" {_flow(value)}\n"


def _flow(value):
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    return _scalar(value)


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./-]*", value) else json.dumps(value)


class Result:
    """What a command came to."""

    def __init__(self, completed):
        self.status = completed.returncode
        self.out, self.err = completed.stdout, completed.stderr
        assert not SANITIZER.search(self.err), self.err

    def __repr__(self):
        return f"<status {self.status}\nout: {self.out}\nerr: {self.err}>"


def splitmx(*arguments, timeout=60, cwd=None, user=None, input=None):
    """Runs a command to its end."""
    completed = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, timeout=timeout, text=True,
                               errors="replace", cwd=cwd, user=user, input=input)
    return Result(completed)


class Folder:
    """A folder with splitmx.yaml and route files that the daemon's user can read."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="splitmx-e2e-", dir="/tmp"))
        self.user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.path.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(self.path, *self._ids())

    def _ids(self):
        entry = pwd.getpwnam(self.user)
        return entry.pw_uid, entry.pw_gid

    @property
    def config_path(self):
        return self.path / "splitmx.yaml"

    def write(self, name, text):
        """Replaces a file at once, as an editor does: a reader sees the old or the new one, never half."""
        target = self.path / name
        part = target.with_name(target.name + ".part")
        part.write_bytes(text if isinstance(text, bytes) else text.encode())
        part.chmod(0o644)
        part.rename(target)
        return target

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Daemon:
    """
    Daemon(routes={...}, relays={...}, limits={...}): a running `splitmx run`.

    Keyword arguments are keys of splitmx.yaml with underscores for dashes; `routes` may be a mapping (routes.yaml), text (the
    same as text), and `map` is the text of a Postfix transport map. `text` is a whole splitmx.yaml instead.
    """

    def __init__(self, routes=None, map=None, start=True, environment=None, address="127.0.0.1", wrapper=(), **settings):
        self.folder = Folder()
        self.port = free_port(address)
        self.where = (address, self.port)
        self.hostname = settings.get("hostname", "mx.splitmx.test")
        self.settings = self._settings(settings)
        self.environment = environment or {}
        self.wrapper = list(wrapper)  # valgrind and its options, perhaps
        self.process, self.exit_status = None, None
        self.lines = []
        self.board = Board()
        self._expect_failure = False
        self.write_routes(routes, map)
        self.write_config()
        if start:
            try:
                self.start()
            except BaseException:
                self.destroy()
                raise

    # what it is told

    def _settings(self, given):
        host = f"[{self.where[0]}]" if ":" in self.where[0] else self.where[0]
        settings = {
            "hostname": self.hostname,
            "routes": "routes.yaml",
            "state-directory": "state",
            "user": self.folder.user,
            "workers": WORKERS,
            "listen": [{"address": f"{host}:{self.port}"}],
            "limits": {"connections-per-client": 2000},  # all clients of the tests are one address
            "dns": {"servers": [dns_server().address]},  # nobody waits for a name server of the machine
        }
        for key, value in given.items():
            key = key.replace("_", "-")
            if key in ("limits", "timeouts") and value is not None:
                value = {**settings.get(key, {}), **{k.replace("_", "-"): v for k, v in value.items()}}
            if value is None:
                settings.pop(key, None)
            else:
                settings[key] = value
        for relay in settings.get("relays", {}).values():
            relay.setdefault("identity", "none")  # says that we know: the upstream sees the proxy's address
        return settings

    def write_routes(self, routes=None, map=None):
        if map is not None:
            self.settings["routes"] = "transport"
            self.folder.write("transport", map)
        elif isinstance(routes, (str, bytes)):
            self.folder.write("routes.yaml", routes)
        else:
            self.folder.write("routes.yaml", yaml(routes or {"example.com": "local"}))

    def write_config(self, text=None, **changes):
        for key, value in changes.items():
            self.settings[key.replace("_", "-")] = value
        self.folder.write("splitmx.yaml", text if text is not None else yaml(self.settings))

    @property
    def config(self):
        return self.folder.config_path

    # life

    def start(self, listen_socket=None):
        """Starts it and returns when it says READY=1. A listening socket is passed as a service manager does."""
        self.lines = []
        self.exit_status = None
        notify_path = self.folder.path / "notify"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(notify_path))
            notify_path.chmod(0o777)
            environment = {**os.environ, **self.environment, "NOTIFY_SOCKET": str(notify_path)}
            program = f"{BINARY}-unfiltered" if self.wrapper[:1] == ["valgrind"] else BINARY
            command, passed = [*self.wrapper, str(program), "run", "-c", str(self.config)], ()
            if listen_socket is not None:  # the shell becomes splitmx: its pid is LISTEN_PID
                passed = (listen_socket.fileno(),)
                command = ["bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{passed[0]}', "bash", *command]
            self.process = subprocess.Popen(command, env=environment, pass_fds=passed,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            pidfd = os.pidfd_open(self.process.pid)  # before the reader may have waited for it
            self._reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
            self._reader.start()
            self._await_ready(notify, pidfd)
        return self

    def _await_ready(self, notify, pidfd):
        try:
            poller = select.poll()
            poller.register(notify, select.POLLIN)
            poller.register(pidfd, select.POLLIN)
            while True:
                ready = [fd for fd, _ in poller.poll(START_PATIENCE * 1000)]
                if notify.fileno() in ready:
                    if b"READY=1" in notify.recv(4096).split(b"\n"):
                        return
                else:
                    why = "ended" if pidfd in ready else f"was not ready after {START_PATIENCE} s"
                    if pidfd not in ready:
                        self.process.kill()
                    status = self.process.wait()
                    self._reader.join(PATIENCE)
                    self.process = None
                    raise AssertionError(f"splitmx run {why} (status {status}):\n" + "\n".join(self.lines))
        finally:
            os.close(pidfd)

    def _read_log(self, process):
        for line in process.stderr:
            with self.board:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
        with self.board:
            self.exit_status = process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def sighup(self):
        self.signal(signal.SIGHUP)

    def reload(self):
        """`splitmx reload`: asks, waits for the outcome."""
        return self.command("reload")

    def command(self, name, *arguments, **keywords):
        return splitmx(name, "-c", self.config, *arguments, **keywords)

    def term(self):
        self.signal(signal.SIGTERM)

    def await_exit(self, timeout=PATIENCE):
        self.board.wait_for(lambda: self.exit_status is not None, "the end of splitmx", timeout, lambda: self.lines[-5:])
        self.process = None
        return self.exit_status

    def kill(self):
        """SIGKILL, as a crash of the machine would."""
        self._expect_failure = True
        self.signal(signal.SIGKILL)
        self.await_exit()

    def freeze(self):
        """SIGSTOP; returns when every thread has stopped. It sees nothing of what is done meanwhile, and later all of it at once."""
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        poll(lambda: all((task / "stat").read_text().rsplit(")", 1)[1].split()[0] == "T" for task in tasks.iterdir()), "all threads to stop")

    @contextlib.contextmanager
    def frozen(self):
        self.freeze()
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def stop(self, timeout=PATIENCE):
        """SIGTERM and a clean end: status 0 and no sanitizer's report."""
        if self.process is not None:
            self.term()
            try:
                self.await_exit(timeout)
            except AssertionError:
                self.process.send_signal(signal.SIGABRT)
                self.await_exit()
                self.process = None
                raise AssertionError("splitmx did not end after SIGTERM; log:\n" + "\n".join(self.lines[-30:])) from None
        self.judge()

    def judge(self):
        report = [line for line in self.lines if SANITIZER.search(line)]
        assert not report, "\n".join(self.lines)
        if not self._expect_failure and self.exit_status is not None:
            assert self.exit_status == 0, f"splitmx ended with {self.exit_status}:\n" + "\n".join(self.lines[-30:])

    def destroy(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.folder.remove()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.destroy()

    # what it says and does

    def client(self, **keywords):
        return Client(self.where, **keywords)

    def send(self, message, *recipients, sender="sender@client.test"):
        """One message in a session of its own; the reply to its end of data."""
        with self.client() as client:
            reply = client.send_mail(message, *recipients, sender=sender)
            with contextlib.suppress(Gone, OSError):  # after some answers the session is over
                client.quit()
            return reply

    def await_log(self, fits, timeout=PATIENCE, count=1):
        """The count-th log line that holds the text `fits` (or for which it returns true)."""
        test = fits if callable(fits) else lambda line: fits in line

        def found():
            hits = [line for line in self.lines if test(line)]
            return hits[count - 1:count] or None

        return self.board.wait_for(found, f"log line {fits!r}", timeout, lambda: self.lines[-10:])[0]

    def fields(self, line):
        """The key=value pairs of a log line (logfmt)."""
        pairs = re.findall(r'(\w[\w.-]*)=("(?:\\.|[^"\\])*"|\S*)', line)
        return {key: value[1:-1] if value.startswith('"') else value for key, value in pairs}

    def pss(self):
        """
        Proportional set size of its own memory in bytes. Mapped files are left out: their share falls and rises by
        megabytes as other programs with the same libraries start and end.
        """
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(kilobytes) for kilobytes in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.M)) * 1024

    @property
    def by_landlock(self):
        """Whether the kernel keeps from it what was not in its folders at the start."""
        return self.status()["confinement"]["landlock"] > 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self):
        result = self.command("status", "--json")
        assert result.status == 0, result
        return json.loads(result.out)


@contextlib.contextmanager
def daemons(kind=Daemon):
    """start(...), which makes one of the kind: all of them are stopped at the end, judged by how, and their folders removed."""
    running = []

    def start(**settings):
        daemon = kind(**settings)
        running.append(daemon)
        return daemon

    try:
        yield start
        for daemon in running:
            daemon.stop(timeout=20)
    finally:
        for daemon in running:
            daemon.destroy()


def await_quiet(daemon, wanted, timeout=PATIENCE):
    """Until the daemon holds at most so many descriptors."""
    return poll(lambda: daemon.descriptors() <= wanted, f"at most {wanted} descriptors", timeout)
