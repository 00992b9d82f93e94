"""The lab itself: what tests conclude from its servers has to be so."""

import os
import select
import smtplib
import ssl
import subprocess
import sys

import pytest

from lab.clients import openssl, posttls_finger, swaks
from lab.names import A, AAAA, MX, host
from lab.network import Network, namespaces
from splitmx_test.messages import message
from splitmx_test.upstream import reply
from splitmx_test.waiting import poll

# The network.


def test_hosts_reach_each_other_and_nothing_else(lab):
    routes = lab.client.run("ip", "route").stdout.decode() + lab.client.run("ip", "-6", "route").stdout.decode()
    assert "192.0.2.0/24 dev eth0" in routes and "2001:db8::/64 dev eth0" in routes
    assert "default" not in routes
    assert lab.client.run("cat", "/etc/resolv.conf").stdout.startswith(b"nameserver 192.0.2.53\n")


def test_a_network_goes_with_its_block_even_when_that_fails():
    with pytest.raises(ZeroDivisionError):
        with Network({"one": ["192.0.2.1/24"], "two": ["192.0.2.2/24"]}) as network:
            assert len(namespaces(network.prefix)) == 3
            1 / 0
    assert namespaces(network.prefix) == []


def test_a_run_that_is_killed_leaves_nothing_behind():
    run = subprocess.Popen([sys.executable, "-c", "import subprocess, sys; sys.path[:0] = sys.argv[1:]\n"
                            "from lab.network import Network\n"
                            "network = Network({'one': ['192.0.2.1/24']}).__enter__()\n"
                            "print(network.prefix, flush=True)\n"
                            "network.hosts['one'].run('sh', '-c', 'echo $$; exec sleep infinity', capture_output=False)", *sys.path],
                           stdout=subprocess.PIPE, text=True)
    with run:
        prefix, inside = run.stdout.readline().strip(), run.stdout.readline()  # what is inside says so itself
        assert len(namespaces(prefix)) == 2
        ended = os.pidfd_open(int(inside))
        run.kill()
    poll(lambda: namespaces(prefix) == [], "the namespaces to go")
    assert select.select([ended], [], [], 10)[0], "a process lives on"
    os.close(ended)


def test_names_are_found_and_changes_seen_at_once(lab):
    assert lab.names.ask("kingmailer.org", A) == (0, 1)
    assert lab.names.ask("kingmailer.org", AAAA) == (0, 0)
    assert lab.names.ask("kingmailer.org", MX) == (0, 1)
    assert lab.names.ask("null.test", MX) == (0, 1)
    assert lab.names.ask("new.test", A) == (3, 0)
    before = lab.names.asked("new.test", "A")
    with lab.names.also(host("new.test", "192.0.2.33")):
        assert lab.names.ask("new.test", A) == (0, 1)
    assert lab.names.ask("new.test", A) == (3, 0)
    assert lab.names.asked("new.test", "A") == before + 2


# The local server believes whom it should.


def test_postfix_logs_the_client_of_xclient(lab, local):
    with lab.mx.client((lab.local.xclient, 25), source="10.89.0.10") as client:
        assert any("XCLIENT" in text for text in client.capabilities.texts)
        assert client.cmd("XCLIENT NAME=given.test ADDR=192.0.2.99 HELO=given.helo.test") == 220
        client.cmd("EHLO given.helo.test")
        client.mail()
        assert client.rcpt("absent@example.com") == "550 5.1.1"
        assert client.rcpt("absent@elsewhere.test") == 554
    local.await_log("reject", "given.test[192.0.2.99]", "helo=<given.helo.test>")


def test_postfix_without_authorization_does_not_take_xclient(lab):
    for address, source in ((lab.local.plain, "10.89.0.10"), (lab.local.xclient, "10.89.0.22")):
        with (lab.local_host if source == "10.89.0.22" else lab.mx).client((address, 25), source=source) as client:
            assert not any("XCLIENT" in text for text in client.capabilities.texts)
            assert client.cmd("XCLIENT ADDR=192.0.2.99").code in range(500, 600)


@pytest.mark.parametrize("header, where", [("TCP4 192.0.2.99 192.0.2.10 4000 25", "[192.0.2.99]"),
                                           ("TCP6 2001:db8::99 2001:db8::10 4000 25", "[2001:db8::99]")])
