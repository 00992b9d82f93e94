"""Certificates of the listeners: which is shown, and what a reload makes of them (design: sections 3 and 8)."""

import os
import re
import ssl

import pytest

from splitmx_test.client import Gone
from splitmx_test.messages import message
from splitmx_test.tls import Cutter, TlsClient
from splitmx_test.waiting import free_port

USER = "user@example.com"
NAME = "mx.splitmx.test"


@pytest.fixture(scope="session")
def ecdsa(ca):
    return ca.issue(NAME)


@pytest.fixture(scope="session")
def rsa(ca):
    return ca.issue(NAME, kind="rsa")


@pytest.fixture(scope="session")
def second(ca):
    return ca.issue(NAME, "second.test")


def der(certificate):
    return ssl.PEM_cert_to_DER_cert(certificate.chain.read_text())


@pytest.fixture
def start(start_daemon, start_upstream):
    """A daemon with copies of the certificates in its folder, so that tests can change them in place."""

    def start(*certificates, listen="may", **settings):
        upstream = start_upstream("local.test")
        daemon = start_daemon(start=False, workers=1, relays={"local": {"next-hop": upstream.next_hop}}, routes={"example.com": "local"}, **settings)
        for number, certificate in enumerate(certificates):
            put(daemon, certificate, number)
        tls = [{"certificate": f"chain{n}.pem", "private-key": f"key{n}.pem"} for n in range(len(certificates))]
        configure(daemon, tls=tls, listen=listen)
        daemon.start()
        return daemon

    return start


def configure(daemon, tls=None, listen=None):
    if tls is not None:
        daemon.settings["tls"] = tls
        if not tls:
            del daemon.settings["tls"]
    if listen is not None:
        daemon.settings["listen"] = [{"address": f"127.0.0.1:{daemon.port}", "tls": listen}]
    daemon.write_config()


def put(daemon, certificate, number=0):
    daemon.folder.write(f"chain{number}.pem", certificate.chain.read_bytes())
    key = daemon.folder.write(f"key{number}.pem.new", certificate.key.read_bytes())
    key.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(key, *daemon.folder._ids())
    key.rename(daemon.folder.path / f"key{number}.pem")


def shown(daemon, context):
    with TlsClient(daemon.where).starttls(context) as client:
        assert client.cmd("NOOP") == 250
        return client.certificate


def only(ca, ciphers):
    context = ca.client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers)
    return context


# RSA beside ECDSA


def test_each_client_is_shown_what_it_can_verify(start, ca, rsa, ecdsa):
    for pair in ((rsa, ecdsa), (ecdsa, rsa)):
        daemon = start(*pair)
        assert shown(daemon, only(ca, "ECDHE-RSA-AES128-GCM-SHA256")) == der(rsa)
        assert shown(daemon, only(ca, "ECDHE-ECDSA-AES128-GCM-SHA256")) == der(ecdsa)
        assert shown(daemon, ca.client_context()) in (der(rsa), der(ecdsa))


def test_who_can_verify_neither_is_refused(start, ca, rsa):
    daemon = start(rsa)
    with pytest.raises(ssl.SSLError):
        shown(daemon, only(ca, "ECDHE-ECDSA-AES128-GCM-SHA256"))
    assert shown(daemon, ca.client_context()) == der(rsa)


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "NULL-SHA256:@SECLEVEL=0", "ADH-AES128-SHA:@SECLEVEL=0"])
def test_ciphers_without_forward_secrecy_are_not_spoken(start, ca, rsa, ciphers):
    with pytest.raises(ssl.SSLError):
        shown(start(rsa), only(ca, ciphers))


@pytest.mark.parametrize("name", [None, NAME, "unknown.test", "second.test"])
def test_the_name_asked_for_changes_nothing(start, ca, ecdsa, name):
    daemon = start(ecdsa)
    with TlsClient(daemon.where, name=name).starttls(ca.client_context()) as client:
        assert client.certificate == der(ecdsa)


