"""A small SMTP server that keeps what it accepts in a Maildir: the demo's stand-in for a mail server.

It knows the mailboxes it is told and refuses all others at RCPT, as a mail server does.
"""

import os
import pathlib
import socketserver
import threading
import time

LIMIT = 64 * 1024 * 1024
LINE = 4096


class Session(socketserver.StreamRequestHandler):
    timeout = 300

    def handle(self):
        self.reset()
        try:
            self.say(220, f"{self.server.name} ESMTP stand-in")
            while (line := self.rfile.readline(LINE)).endswith(b"\n"):
                if not self.obey(line.decode("utf-8", "replace").rstrip("\r\n")):
                    break
        except OSError:
            pass  # the client went away or fell silent: what it had not finished is not kept

    def say(self, code, *lines):
        parts = [f"{code}{' ' if last else '-'}{text}\r\n" for text, last in self.marked(lines)]
        self.wfile.write("".join(parts).encode())

    @staticmethod
    def marked(lines):
        return [(text, place == len(lines) - 1) for place, text in enumerate(lines)]

    def reset(self):
        self.sender, self.recipients = None, []

    def obey(self, line):
        verb, _, argument = line.partition(" ")
        match verb.upper():
            case "EHLO":
                self.reset()
                self.say(250, self.server.name, "PIPELINING", "8BITMIME", f"SIZE {LIMIT}", "ENHANCEDSTATUSCODES")
            case "HELO":
                self.reset()
                self.say(250, self.server.name)
            case "MAIL":
                self.reset()
                self.sender = path_of(argument)
                self.say(250, "2.1.0 Sender ok")
            case "RCPT":
                self.rcpt(path_of(argument))
            case "DATA":
                return self.data()
            case "RSET":
                self.reset()
                self.say(250, "2.0.0 Ok")
            case "NOOP":
                self.say(250, "2.0.0 Ok")
            case "QUIT":
                self.say(221, "2.0.0 Bye")
                return False
            case _:
                self.say(502, "5.5.1 Not known here")
        return True

    def rcpt(self, path):
        if self.sender is None:
            self.say(503, "5.5.1 MAIL first")
        elif path.lower() in self.server.mailboxes:
            self.recipients.append(path)
            self.say(250, "2.1.5 Recipient ok")
        else:
            self.say(550, f"5.1.1 <{path}>: no such mailbox at {self.server.name}")

    def data(self):
        if not self.recipients:
            self.say(503, "5.5.1 RCPT first")
            return True
        self.say(354, "End with a dot on a line of its own")
        message, size = [], 0
        while (line := self.rfile.readline(LIMIT)) != b".\r\n":
            if not line.endswith(b"\n"):
                return False
            size += len(line)
            if size <= LIMIT:
                message.append(line[1:] if line.startswith(b".") else line)
        if size > LIMIT:
            self.say(552, "5.3.4 Too big")
        else:
            path = self.server.keep(self.sender, self.recipients, b"".join(message))
            self.say(250, f"2.0.0 Kept as {path.name}")
        self.reset()
        return True


def path_of(argument):
    """The address of "FROM:<a@b> SIZE=1"; as lenient as a stand-in may be."""
    return argument.partition("<")[2].partition(">")[0]


class StandIn(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, name, port, mailboxes, maildir, on_kept):
        self.name = name
        self.mailboxes = {mailbox.lower() for mailbox in mailboxes}
        self.maildir = pathlib.Path(maildir)
        self.on_kept = on_kept
        self.lock = threading.Lock()
        self.count = 0
        for folder in ("tmp", "new", "cur"):
            (self.maildir / folder).mkdir(parents=True, exist_ok=True)
        super().__init__(("127.0.0.1", port), Session)

    def keep(self, sender, recipients, message):
        """One file in the Maildir, as a delivery agent writes it: line ends are the system's own."""
        with self.lock:
            self.count += 1
            name = f"{int(time.time())}.{os.getpid()}_{self.count}.{self.name}"
        envelope = f"Return-Path: <{sender}>\n" + "".join(f"Delivered-To: {r}\n" for r in recipients)
        partial = self.maildir / "tmp" / name
        partial.write_bytes(envelope.encode("utf-8", "surrogateescape") + message.replace(b"\r\n", b"\n"))
        final = self.maildir / "new" / name
        partial.rename(final)
        self.on_kept(self.name, recipients, final)
        return final
