"""`make run`: splitmx on 127.0.0.1:2525 before two stand-in upstreams, and one message split between them.

demo.py [--once] PROGRAM. Started as root it goes on as nobody, in a temporary folder; otherwise in
build/demo. The mail stays there for you to look at.
"""

import argparse
import ctypes
import email.parser
import email.policy
import email.utils
import os
import pathlib
import pwd
import queue
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from standin import StandIn  # noqa: E402

SPLITMX, LOCAL, KINGMAILER = 2525, 2526, 2527
EXAMPLE = ("splitmx.yaml", "routes.yaml", "postfix-transport_map.cf")
USER, KING, STRANGER = "user@example.com", "kingmail@example.com", "stranger@example.com"
SENDER = "sender@example.net"
START_SECONDS, STOP_SECONDS = 15, 15


class Trouble(Exception):
    """Something the reader of the terminal has to know; the demo ends with status 1."""


def prepare(program):
    """A folder with the example in it, and the program where we may run it once we are nobody."""
    if os.getuid() != 0:
        folder = program.parent / "demo"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        copy_example(folder)
        return folder, program
    nobody = pwd.getpwnam("nobody")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="splitmx-demo-"))
    copy_example(folder)
    program = pathlib.Path(shutil.copy2(program, folder / "splitmx"))  # the checkout may be root's alone
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    "localhost".encode("idna")  # loaded on first use, and Python's own files may be root's alone too
    os.chdir(folder)
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
    return folder, program


def copy_example(folder):
    for name in EXAMPLE:
        shutil.copy(HERE / name, folder / name)


def check_ports():
    for port in (SPLITMX, LOCAL, KINGMAILER):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise Trouble(
                    f"port {port} of 127.0.0.1 is not free ({error.strerror}); another `make run`? "
                    f"`ss -ltnp 'sport = :{port}'` shows who has it"
                ) from None


