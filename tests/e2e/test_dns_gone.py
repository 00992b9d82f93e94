"""DNS gone (row 20 of the faults): what needs a name is put off, what does not goes on, and once DNS is back all is as before."""

import threading
import time

import pytest

from splitmx_test.dns import DnsServer
from splitmx_test.messages import message, split_trace
from splitmx_test.waiting import poll

NAMED, LITERAL = "named@example.com", "literal@example.com"
SOMEBODY, ITS_PTR = "127.0.0.77", "77.0.0.127.in-addr.arpa"  # 127.0.0.1 has a name in the hosts file
HOST = "upstream-host.test"

HOW = pytest.mark.parametrize("how", ["gone", "silent", "SERVFAIL", "REFUSED"])


class Town:
    def __init__(self, start_daemon, start_upstream, ttl=60):
        self.names = DnsServer()
        self.names.add(HOST, "A", "127.0.0.1", ttl=ttl)
        self.named, self.literal = start_upstream("named.test"), start_upstream("literal.test")
        self.daemon = start_daemon(
            workers=1, dns={"servers": [self.names.address]}, routes={NAMED: "named", LITERAL: "literal"}, timeouts={"pool-idle": "0s"},
            relays={"named": {"next-hop": f"smtp:[{HOST}]:{self.named.port}"}, "literal": {"next-hop": self.literal.next_hop}})

    def ask(self, recipient, source=None):
        """The answer to its RCPT, and the seconds until then."""
        with self.daemon.client(source=source, timeout=20) as client:
            client.mail()
            begun = time.monotonic()
            return client.rcpt(recipient), time.monotonic() - begun

    def send(self, *recipients, source=None):
        with self.daemon.client(source=source, timeout=20) as client:
            return client.send_mail(message(), *recipients)

    def await_service(self):
        """A failure is remembered for five seconds, so that nobody asks in vain for each recipient."""
        poll(lambda: self.ask(NAMED)[0] == 250, "service", timeout=7, interval=0.2)
        assert self.send(NAMED, LITERAL) == 250


@pytest.fixture
def start(start_daemon, start_upstream):
    return lambda **settings: Town(start_daemon, start_upstream, **settings)


@HOW
def test_without_dns_a_name_is_put_off_and_the_others_go_on(start, how):
    town = start()
    town.names.down(how)
    with town.daemon.client(timeout=20) as client:
        client.mail()
        assert client.rcpt(LITERAL) == 250
        assert client.rcpt(NAMED) == "451 4.4.3"
        assert client.data() == 354
        assert client.body(message()) == 250
    assert town.literal.only_message().recipients == [LITERAL]
    town.names.up()
    town.await_service()
    assert town.named.messages[-1].recipients == [NAMED]


@HOW
def test_a_name_that_is_known_needs_no_dns(start, how):
    town = start()
    assert town.send(NAMED) == 250
    town.names.down(how)
    for _ in range(5):
        assert town.send(NAMED, LITERAL) == 250


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_name_that_runs_out_in_mid_service_is_put_off_until_dns_is_back(start, how):
    town = start(ttl=1)
    assert town.send(NAMED) == 250
    town.names.down(how)
    poll(lambda: town.ask(NAMED)[0] == "451 4.4.3", "the end of what was known", timeout=12)
    assert town.send(LITERAL) == 250
    town.names.up()
    town.await_service()


@HOW
def test_a_clients_name_that_cannot_be_looked_up_refuses_nobody_and_takes_five_seconds_at_most(start, how):
    town = start()
    town.names.add(ITS_PTR, "PTR", "client.example.net")
    town.names.down(how)
    answer, seconds = town.ask(LITERAL, source=SOMEBODY)
    assert answer == 250
    assert seconds < (5.5 if how == "silent" else 1), seconds
    assert town.send(LITERAL, source=SOMEBODY) == 250
    assert b"(unknown [127.0.0.77])" in split_trace(town.literal.only_message().data)[0]


def test_a_hundred_clients_wait_for_their_names_together(start):
    town = start()
    town.names.down("silent")
    answers = []

    def ask():
        answers.append(town.ask(LITERAL, source=SOMEBODY))

    threads = [threading.Thread(target=ask) for _ in range(100)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 7
    assert len(answers) == 100 and all(answer == 250 and seconds < 6 for answer, seconds in answers), answers
