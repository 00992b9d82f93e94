"""Recipients of a split that did not settle, when their sender gives each a transaction of its own and goes round in order."""

import itertools

import pytest

from splitmx_test.messages import message
from splitmx_test.upstream import reply

pytestmark = pytest.mark.threads

LOCAL, KING, THIRD = "user@example.com", "kingmail@example.com", "anyone@example.com"
ORDERS = [order for recipients in ((LOCAL, KING), (LOCAL, KING, THIRD)) for order in itertools.permutations(recipients)]


@pytest.mark.parametrize("order", ORDERS, ids=[" ".join(address.split("@")[0] for address in order) for order in ORDERS])
def test_nobody_is_starved_by_others_who_come_in_step_with_him(split, order):
    for upstream in split.upstreams:
        upstream.on("eod", reply("451 4.3.0 later"), times=1)
    sent, sender = message(), f"{'-'.join(address.split('@')[0] for address in order)}@client.test"
    assert split.daemon.send(sent, *sorted(order), sender=sender) == 451
    for upstream in split.upstreams:
        upstream.rules.clear()
    waiting, seen = list(order), []
    for _ in range(len(order) ** 2 + 1):  # rounds, many more than there are to wait for
        for recipient in list(waiting):
            with split.client() as client:
                assert client.mail(sender) == 250
                seen.append((recipient.split("@")[0], client.rcpt(recipient)))
                if seen[-1][1] == 250:
                    assert client.data() == 354
                    assert client.body(sent) == 250
                    waiting.remove(recipient)
    assert not waiting, seen
    assert [len(upstream.messages) for upstream in split.upstreams[:len(order)]] == [1] * len(order)
