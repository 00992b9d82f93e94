"""What the status page reads: /page.json, /route.json, and who may ask for them (design: section 10)."""

import json
import time
from urllib.parse import quote

import pytest
from test_admin import KING, USER, Admin

from splitmx_test.messages import message
from splitmx_test.upstream import reply
from splitmx_test.waiting import poll


class Page(Admin):
    def page(self):
        status, headers, body = self.ask("/page.json")
        assert status == 200 and headers["Content-Type"] == "application/json" and headers["Cache-Control"] == "no-store"
        return json.loads(body)

    def relay(self, name):
        return next(relay for relay in self.page()["relays"] if relay["name"] == name)

    def transactions(self, count):
        """Once there are so many: the log is written by a thread of its own."""
        return poll(lambda: (lambda found: found if len(found) >= count else None)(self.page()["transactions"]), "transactions")

    def route(self, address):
        status, _, body = self.ask("/route.json?address=" + quote(address, safe=""))
        return status, body


@pytest.fixture
def start(start_split):
    """start(**settings): (split, page)"""
    def begin(**settings):
        page = Page()
        return start_split(admin=page.setting, **settings), page

    return begin


# ---- the page ----

@pytest.mark.threads
def test_values_move_with_mail(start):
    split, page = start()
    before = page.page()
    assert before["serving"] and before["ready"] and before["health"] == "serving"
    assert abs(before["now"] - time.time()) < 60 and before["started"] <= before["now"]
    assert before["messages"] == {"accepted": 0, "deferred": 0, "refused": 0, "client_gone": 0}
    assert before["transactions"] == [] and before["reload"]["errors"] == []
    assert before["history"]["step"] == 10 and before["history"]["sessions"] == []
    assert set(page.relay("local")["recipients"].values()) == {0}
    endpoint = {"address": f"127.0.0.1:{split.local.port}", "proxy": False, "state": None, "failures": 0}
    assert page.relay("local")["endpoints"] == [endpoint]
    sent = message()
    assert split.daemon.send(sent, USER, KING) == 250
    after = page.page()
    assert after["messages"]["accepted"] == 1 and after["sessions"]["total"] == before["sessions"]["total"] + 1
    local = page.relay("local")
    assert local["recipients"] == {"accepted": 1, "deferred": 0, "refused": 0} and local["bytes"] > len(sent)
    assert local["endpoints"] == [{**endpoint, "state": "ok"}]
    status = split.daemon.status()
    for key in ("version", "hostname", "workers", "routes"):
        assert after[key] == status[key], key
    assert after["ledger"] == status["ledger"]
    split.local.on("rcpt", reply("450 4.2.1 later"), times=1)
    with split.client() as client:
        client.mail()
        assert client.rcpt(USER) == 450
    assert page.relay("local")["recipients"]["deferred"] == 1


@pytest.mark.parametrize("log", ["text", "json"])
def test_the_last_transactions_are_listed_the_newest_first(start, log):
    split, page = start(log={"format": log})
    sent = message()
    assert split.daemon.send(sent, USER, KING) == 250
    split.local.on("eod", reply("554 5.6.0 no"), times=1)
    assert split.daemon.send(sent, USER, sender="") == 554
    refused, accepted = page.transactions(2)
    assert accepted["outcome"] == "accepted" and accepted["from"] == "sender@client.test"
    assert accepted["recipients"] == [{"address": USER, "relay": "local", "reply": "250"},
                                      {"address": KING, "relay": "kingmailer", "reply": "250"}]
    assert accepted["more_recipients"] == 0 and accepted["client"] == "127.0.0.1" and accepted["tls"] is None
    assert abs(accepted["at"] - time.time()) < 60 and accepted["size"] >= len(sent) and accepted["ms"] >= 0
    assert refused["outcome"] == "rejected" and refused["from"] == "" and refused["reply"].startswith("554 5.6.0")
    assert refused["session"] != accepted["session"]