class Daemon:
    """splitmx as a child that ends when we do, however we end."""

    def __init__(self, program, folder):
        self.log = folder / "splitmx.log"
        self.lines = queue.SimpleQueue()
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        death_signal = 1  # PR_SET_PDEATHSIG
        self.process = subprocess.Popen(
            [program, "run", "-c", folder / "splitmx.yaml"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: we end it in order
            preexec_fn=lambda: prctl(death_signal, signal.SIGTERM),
        )
        threading.Thread(target=self.copy, daemon=True).start()

    def copy(self):
        with open(self.log, "wb", buffering=0) as log:
            for line in self.process.stderr:
                log.write(line)
                self.lines.put(line.decode("utf-8", "replace").rstrip())

    def said(self):
        lines = []
        while not self.lines.empty():
            lines.append(self.lines.get())
        return lines

    def wait_ready(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                time.sleep(0.2)  # its last words are still on their way
                raise Trouble("\n  ".join([f"splitmx ended with status {self.process.returncode}:", *self.said()]))
            try:
                with socket.create_connection(("127.0.0.1", SPLITMX), timeout=2) as probe:
                    if probe.recv(4).startswith(b"220"):
                        probe.sendall(b"QUIT\r\n")
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise Trouble("\n  ".join([f"splitmx did not greet within {START_SECONDS} s:", *self.said()]))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def explain(program, folder):
    print("\nWhat the table says (splitmx route):\n")
    command = [program, "route", "-c", folder / "splitmx.yaml", USER, KING, STRANGER, "someone@example.org"]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    print("".join(f"  {line}\n" for line in told.stdout.splitlines()), end="")
    if told.returncode != 0:
        raise Trouble(f"splitmx route ended with status {told.returncode}")


def send_one():
    """One message to two recipients; beside them one that nobody knows and one that is not ours."""
    message = (
        f"From: Sender <{SENDER}>\r\nTo: {USER}, {KING}\r\nSubject: One message, two servers\r\n"
        f"Date: {email.utils.formatdate()}\r\nMessage-ID: {email.utils.make_msgid(domain='example.net')}\r\n\r\n"
        "This message came in one transaction and was handed to two servers while its sender waited.\r\n"
    )
    print("\nOne transaction:\n")
    with smtplib.SMTP("127.0.0.1", SPLITMX, local_hostname="client.example.net", timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        client.mail(SENDER)
        for recipient in (USER, KING, STRANGER, "someone@example.org"):
            code, words = client.rcpt(recipient)
            print(f"  RCPT TO:<{recipient}>".ljust(36), code, words.decode("utf-8", "replace"))
            if (code == 250) != (recipient in (USER, KING)):
                raise Trouble("that is not the answer the example should get")
        code, words = client.data(message)
        print("  end of data".ljust(36), code, words.decode("utf-8", "replace"))
        if code != 250:
            raise Trouble("the message was not accepted")


def show_copies(copies):
    wanted = {USER: "local", KING: "kingmailer"}
    print("\nWhere each copy went:\n")
    seen = {}
    for _ in wanted:
        try:
            name, recipients, path = copies.get(timeout=5)
        except queue.Empty:
            raise Trouble("a copy is missing") from None
        received = email.parser.Parser(policy=email.policy.compat32).parsestr(path.read_text())["Received"]
        print(f"  {', '.join(recipients)} is with {name}:\n    {path}\n    Received: {received}\n")
        seen.update(dict.fromkeys(recipients, name))
    if seen != wanted or not copies.empty():
        raise Trouble(f"expected each recipient once with its own server, got {seen}")


def serve(folder, daemon, copies):
    print(f"Serving on 127.0.0.1:{SPLITMX} until you press Ctrl-C. The configuration is in {folder};")
    print(f"change it and say: kill -HUP {daemon.process.pid}. The log:\n", flush=True)
    while daemon.process.poll() is None:
        for line in daemon.said():
            print(f"  {line}")
        while not copies.empty():
            name, recipients, path = copies.get()
            print(f"  -> {name} keeps a copy for {', '.join(recipients)}: {path}")
        sys.stdout.flush()
        time.sleep(0.2)
    raise Trouble("\n  ".join([f"splitmx ended with status {daemon.process.returncode}:", *daemon.said()]))


def demonstrate(program, once):
    check_ports()
    folder, program = prepare(program)
    copies = queue.SimpleQueue()
    upstreams, daemon = [], None
    try:
        for name, port, mailbox in (("local", LOCAL, USER), ("kingmailer", KINGMAILER, KING)):
            upstream = StandIn(name, port, [mailbox], folder / name, lambda *kept: copies.put(kept))
            threading.Thread(target=upstream.serve_forever, daemon=True).start()
            upstreams.append(upstream)
        daemon = Daemon(program, folder)
        daemon.wait_ready()
        print(f"splitmx      127.0.0.1:{SPLITMX}   {folder / 'splitmx.yaml'}")
        print(f"local        127.0.0.1:{LOCAL}   knows {USER}, Maildir {folder / 'local'}")
        print(f"kingmailer   127.0.0.1:{KINGMAILER}   knows {KING}, Maildir {folder / 'kingmailer'}")
        explain(program, folder)
        send_one()
        show_copies(copies)
        if not once:
            serve(folder, daemon, copies)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if daemon is not None:
            daemon.stop()
        for upstream in upstreams:
            upstream.shutdown()
            upstream.server_close()
        print(f"The mail and the log stay in {folder}.", flush=True)


def interrupted(_number, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description="splitmx before two stand-in upstreams")
    parser.add_argument("--once", action="store_true", help="end after the one message")
    parser.add_argument("program", type=pathlib.Path, help="build/splitmx")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        demonstrate(options.program.resolve(), options.once)
    except KeyboardInterrupt:
        return 0
    except (Trouble, OSError, smtplib.SMTPException, subprocess.SubprocessError) as error:
        sys.stdout.flush()
        print(f"make run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