def test_postscreen_logs_the_client_of_proxy(lab, local, header, where):
    with lab.mx.client((lab.local.proxy, 25), greet=False) as client:
        client.send(f"PROXY {header}\r\n")
        assert client.reply() == 220
        client.cmd("EHLO given.helo.test")
        client.mail()
        assert client.rcpt("absent@example.com") == "550 5.1.1"
    local.await_log("postscreen", "CONNECT from", where)
    local.await_log("reject", where, "helo=<given.helo.test>")


def test_postscreen_turns_the_listed_client_away(lab):
    with lab.mx.client((lab.local.proxy, 25), greet=False) as client:
        client.send(f"PROXY TCP4 {lab.local.TURNED_AWAY} 192.0.2.10 4000 25\r\n")
        assert client.reply().code == 521


# The Gmail stand-in, asked by Python's client.


def gmail_client(lab, name="aspmx.l.google.com", tls=True):
    with lab.client.inside():
        client = smtplib.SMTP(name_to_address(lab, name), 25, local_hostname="helo.client.test", timeout=10)
    if tls:
        client._host = name  # the name that starttls() asks for and checks
        client.starttls(context=lab.ca.client_context())
    return client


def name_to_address(lab, name):
    return lab.client.run("getent", "ahostsv4", name).stdout.split()[0].decode()


def test_gmail_takes_mail_with_a_certificate_that_holds(lab, gmail):
    with gmail_client(lab) as client:
        client.sendmail("a@client.test", ["somebody@example.com"], message())
        assert "starttls" not in client.esmtp_features
    connection = gmail.only_message().connection
    assert (connection.tls, connection.sni) == ("TLSv1.3", "aspmx.l.google.com")
    assert (connection.client, connection.address) == ("192.0.2.50", "192.0.2.101")


@pytest.mark.parametrize("which", ["wrong_name", "expired"])
def test_gmail_with_a_certificate_that_does_not_hold(lab, gmail, which):
    gmail.certificates["192.0.2.101"] = getattr(lab, which)
    with pytest.raises(ssl.SSLCertVerificationError):
        gmail_client(lab)
    gmail_client(lab, "alt1.aspmx.l.google.com").quit()


def test_gmail_without_starttls(lab, gmail):
    gmail.certificate = None
    with pytest.raises(smtplib.SMTPNotSupportedError):
        gmail_client(lab)


def test_gmail_refuses_what_gmail_refuses(lab, gmail):
    with gmail_client(lab, tls=False) as client:
        client.ehlo()
        client.mail("a@client.test")
        assert client.rcpt("absent@example.com")[0] == 550
        assert client.rcpt("u0@example.com")[0] == 250
        code, text = client.rcpt("u@other.test")
        assert (code, text[:52]) == (451, b"4.3.0 Multiple destination domains per transaction i")
        assert [client.rcpt(f"u{n}@example.com")[0] for n in range(1, 101)] == [250] * 99 + [452]


# The senders.


def test_a_sender_asks_the_lower_mx_when_the_first_is_away(lab, start_server):
    lower = start_server(lab.lower, "lower.example.com")
    lab.senders[0].send(message(), "user@example.com")
    assert lower.only_message().recipients == ["user@example.com"]
    lab.senders[0].await_empty_queue()
    assert lower.clients() == ["192.0.2.41"]


def test_a_sender_tries_again_from_its_queue(lab, start_server):
    lower = start_server(lab.lower, "lower.example.com")
    lower.on("rcpt", reply("450 4.2.0 later"), times=1)
    lab.senders[1].send(message(), "user@example.com")
    lab.senders[1].await_empty_queue()
    assert lower.only_message().recipients == ["user@example.com"]
    assert len([line for line in lower.commands() if line.startswith(b"RCPT")]) == 2


@pytest.mark.parametrize("client", [openssl, posttls_finger, swaks])
def test_clients_judge_a_certificate(lab, gmail, client):
    """What test_tls.py has clients say of splitmx they say of a certificate that holds, and of no other."""
    name, address = gmail.HOSTS[0], "192.0.2.101"
    assert client(lab, name=name, address=address).verified
    for certificate in (lab.expired, None, *([] if client is swaks else [lab.wrong_name])):
        gmail.certificate = certificate
        assert not client(lab, name=name, address=address).verified