@pytest.mark.parametrize("log", ["text", "json"])
def test_recipients_that_were_not_taken_are_listed_and_drive_out_no_mail(start, log):
    split, page = start(log={"format": log})
    split.local.on("rcpt", reply("550 5.1.1 No such user"), when="guess")
    split.daemon.write_routes({"example.com": "local"})
    assert split.daemon.reload().status == 0
    assert split.daemon.send(message(), USER) == 250
    for first in range(0, 104, 8):  # a session may make so many errors
        with split.client() as client:
            client.cmd('EHLO <img/src=x/onerror="x">')
            client.cmd("MAIL FROM:<sender@client.test>")
            if first == 0:
                assert client.rcpt("user@elsewhere.test") == 550
            for i in range(first, first + 8):
                assert client.rcpt(f"guess{i}@example.com") == 550
    last = poll(lambda: [r for r in page.page()["refusals"] if r["recipient"] == "guess103@example.com"], "the last one")[0]
    assert last["id"].startswith(last["session"]) and page.page()["recipients"] == {"accepted": 1, "deferred": 0, "refused": 105}
    assert {**last, "at": 0, "session": "", "id": ""} == {
        "at": 0, "session": "", "id": "", "client": "127.0.0.1", "client_name": last["client_name"], "helo": '<img/src=x/onerror="x">',
        "recipient": "guess103@example.com", "relay": "local", "reply": "550 5.1.1 No such user"}
    assert len(page.page()["refusals"]) == 100
    assert [t["outcome"] for t in page.page()["transactions"]] == ["accepted"]


@pytest.mark.parametrize("log", ["text", "json"])
def test_what_strangers_say_comes_as_text(start, log):
    split, page = start(log={"format": log})
    helo, sender, recipient = '</script>"event=transaction\\', r'"a;b=c:1\" <b>"@client.test', '"a;b=c:250 x"@example.com'
    split.daemon.write_routes({"example.com": "local"})
    assert split.daemon.reload().status == 0
    with split.client() as client:
        client.cmd(f"EHLO {helo}")
        client.cmd(f"MAIL FROM:<{sender}>")
        told = client.cmd(f"RCPT TO:<{recipient}>")
        assert told == 250, told
        assert client.rcpt("a=b@example.com") == 250
        assert client.data() == 354
        assert client.body(message()) == 250
    last = page.transactions(1)[0]
    assert last["from"] == sender
    assert last["recipients"] == [{"address": recipient, "relay": "local", "reply": "250"},
                                  {"address": "a=b@example.com", "relay": "local", "reply": "250"}]
    assert last["helo"] == helo


def test_only_so_many_are_kept_and_of_recipients_too(start):
    split, page = start()
    split.daemon.write_routes({"example.com": "local"})
    assert split.daemon.reload().status == 0
    for _ in range(103):
        assert split.daemon.send(message(), USER) == 250
    assert split.daemon.send(message(), *(f"u{n}@example.com" for n in range(25))) == 250
    last = poll(lambda: (lambda t: t if t and t["more_recipients"] else None)(page.page()["transactions"][0]), "the last one")
    assert len(last["recipients"]) == 20 and last["more_recipients"] == 5
    assert len(page.page()["transactions"]) == 100


def test_errors_of_a_reload_are_shown_until_one_is_good(start):
    split, page = start()
    split.daemon.write_routes("broken: [\n")
    failed = split.daemon.reload()
    assert failed.status == 1
    told = page.page()["reload"]
    assert (told["count"], told["failed"], told["last_ok"]) == (1, 1, False)
    assert told["errors"] and all(line in failed.err for line in told["errors"])
    assert any("routes.yaml:" in line for line in told["errors"])
    split.daemon.write_routes({"example.com": "local"})
    assert split.daemon.reload().status == 0
    told = page.page()["reload"]
    assert (told["count"], told["failed"], told["last_ok"], told["errors"]) == (2, 1, True, [])
    assert told["last_good_at"] == told["last_at"]


def test_a_step_of_the_history_has_the_mail_that_came_in_it(start):
    split, page = start()
    assert split.daemon.send(message(), USER) == 250
    history = poll(lambda: (lambda h: h if h["sessions"] else None)(page.page()["history"]), "a step", timeout=20)
    assert history["sessions"] == [1] and abs(history["end"] - time.time()) < 15
    assert history["relays"]["local"]["accepted"] == [1] and history["relays"]["local"]["failed"] == [0]
    assert history["relays"]["local"]["p50"][0] >= 0
    assert history["relays"]["kingmailer"]["p99"] == [None] if "kingmailer" in history["relays"] else True


