"""Clients of every kind against listeners of every TLS mode, each of which judges the certificate by name."""

import smtplib

import pytest

from lab.clients import openssl, posttls_finger, swaks
from splitmx_test.client import Gone
from splitmx_test.messages import assert_relayed, message

MAY, IMPLICIT, ENCRYPT, NONE = 25, 465, 2525, 2526
LOCAL, TO = "10.89.0.25", "user@example.com"
CLIENTS = [openssl, posttls_finger, swaks]


@pytest.fixture(scope="module")
def splitmx(lab, module_daemon):
    # [::]:25 has no word of its own: with `tls:` set it is may.
    return module_daemon(
        listen=[{"address": f"[::]:{IMPLICIT}", "tls": "implicit"}, {"address": f"[::]:{ENCRYPT}", "tls": "encrypt"},
                {"address": f"[::]:{NONE}", "tls": "none"}],
        tls={"certificate": str(lab.mx_certificate.chain), "private-key": str(lab.mx_certificate.key)},
        relays={"local": {"next-hop": f"smtp:[{LOCAL}]"}}, routes={"example.com": "local"})


@pytest.fixture
def upstream(lab, start_server):
    return start_server(lab.local_host, "local.test", LOCAL)


@pytest.mark.parametrize("port", [MAY, IMPLICIT, ENCRYPT])
@pytest.mark.parametrize("client", CLIENTS)
def test_clients_find_the_certificate_in_order(lab, splitmx, client, port):
    said = client(lab, port=port, implicit=port == IMPLICIT)
    assert said.verified and said.version == "TLSv1.3", said


@pytest.mark.parametrize("client", CLIENTS)
def test_by_ipv6(lab, splitmx, client):
    assert client(lab, address=lab.mx.address6).verified


@pytest.mark.parametrize("port", [MAY, IMPLICIT])
@pytest.mark.parametrize("options, version", [
    (["-tls1_3"], "TLSv1.3"), (["-tls1_2"], "TLSv1.2"),
    (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], None), (["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"], None)])
def test_versions_from_1_2_on(lab, splitmx, port, options, version):
    said = openssl(lab, *options, port=port, implicit=port == IMPLICIT)
    assert said.version == version and said.verified is (version is not None), said


def test_starttls_is_not_offered_where_there_is_none(lab, splitmx):
    for client in CLIENTS:
        assert client(lab, port=NONE).version is None
    with splitmx.client(port=NONE) as plain:
        assert "STARTTLS" not in plain.capabilities.texts
        assert plain.cmd("STARTTLS").code in (502, 503, 454)


@pytest.mark.parametrize("port, options, verb", [
    (MAY, ["--tls"], "ESMTPS"), (ENCRYPT, ["--tls"], "ESMTPS"), (IMPLICIT, ["--tls-on-connect"], "ESMTPS"), (MAY, [], "ESMTP"),
    (NONE, [], "ESMTP")])
def test_swaks_sends_a_message(lab, splitmx, upstream, port, options, verb):
    done = lab.client.run("swaks", "--server", "192.0.2.10", "--port", port, "--helo", "swaks.test", "--from", "a@client.test", "--to", TO,
                          *options)
    assert done.returncode == 0, done.stdout
    received = upstream.only_message()
    assert received.recipients == [TO]
    field = received.data.split(b"\r\nDate:")[0].decode()
    assert f" with {verb} id " in field.replace("\r\n\t", " ").replace("\r\n ", " ")
    assert ("TLSv1.3" in field) is (verb == "ESMTPS")


@pytest.mark.parametrize("port", [MAY, ENCRYPT, IMPLICIT])
def test_smtplib_sends_a_large_message(lab, splitmx, upstream, port):
    sent = message(size=3_000_000)
    context = lab.ca.client_context()
    with lab.client.inside():
        if port == IMPLICIT:
            client = _SslByName("192.0.2.10", port, local_hostname="smtplib.test", context=context, timeout=10)
        else:
            client = smtplib.SMTP("192.0.2.10", port, local_hostname="smtplib.test", timeout=10)
    with client:
        if port != IMPLICIT:
            client._host = "mx.example.com"  # the name that starttls() asks for and checks
            client.starttls(context=context)
        client.ehlo()
        assert "starttls" not in client.esmtp_features
        client.sendmail("a@client.test", [TO], sent)
    field = assert_relayed(upstream.only_message().data, sent)
    assert "from smtplib.test (client.test [192.0.2.50]) by mx.example.com (splitmx) with ESMTPS id " in field
    assert "(TLSv1.3 " in field


class _SslByName(smtplib.SMTP_SSL):
    """SMTP_SSL that connects to an address and checks the name."""

    def _get_socket(self, host, port, timeout):
        self._host = "mx.example.com"
        return super()._get_socket(host, port, timeout)


def test_a_queueing_postfix_sends_in_tls(lab, splitmx, upstream):
    sender, sent = lab.senders[0], message()
    before = len(sender.log())
    sender.send(sent, TO)
    sender.await_empty_queue()
    sender.await_log("Trusted TLS connection established to mx.example.com[192.0.2.10]:25: TLSv1.3", after=before)
    received = upstream.only_message()
    assert received.data.endswith(sent) and b"with ESMTPS id" in received.data.split(b"by sender1.test")[0]


def test_encrypt_takes_no_mail_in_clear(splitmx, upstream):
    with splitmx.client(port=ENCRYPT) as client:
        assert "STARTTLS" in client.capabilities.texts
        assert client.mail() == "530 5.7.0"
        assert client.cmd("NOOP") == 250
        assert client.quit() == 221
    assert upstream.connections == []


def test_what_is_sent_behind_starttls_is_not_obeyed_in_tls(splitmx, upstream):
    """CVE-2011-0411: commands that somebody on the way put behind STARTTLS, in clear."""
    with splitmx.client() as client:
        client.send("STARTTLS\r\nMAIL FROM:<injected@client.test>\r\n")
        assert client.reply() == "554 5.5.1"
        with pytest.raises(Gone):
            client.reply()


@pytest.mark.parametrize("port", [MAY, IMPLICIT])
def test_what_is_no_handshake_ends_the_connection_and_nothing_else(lab, splitmx, upstream, port):
    with splitmx.client(port=port, hello=None, greet=port == MAY) as client:
        if port == MAY:
            client.cmd("EHLO client.test")
            assert client.cmd("STARTTLS") == 220
        client.send(b"this is no handshake\r\n" * 10)
        how, _ = client.await_end()
        assert how in ("fin", "rst")
    assert swaks(lab, port=port, implicit=port == IMPLICIT).verified
