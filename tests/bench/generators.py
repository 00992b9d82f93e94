"""Who sends: Postfix's smtp-source, or build/bench/load, which can do more and measures each message's time."""

import contextlib
import dataclasses
import json
import subprocess
import time

from peers import SENDER, USER, Trouble


@dataclasses.dataclass(frozen=True)
class Load:
    """What is sent. `keep`: messages a connection, 0 for as many as there are."""

    size: int = 4096
    sessions: int = 50
    keep: int = 1
    recipients: tuple = (USER,)
    starttls: bool = False

    @property
    def plain(self):
        """Whether smtp-source can send it."""
        return self.keep in (0, 1) and len(self.recipients) == 1 and not self.starttls


@dataclasses.dataclass(frozen=True)
class Sent:
    messages: int
    seconds: float
    p50: float = None  # of a message's time, seconds
    p99: float = None

    @property
    def rate(self):
        return self.messages / self.seconds


class SmtpSource:
    def send(self, load, port, messages):
        command = ["smtp-source", *([] if load.keep else ["-d"]), "-s", load.sessions, "-l", load.size, "-m", messages,
                   "-f", SENDER, "-t", load.recipients[0], f"127.0.0.1:{port}"]
        began = time.monotonic()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode != 0:
            raise Trouble(f"smtp-source: {done.stderr.strip()}")
        return Sent(messages, seconds)


class OwnLoad:
    def __init__(self, program, before=None):
        self.program, self.before = program, before  # `before` runs in the new process first

    def command(self, load, port):
        words = [self.program, "--connect", f"127.0.0.1:{port}", "--sessions", load.sessions, "--size", load.size,
                 "--keep", load.keep, "--sender", SENDER]
        for recipient in load.recipients:
            words += ["--recipient", recipient]
        return [str(word) for word in words + (["--starttls"] if load.starttls else [])]

    def send(self, load, port, messages):
        return self.run(load, port, "--messages", messages)

    def send_at_rate(self, load, port, rate, seconds):
        """Open loop: messages come when they are due, however long others take; a message's time is counted from then."""
        return self.run(load, port, "--rate", rate, "--seconds", max(1, round(seconds)))

    def run(self, load, port, *options):
        command = self.command(load, port) + [str(option) for option in options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=self.before)
        try:
            told = json.loads(done.stdout)
        except ValueError:
            raise Trouble(f"load ended with {done.returncode}: {done.stderr.strip()}") from None
        if told["failed"] or done.returncode != 0:
            raise Trouble(f"load: {told['failed']} messages failed: {told['failures']} {done.stderr.strip()}")
        latency = told["latency"]
        return Sent(told["messages"], told["seconds"], latency["p50"] / 1e6, latency["p99"] / 1e6)

    @contextlib.contextmanager
    def idle(self, port, sessions, starttls):
        """Sessions that have said EHLO and stay for the block."""
        command = self.command(Load(starttls=starttls), port) + ["--idle", str(sessions)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            if not process.stdout.readline().strip():
                raise Trouble(f"load could not open {sessions} sessions")
            yield
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