def test_what_is_kept_goes_with_the_server_and_begins_anew(start):
    split, page = start()
    assert split.daemon.send(message(), USER) == 250
    page.transactions(1)
    del split.daemon.settings["admin"]
    split.daemon.write_config()
    assert split.daemon.reload().status == 0
    assert split.daemon.send(message(), USER) == 250
    split.daemon.write_config(admin=page.setting)
    assert split.daemon.reload().status == 0
    assert page.page()["transactions"] == []
    assert split.daemon.send(message(), USER) == 250
    assert len(page.transactions(1)) == 1


# ---- routes ----

@pytest.mark.threads
@pytest.mark.parametrize("address", [USER, KING, "<User+Tag@EXAMPLE.com>", "postmaster", "nobody@elsewhere.test", 'a"b@example.com',
                                     '"quoted \\" x"@example.com', "third@example.com"])
def test_a_route_is_what_the_command_prints(start, address):
    split, page = start()
    assert split.daemon.send(message(), USER) == 250
    command = split.daemon.command("route", "--json", address)
    status, body = page.route(address)
    if status == 400:
        assert address == 'a"b@example.com' and json.loads(body)["error"]
        return
    ours, theirs = json.loads(body), json.loads(command.out)
    for told in (ours, theirs):
        for endpoint in told["endpoints"] or ():
            endpoint.pop("seconds")
    assert status == 200 and list(ours) == list(theirs) and ours == theirs


def test_a_route_is_that_in_force(start):
    split, page = start()
    split.daemon.write_routes({"example.com": "third"})
    assert json.loads(page.route(USER)[1])["relay"] == "local"
    assert split.daemon.reload().status == 0
    assert json.loads(page.route(USER)[1])["relay"] == "third"
    split.daemon.write_routes({"example.com": "smtp:[mail.example.net]:26"})
    assert split.daemon.reload().status == 0
    told = json.loads(page.route(USER)[1])
    assert told["endpoints"] is None and told["next_hops"] == [{"protocol": "smtp", "host": "mail.example.net", "port": 26, "mx": False}]


@pytest.mark.parametrize("query", ["", "?", "?address", "?address=", "?address=%", "?address=%4", "?address=%zz", "?address=a%00b@example.com",
                                   "?address=a%20b", "?address=@", "?address=%ff@example.com", "?address=" + "a" * 321,
                                   "?address=" + "%61" * 2000, "?other=a@example.com"])
def test_what_is_no_address_is_400_in_words(start, query):
    split, page = start()
    status, headers, body = page.ask("/route.json" + query)
    assert status == 400 and headers["Content-Type"] == "application/json"
    assert len(json.loads(body)["error"]) > 5
    assert split.daemon.send(message(), USER) == 250


def test_a_query_that_is_too_long_harms_nobody(start):
    split, page = start()
    answer = page.raw(b"GET /route.json?address=" + b"a" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not answer.startswith(b"HTTP/1.1 200")
    assert page.route(USER)[0] == 200


# ---- who may ask ----

OUR_NAMES = ("127.0.0.1", "127.0.0.1:8025", "localhost", "LOCALHOST:1", "splitmx.localhost", "localhost.", "[::1]:8025", "[::1]", "192.0.2.1")
OTHERS = ("evil.test", "evil.test:8025", "localhost.evil.test", "notlocalhost", "127.0.0.1.evil.test", "[::1", "127.0.0.1:x", "127.1")


@pytest.mark.parametrize("path", ["/", "/page.json", "/route.json?address=" + USER, "/metrics", "/healthz"])
def test_a_name_from_elsewhere_that_leads_here_is_not_served(start, path):
    _, page = start()
    for host in OUR_NAMES:
        assert page.ask(path, headers={"Host": host})[0] == 200, host
    for host in OTHERS:
        status, _, body = page.ask(path, headers={"Host": host})
        assert status == 403 and "localhost" in body, host


def test_who_names_no_host_is_no_browser(start):
    _, page = start()
    assert b" 200 " in page.raw(b"GET /healthz HTTP/1.0\r\n\r\n").split(b"\r\n")[0]
