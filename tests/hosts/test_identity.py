"""The local server sees the client, not splitmx: by XCLIENT at smtpd and by PROXY at postscreen, or there is no mail."""

import pytest

from splitmx_test.messages import message

BOTH = ["xclient", "proxy"]

FOUR, SIX = "192.0.2.50", "2001:db8::50"


@pytest.fixture
def start(lab, start_daemon):
    """start("xclient", at): splitmx before the local server, or before another address of its host."""

    def start(identity, at=None, fallback=False):
        at = at or getattr(lab.local, identity)
        relay = {"next-hop": f"smtp:[{at}]", "identity": identity}
        relays = {"local": {**relay, "fallback": "gmail"}, "gmail": lab.gmail_relay} if fallback else {"local": relay}
        return start_daemon(relays=relays, routes={"example.com": "local"}, timeouts={"greeting": "5s"})

    return start


@pytest.mark.parametrize("identity", BOTH)
@pytest.mark.parametrize("six, address", [(False, FOUR), (True, SIX)])
def test_the_local_server_logs_the_client_and_its_helo(start, local, identity, six, address):
    sent = message()
    with start(identity).client(six=six, hello="the.real.helo.test") as client:
        client.mail()
        assert client.rcpt("absent@example.com") == "550 5.1.1"
        assert client.rcpt("user@example.com") == 250
        assert client.data() == 354
        assert client.body(sent) == 250
    local.await_log("reject", f"client.test[{address}]", "helo=<the.real.helo.test>", "to=<absent@example.com>")
    local.await_log("client=", f"client.test[{address}]")
    mail = local.await_new("user")[0]
    shown = f"IPv6:{address}" if six else address
    assert f"from the.real.helo.test (client.test [{shown}])".encode() in mail
    assert mail.endswith(sent.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("identity", BOTH)
def test_each_client_is_itself_on_connections_that_are_used_again(start, lab, local, identity):
    splitmx = start(identity)
    told = [(lab.client, False, "one.test", FOUR), (lab.client, True, "two.test", SIX), (lab.sender1, False, "three.test", "192.0.2.41"),
            (lab.client, False, "four.test", FOUR)]
    for host, six, hello, _ in told:
        with splitmx.client(host, six=six, hello=hello) as client:
            assert client.send_mail(message(), "user@example.com") == 250
            client.mail()
            assert client.rcpt("absent@example.com") == "550 5.1.1"
            client.quit()
    for _, _, hello, address in told:
        local.await_log("reject", f"[{address}]", f"helo=<{hello}>")
    mails = local.await_new("user", len(told))
    for _, _, hello, address in told:
        assert sum(f"from {hello} (".encode() in mail and f"{address}])".encode() in mail for mail in mails) == 1
    assert "[10.89.0.10]: 550" not in local.server.log()[local.log_before:]


@pytest.mark.parametrize("hello", ['"', '<', 'evil"x', "a<b", "tail\\", '"q"', "(c", "a,b;c", "x'y", "NAME=me"])
def test_no_helo_takes_the_clients_address_from_it(start, lab, local, hello):
    """Postfix splits the line at quotes and brackets before it decodes: what swallows ADDR makes the client the proxy."""
    with start("xclient").client(lab.gmail_host, hello=hello, source="192.0.2.105") as client:
        client.mail()
        client.rcpt("absent@example.com")
        client.quit()
    line = local.await_log("reject", "to=<absent@example.com>")
    assert "[192.0.2.105]: 550" in line, line


def test_without_helo_name_or_ptr_the_local_server_is_told_so(start, lab, local):
    with start("xclient").client(lab.gmail_host, hello=None, source="192.0.2.105") as client:
        assert client.cmd("HELO [192.0.2.105]") == 250
        client.mail()
        assert client.rcpt("absent@example.com") == "550 5.1.1"
    local.await_log("reject", "[192.0.2.105]", "helo=<[192.0.2.105]>")


def assert_deferred(splitmx, recipient="user@example.com"):
    with splitmx.client() as client:
        client.mail()
        assert client.rcpt(recipient) == "451 4.3.5"
        assert client.data() == "554 5.5.1"


@pytest.mark.parametrize("identity", BOTH)
def test_where_the_identity_is_refused_nothing_is_delivered(start, lab, local, identity):
    assert_deferred(start(identity, lab.local.plain))
    local.assert_nothing()


def test_where_postscreen_stands_xclient_has_no_way_in(start, start_server, lab, local):
    """A server that offers no XCLIENT at all, though it would take the mail."""
    polite = start_server(lab.local_host, "polite.test", "10.89.0.25")
    assert_deferred(start("xclient", "10.89.0.25"))
    polite.assert_has_nothing()
    assert not any(line.startswith((b"MAIL", b"RCPT")) for line in polite.commands())


@pytest.mark.parametrize("identity", BOTH)
def test_a_refused_identity_is_no_reason_for_the_fallback(start, lab, local, gmail, identity):
    assert_deferred(start(identity, lab.local.plain, fallback=True))
    local.assert_nothing()
    gmail.assert_never_asked()


def test_a_client_that_postscreen_turns_away_is_told_so(start, lab, local):
    with start("proxy").client(source=lab.local.TURNED_AWAY) as client:
        client.mail()
        assert client.rcpt("user@example.com").code in range(500, 600)
    local.await_log("postscreen", f"[{lab.local.TURNED_AWAY}]")
    local.assert_nothing()


def test_a_client_that_postscreen_turns_away_does_not_get_to_the_fallback(start, lab, gmail):
    with start("proxy", fallback=True).client(source=lab.local.TURNED_AWAY) as client:
        client.mail()
        assert client.rcpt("user@example.com").code in range(500, 600)
    gmail.assert_never_asked()
