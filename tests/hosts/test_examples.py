"""
The examples of docs/examples: their very files, on hosts that have the names and addresses which they speak of.

What the lab has in place of the reader's: 192.0.2.10 is mx.example.com, 192.0.2.30 kingmailer.org, 10.89.0.x the private
network, a stand-in has Gmail's names, and the authorities that Debian trusts are the lab's one. Nothing in the files is replaced.
"""

import contextlib

import pytest

from lab.examples import EXAMPLES, ExampleDaemon, ExamplePostfix, read
from lab.laboratory import Counted
from splitmx_test.messages import assert_relayed, message

USER, KING, AUNT = "user@example.com", "kingmail@example.com", "aunt@example.com"
CLIENT = "client.test[192.0.2.50]"


@pytest.fixture
def serve(lab):
    """serve("kingmailer", "splitmx.yaml", "routes.yaml"): splitmx with these files of the example, until the test ends."""
    with contextlib.ExitStack() as stack:

        def serve(example, *names, there=None, **renamed):
            files = {name: read(example, renamed.get(name, name)) for name in names}
            daemon = ExampleDaemon(lab, files, there)
            stack.enter_context(daemon)
            return daemon

        yield serve


@pytest.fixture
def mailserver(lab):
    """mailserver(host, "postfix-same-host"): the example's Postfix there, with what has come to it."""
    with contextlib.ExitStack() as stack:
        yield lambda there, example, recipients=("user",), **settings: Counted(
            stack.enter_context(ExamplePostfix(there, example, recipients, **settings)))


def answers(splitmx, *recipients, sent=None, **client):
    """What each of them is answered; then one message goes to those who were accepted."""
    with splitmx.client(**client) as client:
        client.mail()
        said = [client.rcpt(recipient) for recipient in recipients]
        if sent is not None:
            assert client.data() == 354
            assert client.body(sent) == 250
        return said


# In front of a Postfix on the same host.


def test_postfix_on_the_same_host_sees_the_client_and_trusts_nobody(lab, serve, mailserver):
    here = mailserver(lab.mx, "postfix-same-host")
    splitmx = serve("postfix-same-host", "splitmx.yaml", "routes.yaml")
    sent = message()
    assert answers(splitmx, USER, "absent@example.com", "x@elsewhere.test", sent=sent) == [250, "550 5.1.1", "550 5.7.1"]
    here.await_log("client=", CLIENT)
    assert here.await_new("user")[0].endswith(sent.replace(b"\r\n", b"\n"))
    with lab.mx.client(("127.0.0.1", 10025)) as client:  # past splitmx, from an address of mynetworks
        client.mail()
        assert client.rcpt("x@elsewhere.test") == "454 4.7.1"
