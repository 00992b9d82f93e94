"""The status page in a real browser, before the real daemon and real mail (design: section 10)."""

import contextlib
import time

import pytest

from splitmx_test import browser as browser_module
from splitmx_test.messages import message
from splitmx_test.upstream import reply
from splitmx_test.waiting import free_port, poll

pytestmark = pytest.mark.skipif(bool(browser_module.MISSING), reason=f"no browser: {', '.join(browser_module.MISSING)} missing")

USER, KING = "user@example.com", "kingmail@example.com"
TAB, ENTER = "\ue004", "\ue007"
IMAGE = "<img src=x onerror=alert(1)>"
HELO = "'\"><img/src=x/onerror=alert(1)>"
TURNED = "\u202e"  # what comes next is shown from right to left


@pytest.fixture(scope="module")
def window():
    browser = browser_module.Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(start_split, window):
    """page(): (split, browser with the page open); afterwards nothing has been asked for elsewhere, or complained about."""
    origins = []

    def begin(**settings):
        origin = f"http://127.0.0.1:{free_port()}"
        split = start_split(admin={"listen": origin.removeprefix("http://")}, **settings)
        window.begin()
        window.open(origin + "/")
        window.await_text(".tiles", "Sessions")
        origins.append(origin + "/")
        return split, window

    yield begin
    foreign = [url for url in window.requests() if not url.startswith((*origins, "data:image/svg+xml,", "about:"))]
    assert not foreign
    assert not window.complaints()
    window.open("about:blank")


def tile(browser, name):
    return browser.run("""return [...document.querySelectorAll('.tiles div')].find((d) => d.firstChild.textContent === arguments[0])
        .lastChild.firstChild.textContent""", name)


def await_tile(browser, name, value):
    poll(lambda: tile(browser, name) == value, f"{name} to be {value}", interval=0.05)


def open_first(browser):
    browser.run("document.querySelector('#transactions summary').focus()")
    browser.keys(ENTER)
    return browser.await_text("#transactions details[open] .inside", "Client")


def ask_for(browser, address):
    browser.run("const box = document.querySelector('#address'); box.value = arguments[0]; box.focus()", address)
    browser.keys(ENTER)


# ---- mail ----

def test_values_move_with_mail(page):
    split, browser = page()
    assert browser.text("h1") == "Ready for mail"
    assert "no relay has been asked" in browser.text("#reasons")
    assert browser.run("return document.body.dataset.state") == "good"
    assert tile(browser, "Messages accepted") == "0" and browser.count(".drops") == 0
    assert split.daemon.send(message(), USER, KING) == 250
    await_tile(browser, "Messages accepted", "1")
    browser.await_text("h1", "Mail flows")
    browser.await_text("#relays", "local", "1 recipients accepted")
    poll(lambda: browser.count(".drops") > 0, "mail to move in the drawing", 20, 0.05)
    motion = "return getComputedStyle(document.querySelector('.drops')).animationName"
    assert browser.run(motion) == "run"
    browser.media(motion="reduce")
    assert browser.run(motion) == "none"
    assert "✓" in browser.driver.title


def test_a_transaction_tells_who_of_it_was_not_taken(page):
    split, browser = page()
    split.local.on("rcpt", reply("550 5.1.1 No such user"), when="nobody@")
    with split.client() as client:
        client.mail()
        assert [client.rcpt(USER), client.rcpt("nobody@example.com")] == [250, 550]
        assert client.data() == 354 and client.body(message()) == 250
    browser.await_text("#transactions", USER + ", 1 not taken")
    assert "550 5.1.1 No such user" in open_first(browser)


def test_a_transaction_tells_what_became_of_each_recipient(page):
    split, browser = page()
    split.local.on("eod", reply("451 4.3.0 the disk is full"), times=1)
    assert split.daemon.send(message(), USER, KING) == 451
    poll(lambda: browser.count("#transactions details") == 1, "the transaction", interval=0.05)
    words = open_first(browser)
    rows = browser.run("return [...document.querySelectorAll('.inside tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))")
    assert {row[0]: row[1] for row in rows} == {USER: "local", KING: "kingmailer"}
    assert "refused" in dict((row[0], row[2]) for row in rows)[USER]
    assert "127.0.0.1" in words and "client.test" in words and "451 4.3.0 the disk is full" in words
    split.local.on("rcpt", reply("550 5.1.1 <b>No such user</b>"), times=1)
    with split.client() as client:
        client.mail()
        assert client.rcpt("nobody@example.com") == 550
    await_tile(browser, "Recipients refused", "1")
    browser.await_text("#refusals", "nobody@example.com", "local", "550 5.1.1 <b>No such user</b>")
    assert split.daemon.send(message(), USER, sender="other@client.test") == 250
    poll(lambda: browser.count("#transactions details") == 2, "the second transaction", interval=0.05)
    assert browser.count("#transactions details[open]") == 1  # the one that was opened stays open, and has the focus
    assert browser.run("return document.activeElement === document.querySelector('details[open] summary')")


