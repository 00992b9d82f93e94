"""The path of mail under valgrind: no byte is read that was not written, none outside its block, and none is left behind."""

import os
import shutil

import pytest

from splitmx_test.client import stuff
from splitmx_test.daemon import REPOSITORY, is_sanitized
from splitmx_test.messages import assert_relayed, message
from splitmx_test.peers import smtp_source
from splitmx_test.tls import TlsClient
from splitmx_test.upstream import reply

VALGRIND = ["valgrind", "-q", "--vgdb=no", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=99",
            f"--suppressions={REPOSITORY}/tests/memcheck.supp"]
LOCAL, OTHER, KING = "user@example.com", "other@example.com", "kingmail@example.com"

pytestmark = [
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.skipif(is_sanitized(), reason="a sanitizer and valgrind exclude each other"),
]


@pytest.fixture
def town(start_daemon, start_upstream, start_tls_upstream, ca, mx_certificate):
    """Two relays in clear, one with TLS. What valgrind finds makes the status with which the daemon ends another than 0."""

    class Town:
        local, other = start_upstream("local.test"), start_upstream("other.test")
        king = start_tls_upstream("king.test", ca.issue("king.test"))
        daemon = start_daemon(
            wrapper=VALGRIND, tls=mx_certificate.settings, routes={LOCAL: "local", OTHER: "other", KING: "king"},
            relays={"local": {"next-hop": local.next_hop, "tls": "none"}, "other": {"next-hop": other.next_hop, "tls": "none"},
                    "king": {"next-hop": king.next_hop, "tls": "verify", "tls-name": "king.test", "ca-file": str(ca.file)}})

        def secure_client(self):
            return TlsClient(self.daemon.where, timeout=30).starttls(ca.client_context())

    return Town()


def test_the_path_of_mail(town):
    """In clear to one relay and to two, with TLS in and out, a split that does not settle, a reload, and a drain in mid-body."""
    daemon, sent = town.daemon, message(size=100_000)
    assert daemon.send(sent, LOCAL) == 250
    assert daemon.send(sent, LOCAL, OTHER) == 250
    with town.secure_client() as client:
        assert client.send_mail(sent, KING) == 250
    assert_relayed(town.king.only_message().data, sent)
    town.other.on("eod", reply("451 4.3.0 not now"), times=1)
    assert daemon.send(sent, LOCAL, OTHER) == 451  # and into the ledger
    assert daemon.reload().status == 0
    with town.secure_client() as client:
        client.begin(KING)
        client.send(stuff(sent)[:50_000])
        daemon.term()
        daemon.await_log("event=draining")
        client.send(stuff(sent)[50_000:] + b".\r\n")
        assert client.reply() == 250
    daemon.stop(timeout=60)


@pytest.mark.skipif("SPLITMX_SLOW" not in os.environ, reason="takes minutes; SPLITMX_SLOW=10000 runs it with that many messages")
def test_thousands_of_messages(town):
    for recipient in (LOCAL, OTHER):
        result = smtp_source(town.daemon.port, "-d", count=int(os.environ["SPLITMX_SLOW"]) // 2, sessions=10, recipient=recipient, timeout=1200)
        assert result.returncode == 0, result
    town.daemon.stop(timeout=60)