def test_minimum_version(start, ca, ecdsa):
    daemon = start(ecdsa)
    configure(daemon, tls=[{"certificate": "chain0.pem", "private-key": "key0.pem", "minimum-version": "1.3"}])
    assert daemon.reload().status == 0
    with pytest.raises(ssl.SSLError):
        shown(daemon, ca.client_context(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert shown(daemon, ca.client_context()) == der(ecdsa)


@pytest.mark.threads
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_resume_their_sessions(start, ca, ecdsa, version):
    daemon = start(ecdsa)
    context = ca.client_context(maximum_version=version)
    with TlsClient(daemon.where).starttls(context) as client:
        assert client.cmd("NOOP") == 250
        kept = client.sock.session
    with TlsClient(daemon.where) as client:
        assert client.cmd("STARTTLS") == 220
        client.sock = context.wrap_socket(client.sock, server_hostname=NAME, session=kept)
        assert client.cmd("EHLO client.test") == 250
        assert client.sock.session_reused


# Reloads


def test_a_changed_certificate_is_shown_after_a_reload_and_not_before(start, ca, ecdsa, second):
    daemon = start(ecdsa)
    with TlsClient(daemon.where).starttls(ca.client_context()) as old:
        put(daemon, second)
        assert shown(daemon, ca.client_context()) == der(ecdsa)
        assert daemon.reload().status == 0
        assert shown(daemon, ca.client_context()) == der(second)
        assert old.send_mail(message(), USER) == 250, "sessions go on"


@pytest.mark.parametrize("listen", ["may", "implicit"])
def test_a_handshake_under_way_ends_as_it_began(start, ca, ecdsa, second, listen):
    daemon = start(ecdsa, listen=listen)
    client = TlsClient(daemon.where, hello=None, greet=listen == "may")
    if listen == "may":
        client.cmd("EHLO client.test")
        assert client.cmd("STARTTLS") == 220
    cutter = Cutter(client.sock, ca.client_context())
    last = cutter.last_flight()
    put(daemon, second)
    assert daemon.reload().status == 0
    cutter.put(last)
    if listen == "implicit":
        assert cutter.reply().startswith("220 ")
    cutter.put(cutter.seal("EHLO client.test\r\n"))
    assert cutter.reply().startswith("250-")
    assert cutter.tls.getpeercert(binary_form=True) == der(ecdsa)


def nonsense(daemon, _):
    daemon.folder.write("chain0.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def empty(daemon, _):
    daemon.folder.write("chain0.pem", "")


def another_key(daemon, second):
    put(daemon, second)
    daemon.folder.write("chain0.pem", (daemon.folder.path / "chain0.pem").read_bytes()[::-1])


def key_of_another(daemon, second):
    chain = (daemon.folder.path / "chain0.pem").read_bytes()
    put(daemon, second)
    daemon.folder.write("chain0.pem", chain)


def chain_gone(daemon, _):
    (daemon.folder.path / "chain0.pem").unlink()


def key_gone(daemon, _):
    (daemon.folder.path / "key0.pem").unlink()


def key_for_everyone(daemon, _):
    (daemon.folder.path / "key0.pem").chmod(0o644)


def key_for_root(daemon, _):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(daemon.folder.path / "key0.pem", 0, 0)


def key_is_a_folder(daemon, _):
    (daemon.folder.path / "key0.pem").unlink()
    (daemon.folder.path / "key0.pem").mkdir()


def key_encrypted(daemon, _):
    key_gone(daemon, _)
    daemon.folder.write("key0.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").chmod(0o640)


def no_tls_at_all(daemon, _):
    configure(daemon, tls=[])


BROKEN = [nonsense, empty, another_key, key_of_another, chain_gone, key_gone, key_for_everyone, key_for_root, key_is_a_folder, key_encrypted,
          no_tls_at_all]


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_broken_certificate_fails_the_reload_and_changes_nothing(start, ca, ecdsa, second, break_it):
    daemon = start(ecdsa)
    break_it(daemon, second)
    for _ in range(2):
        result = daemon.reload()
        assert result.status == 1 and re.search(r"splitmx\.yaml:\d+:\d+: |(chain|key)0\.pem", result.err), result
        assert shown(daemon, ca.client_context()) == der(ecdsa)
    with TlsClient(daemon.where).starttls(ca.client_context()) as client:
        assert client.send_mail(message(), USER) == 250


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_broken_certificate_fails_the_start(start, ecdsa, second, break_it):
    daemon = start(ecdsa)
    daemon.stop()
    break_it(daemon, second)
    daemon._expect_failure = True
    with pytest.raises(AssertionError, match=r"status 78"):
        daemon.start()
    assert any(re.search(r"splitmx\.yaml:\d+:\d+: ", line) for line in daemon.lines), daemon.lines
    if break_it is key_for_root:
        assert any("chmod" in line or "chgrp" in line for line in daemon.lines), daemon.lines


def test_one_of_two_broken_is_broken(start, ca, ecdsa, rsa):
    daemon = start(ecdsa, rsa)
    (daemon.folder.path / "key1.pem").chmod(0o644)
    assert daemon.reload().status == 1
    assert shown(daemon, only(ca, "ECDHE-RSA-AES128-GCM-SHA256")) == der(rsa)


def test_two_of_a_kind_are_refused(start, ca, ecdsa, second):
    daemon = start(ecdsa)
    put(daemon, second, 1)
    configure(daemon, tls=[{"certificate": f"chain{n}.pem", "private-key": f"key{n}.pem"} for n in range(2)])
    result = daemon.reload()
    assert result.status == 1 and "same kind" in result.err
    assert shown(daemon, ca.client_context()) == der(ecdsa)


def test_an_expired_certificate_is_a_warning(start, ca, ecdsa):
    daemon = start(ecdsa)
    expired = ca.issue(NAME, days=-1)
    put(daemon, expired)
    result = daemon.reload()
    assert result.status == 0 and "expired" in result.err, result
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert shown(daemon, context) == der(expired)


# Listeners that change


@pytest.mark.parametrize("before, after", [("may", "encrypt"), ("may", "implicit"), ("implicit", "may"), ("encrypt", "none"), ("none", "implicit"),
                                           ("implicit", "none")])
def test_a_listener_changes_its_mode_for_new_sessions(start, ca, ecdsa, before, after):
    daemon = start(ecdsa, listen=before)
    context = ca.client_context()

    def connect(mode):
        return TlsClient(daemon.where, implicit=context) if mode == "implicit" else TlsClient(daemon.where)

    old = connect(before)
    configure(daemon, listen=after)
    assert daemon.reload().status == 0
    with connect(after) as new:
        assert ("STARTTLS" in new.capabilities.texts) is (after in ("may", "encrypt"))
        if after in ("may", "encrypt"):
            assert new.mail().code == (530 if after == "encrypt" else 250)
            assert new.cmd("RSET") == 250
            new.starttls(context)
        assert new.send_mail(message(), USER) == 250
    if before in ("may", "encrypt"):
        old.starttls(context)
    assert old.send_mail(message(), USER) == 250, "a session goes on as it began"
    old.close()


@pytest.mark.parametrize("when", ["before STARTTLS", "in the handshake", "after it"])
def test_tls_that_is_taken_away_ends_no_session(start, ca, ecdsa, when):
    """No certificate is left when a session that was offered STARTTLS asks for it."""
    daemon = start(ecdsa)
    context = ca.client_context()
    with TlsClient(daemon.where) as old:
        last = None
        if when == "in the handshake":
            assert old.cmd("STARTTLS") == 220
            cutter = Cutter(old.sock, context)
            last = cutter.last_flight()
        elif when == "after it":
            old.starttls(context)
        configure(daemon, tls=[], listen="none")
        assert daemon.reload().status == 0
        if when == "in the handshake":
            cutter.put(last + cutter.seal("EHLO client.test\r\n"))
            assert cutter.reply().startswith("250-")
            return
        if when == "before STARTTLS":
            assert old.cmd("STARTTLS") == "454 4.7.0"
            assert old.cmd("EHLO client.test") == 250
        assert old.send_mail(message(), USER) == 250
    with TlsClient(daemon.where) as new:
        assert "STARTTLS" not in new.capabilities.texts


def test_implicit_tls_that_is_taken_away_behind_half_a_proxy_header(start, ca, ecdsa):
    daemon = start(ecdsa)
    daemon.write_config(listen=[{"address": f"127.0.0.1:{daemon.port}", "tls": "implicit", "proxy-protocol": ["127.0.0.0/8"]}])
    assert daemon.reload().status == 0
    client = TlsClient(daemon.where, hello=None, greet=False)
    client.send("PROXY TCP4 192.0.2.66 192.0.2")
    configure(daemon, tls=[], listen="none")
    assert daemon.reload().status == 0
    client.send(".1 40000 25\r\n")
    with pytest.raises((Gone, OSError)):
        client.secure(ca.client_context())
    with TlsClient(daemon.where) as other:
        assert other.send_mail(message(), USER) == 250


def test_a_listener_with_tls_is_added(start, ca, ecdsa):
    daemon = start(ecdsa, listen="none")
    port = free_port()
    daemon.write_config(listen=[*daemon.settings["listen"], {"address": f"127.0.0.1:{port}", "tls": "implicit"}])
    assert daemon.reload().status == 0
    with TlsClient(("127.0.0.1", port), implicit=ca.client_context()) as client:
        assert client.send_mail(message(), USER) == 250


@pytest.mark.threads
def test_reloads_while_clients_shake_hands(start, ca, ecdsa, second):
    daemon = start(ecdsa)
    context = ca.client_context()
    seen = set()
    for number in range(30):
        clients = [TlsClient(daemon.where) for _ in range(3)]
        put(daemon, (second, ecdsa)[number % 2])
        daemon.sighup()
        for client in clients:
            client.starttls(context)
            seen.add(client.certificate)
            assert client.send_mail(message(), USER) == 250
            client.quit()
    assert seen == {der(ecdsa), der(second)}