def test_what_others_say_is_shown_as_text(page):
    split, browser = page(smtputf8=True)
    split.third.extensions = (*split.third.extensions, "SMTPUTF8")
    split.third.on("eod", reply(f"554 5.6.0 {IMAGE} {TURNED}&lt;b&gt;\"'"), times=1)
    with split.client() as client:
        assert client.cmd(f"EHLO {HELO}") == 250
        assert client.cmd(f'MAIL FROM:<"{IMAGE}"@client.test> SMTPUTF8') == 250
        assert client.cmd(f'RCPT TO:<"{IMAGE}{TURNED}</bdi><script>"@example.com>') == 250
        assert client.data() == 354 and client.body(message()) == 554
    browser.await_text("#transactions", IMAGE)
    words = open_first(browser)
    assert HELO in words and "</bdi><script>" in words and f"554 5.6.0 {IMAGE}" in words and "&lt;b&gt;" in words
    ask_for(browser, f'"{IMAGE}{TURNED}"@example.com')
    assert f"{IMAGE}\\u{{202e}}" in browser.await_text("#answer", "It goes to relay third")  # spelt out
    assert browser.count("main img, main script, bdi bdi") == 0
    assert TURNED not in browser.run("return document.body.innerText")
    with pytest.raises(Exception, match="no such alert"):
        browser.driver.switch_to.alert


# ---- look-up ----

def test_the_keyboard_leads_to_the_look_up_which_explains(page):
    split, browser = page()
    browser.keys(TAB)
    assert browser.focus() == "skip"
    browser.keys(ENTER)
    browser.keys("user+tag@EXAMPLE.com", ENTER)
    assert browser.focus() == "address"
    answer = browser.await_text("#answer", "It goes to relay local")
    assert "user@example.com" in answer and "routes.yaml:" in answer and "user+tag@example.com" in answer
    assert f"127.0.0.1:{split.local.port}" in answer and "no fallback" in answer
    ask_for(browser, IMAGE)
    poll(lambda: "It goes to" not in browser.text("#answer") and browser.text("#answer"), "the refusal", interval=0.05)
    assert browser.count("#answer img") == 0
    browser.complaints()  # of the 400


# ---- looks ----

@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(page, scheme):
    split, browser = page()
    browser.media(scheme)
    split.local.on("rcpt", reply("450 4.2.1 later"), times=1)
    with split.client() as client:
        client.mail()
        client.rcpt(USER)
        client.rcpt(KING)
        client.data()
        client.body(message())
    browser.await_text("#transactions", "accepted")
    open_first(browser)
    light = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128")
    assert light == (scheme == "light")
    assert browser.contrast() == []


def test_a_phone_needs_no_scrolling_to_the_side(page):
    split, browser = page(hostname="a-rather-long-name-of-a-mail-server.with-many-parts.example.com")
    browser.width(360)
    assert split.daemon.send(message(), USER, KING, sender="a" * 60 + "@" + "b" * 60 + ".test") == 250
    browser.await_text("#transactions", "accepted")
    open_first(browser)
    assert browser.run("return document.documentElement.scrollWidth") <= 360


# ---- trouble ----

def test_a_relay_that_goes_away_is_seen_and_said(page):
    split, browser = page()
    assert browser.text("#spoken") == ""
    split.kingmailer.stop()

    def fails():
        with split.client() as client:
            client.mail()
            client.rcpt(KING)
        return "kingmailer" in browser.text("#reasons")

    poll(fails, "the page to tell of kingmailer", 30, 0.2)
    assert browser.run("return document.body.dataset.state") in ("warn", "bad")
    assert "kingmailer" in browser.run("return document.querySelector('#spoken').textContent")
    assert f"127.0.0.1:{split.kingmailer.port}" in browser.text("#relays")
    browser.await_text("#reasons", "451 4.4.1 kingmailer: connection refused")


def test_a_reload_that_failed_tells_its_errors(page):
    split, browser = page()
    split.daemon.write_routes("example.com: nowhere\n")
    assert split.daemon.reload().status == 1
    browser.await_text("#reasons", "last reload failed")
    browser.await_text("#reload .errors", "routes.yaml:1:", "nowhere")


def test_it_says_when_the_daemon_is_away_and_sees_it_come_back(page):
    split, browser = page()
    split.daemon.stop()
    browser.await_text("h1", "does not answer")
    assert "last seen at" in browser.text("#seen").lower()
    poll(lambda: len({ms for ms in browser.run("return asked") if ms > 5000}) > 1, "longer and longer pauses", 20, 0.05)
    split.daemon.start()
    browser.await_text("h1", "Ready for mail")
    assert "as of" in browser.text("#seen")
    gone = [entry for entry in browser.complaints() if entry["source"] != "network"]
    assert not gone


def test_nothing_is_asked_for_while_nobody_looks(page):
    _, browser = page()
    assert 5000 in browser.run("return asked")
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
    browser.run(hide, True)
    with contextlib.suppress(AssertionError):  # one that is under way
        poll(lambda: not browser.requests(), "silence", 5, 0.5)
    time.sleep(20 * 5 / browser_module.HASTE / 5)  # four of its intervals
    assert browser.requests() == []
    browser.run(hide, False)
    poll(lambda: any(url.endswith("/page.json") for url in browser.requests()), "a request", interval=0.05)
