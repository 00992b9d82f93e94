"""What a reload keeps of what was made with TLS (design: section 8)."""

import functools
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest

from lab.certificates import Certificate
from lab.laboratory import KING
from lab.servers import TlsScripted
from splitmx_test.messages import message

TO = "user@example.com"


class _Remembering(Certificate):
    """A server with one context, as real ones have: it knows its sessions again."""

    @functools.cached_property
    def _context(self):
        return super().server_context()

    def server_context(self):
        return self._context


@pytest.fixture(scope="module")
def certificate(lab):
    return lab.ca.issue("kingmailer.org")


@pytest.fixture
def king(lab, certificate):
    server = TlsScripted(lab.far, "kingmailer.org", _Remembering(certificate.chain, certificate.key), address=KING)
    yield server
    server.stop()


@pytest.fixture
def files(lab):
    """Copies of the lab's authority and of splitmx's certificate and key, which a test may change."""
    folder = Path(tempfile.mkdtemp(prefix="splitmx-tls-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copy(lab.ca.file, folder / "ca.pem")
    _copy_pair(lab.mx_certificate, folder)
    yield folder
    shutil.rmtree(folder)


def _copy_pair(issued, folder):
    shutil.copy(issued.chain, folder / "mx.pem")
    shutil.copy(issued.key, folder / "mx.key")
    os.chown(folder / "mx.key", 0, pwd.getpwnam("nobody").pw_gid)
    (folder / "mx.key").chmod(0o640)


@pytest.fixture
def start(start_daemon, files):
    """With one worker, so that it is known which pool a connection comes from."""
    return functools.partial(
        start_daemon, workers=1, routes={"example.com": "king"},
        tls={"certificate": str(files / "mx.pem"), "private-key": str(files / "mx.key")},
        relays={"king": {"next-hop": "smtp:[kingmailer.org]", "tls": "verify", "ca-file": str(files / "ca.pem")}})


def nothing(lab, files):
    pass


def touched(lab, files):
    for file in files.iterdir():
        file.write_bytes(file.read_bytes())


def own_certificate(lab, files):
    _copy_pair(lab.ca.issue("mx.example.com"), files)


def authority_in_place(lab, files):
    """As long as before, written over it."""
    text = (files / "ca.pem").read_bytes()
    (files / "ca.pem").write_bytes(text[:-1] + b" ")


def authority_replaced(lab, files):
    (files / "new.pem").write_bytes((files / "ca.pem").read_bytes() + b"# newer\n")
    (files / "new.pem").rename(files / "ca.pem")


CHANGES = pytest.mark.parametrize("change, kept", [
    (nothing, True), (touched, True), (own_certificate, True), (authority_in_place, False), (authority_replaced, False)])


def reload(splitmx):
    result = splitmx.reload()
    assert result.status == 0, result


@CHANGES
def test_an_idle_connection_is_kept_unless_what_verified_it_has_changed(lab, start, files, king, change, kept):
    splitmx = start()
    assert splitmx.send(message(), TO) == 250
    change(lab, files)
    reload(splitmx)
    assert splitmx.send(message(), TO) == 250
    assert len(king.connections) == (1 if kept else 2)
    assert all(connection.tls == "TLSv1.3" for connection in king.connections)


@CHANGES
def test_a_session_is_resumed_unless_what_verified_it_has_changed(lab, start, files, king, change, kept):
    splitmx = start(timeouts={"pool-idle": "50ms"})
    for _ in range(2):
        assert splitmx.send(message(), TO) == 250
        king.await_all_ended()
    change(lab, files)
    reload(splitmx)
    assert splitmx.send(message(), TO) == 250
    assert [connection.resumed for connection in king.connections] == [False, True, kept]


def test_an_authority_that_is_trusted_no_more_ends_what_it_vouched_for(lab, start, files, king):
    splitmx = start()
    assert splitmx.send(message(), TO) == 250
    shutil.copy(files / "mx.pem", files / "ca.pem")
    reload(splitmx)
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(TO) == "451 4.7.5"
    assert king.connections[0].ended == "quit"


def test_an_expired_certificate_is_warned_of_at_each_reload(lab, start, files, king):
    splitmx = start()
    _copy_pair(lab.ca.issue("mx.example.com", days=-1), files)
    for _ in range(2):
        result = splitmx.reload()
        assert result.status == 0 and "expired" in result.err + result.out, result
