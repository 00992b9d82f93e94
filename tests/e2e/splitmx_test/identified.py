"""Upstreams that take the client's identity by XCLIENT, as Postfix does."""

from .tls import TlsConnection, TlsUpstream

ALL = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"


class IdentifiedConnection(TlsConnection):
    """Takes XCLIENT where its upstream lists attributes, once. Rules may name the stage xclient."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.introduced = False

    def _offers(self):
        attributes = self.upstream.attributes
        return (*super()._offers(), *([f"XCLIENT {attributes}"] if attributes and not self.introduced else []))

    def _command(self, line):
        if not line.upper().startswith(b"XCLIENT"):
            super()._command(line)
        elif self._answer("xclient", line, f"220 {self.upstream.name} ESMTP"):
            self.introduced = b" ADDR=" in line

    def told(self):
        """What XCLIENT said, all lines together."""
        return dict(word.split("=", 1) for line in self.commands if line.startswith(b"XCLIENT") for word in line.decode().split(" ")[1:])


class Identified(TlsUpstream):
    """With a certificate it offers STARTTLS besides; without attributes no XCLIENT."""

    connection_type = IdentifiedConnection

    def __init__(self, name="upstream.test", attributes=ALL, **settings):
        self.attributes = attributes
        super().__init__(name, **settings)
