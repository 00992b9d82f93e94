"""Messages for tests, and what an upstream may have made of them: one Received field in front, nothing else."""

import itertools
import re

_numbers = itertools.count(1)

# Everything that a careless relay would change.
AWKWARD = (
    b"a line of 998 octets: " + b"x" * 976 + b"\r\n"
    b".\x41 dot in front\r\n"
    b"..two dots\r\n"
    b"trailing blanks  \t \r\n"
    b"\r\n\r\n"
    b"tab\there, 8-bit: \xc3\xa9\xe2\x82\xac and not UTF-8: \xff\xfe\r\n"
    b"From a line that mailboxes escape\r\n"
    b"control: \x01\x7f\x1b[31m\r\n"
    b". \r\n"
    b".." + b"." * 10 + b"\r\n"
    b"end\r\n"
)


def message(body=AWKWARD, subject="test", size=None):
    """A message with CRLF line ends and a Message-ID of its own; filled up to `size` octets if given."""
    number = next(_numbers)
    head = (
        f"From: Sender <sender@client.test>\r\nTo: somebody@example.com\r\nSubject: {subject}\r\n"
        f"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{number}.e2e@client.test>\r\n"
        f"X-Folded: one,\r\n\ttwo\r\n\r\n"
    ).encode()
    if size is None:
        return head + body
    line = b"0123456789abcdef" * 4 + b"0123456789\r\n"  # 76 octets
    filler = line * ((size - len(head)) // len(line) + 1)
    text = (head + filler)[:size - 2]
    return (text[:-1] + b"." if text.endswith(b"\r") else text) + b"\r\n"  # a line end cut in two would be a bare CR


def split_trace(data):
    """(the first field with its folded lines, the rest)."""
    match = re.match(rb"Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", data)
    assert match, f"no Received field in front: {data[:200]!r}"
    return match.group(0), data[match.end():]


def assert_relayed(received, sent):
    """The upstream's message is what was sent but for one Received field in front. Returns that field, unfolded."""
    field, rest = split_trace(received)
    if rest != sent:
        at = next((i for i, (a, b) in enumerate(zip(rest, sent)) if a != b), min(len(rest), len(sent)))
        raise AssertionError(f"bytes changed from octet {at} of {len(sent)} (arrived: {len(rest)}): "
                             f"{rest[max(0, at - 20):at + 40]!r} instead of {sent[max(0, at - 20):at + 40]!r}")
    return re.sub(rb"\r\n[ \t]+", b" ", field).decode("latin-1").rstrip("\r\n")
