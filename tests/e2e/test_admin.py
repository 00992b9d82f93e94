"""The admin HTTP server: pages, metrics that move with mail, hostile requests, reload and drain (design: section 10)."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from splitmx_test.daemon import REPOSITORY
from splitmx_test.memory import LIBRARY, NEVER, Scarcity
from splitmx_test.messages import message
from splitmx_test.peers import prometheus_tool
from splitmx_test.upstream import close, pause, reply
from splitmx_test.waiting import free_port, poll

USER, KING = "user@example.com", "kingmail@example.com"
PROMTOOL = prometheus_tool("promtool")
PAGES = {"/": "text/html; charset=utf-8", "/metrics": "text/plain; version=0.0.4; charset=utf-8", "/status.json": "application/json",
         "/page.json": "application/json", "/healthz": "text/plain; charset=utf-8", "/readyz": "text/plain; charset=utf-8"}


# ---- a strict reader of the exposition format ----

FAMILY = re.compile(r"# (HELP|TYPE) (splitmx_[a-z0-9_]+) (\S.*)")
SAMPLE = re.compile(r"([a-z_][a-z0-9_]*)(?:\{(.*)\})? (\d+(?:\.\d+)?)")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=.)|$)')
SUFFIXES = {"counter": {""}, "gauge": {""}, "histogram": {"_bucket", "_sum", "_count"}}


def read_labels(text):
    labels, at = {}, 0
    while at < len(text):
        found = LABEL.match(text, at)
        assert found, text
        assert found[1] not in labels, text
        labels[found[1]], at = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), found[2]), found.end()
    return labels


def read_metrics(text):
    """{(name, frozenset of labels): value}; what Prometheus, or a reader stricter than it, would not take is an error."""
    samples, kinds, family, was = {}, {}, None, None
    assert text.endswith("\n") and "\r" not in text and "\n\n" not in text
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            was_what, name, rest = FAMILY.fullmatch(line).groups()
            if was_what == "HELP":
                assert name not in kinds and was != "HELP", line
                family = name
            else:
                assert name == family and was == "HELP" and rest in SUFFIXES, line
                assert (rest == "counter") == name.endswith("_total"), line
                assert rest != "histogram" or name.endswith("_seconds"), line
                kinds[name] = rest
            was = was_what
            continue
        assert was != "HELP", line
        was = None
        name, labels, value = SAMPLE.fullmatch(line).groups()
        assert name.startswith(family) and name[len(family):] in SUFFIXES[kinds[family]], (line, family)
        key = name, frozenset(read_labels(labels or "").items())
        assert key not in samples, line
        samples[key] = float(value)
    check_histograms(samples, {name for name, kind in kinds.items() if kind == "histogram"})
    return samples, kinds


def check_histograms(samples, names):
    buckets = {}
    for (name, labels), value in samples.items():
        if name.removesuffix("_bucket") in names and name.endswith("_bucket"):
            rest = dict(labels)
            bound = float(rest.pop("le"))
            buckets.setdefault((name.removesuffix("_bucket"), frozenset(rest.items())), []).append((bound, value))
    for (name, labels), pairs in buckets.items():
        assert pairs == sorted(pairs) and pairs[-1][0] == float("inf"), name
        assert [value for _, value in pairs] == sorted(value for _, value in pairs), name
        assert samples[name + "_count", labels] == pairs[-1][1], name
        assert (samples[name + "_sum", labels] == 0) or pairs[-1][1] > 0, name


# ---- asking ----

class Admin:
    """Of a daemon whose `admin: listen` is this port."""

    def __init__(self, port=None):
        self.port = port or free_port()
        self.setting = {"listen": f"127.0.0.1:{self.port}"}

    def ask(self, path="/", method="GET", body=None, headers=None):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    def metrics(self):
        status, headers, text = self.ask("/metrics")
        assert status == 200
        return read_metrics(text)[0]

    def value(self, name, **labels):
        return self.metrics()[f"splitmx_{name}", frozenset(labels.items())]

    def raw(self, data, timeout=10):
        """What comes back until the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
                return b"".join(iter(lambda: sock.recv(65536), b""))
            return b""

    def is_there(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        except ConnectionRefusedError:
            return False


@pytest.fixture
def start(start_split):
    """start(**settings): (split, admin)"""
    def begin(**settings):
        admin = Admin()
        return start_split(admin=admin.setting, **settings), admin

    return begin


def relay(admin, name, *, relay, outcome):
    return admin.value(name, relay=relay, outcome=outcome)


def asked_in_vain(split, recipient):
    with split.client() as client:
        client.mail()
        return client.rcpt(recipient) == 451


# ---- pages ----

@pytest.mark.threads
def test_each_page_says_what_it_is_and_is_for_nobody_else(start):
    split, admin = start()
    for path, kind in PAGES.items():
        status, headers, body = admin.ask(path)
        assert status == 200 and body, path
        assert headers["Content-Type"] == kind
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Server" not in headers and "Set-Cookie" not in headers
        assert "Access-Control-Allow-Origin" not in headers
    index = admin.ask("/")[2]
    assert all(path in index for path in PAGES)
    assert admin.ask("/healthz")[2] == "serving\n"
    assert admin.ask("/readyz")[2] == "ready\n"


def test_a_head_has_the_headers_of_a_get_and_no_body(start):
    _, admin = start()
    for path in PAGES:
        got, asked = admin.ask(path), admin.ask(path, "HEAD")
        assert asked[0] == got[0] and asked[2] == "", path
        if path not in ("/metrics", "/page.json"):  # the numbers move
            assert {**asked[1], "Date": 0} == {**got[1], "Date": 0}


def test_the_json_is_that_of_the_command(start):
    split, admin = start()
    assert split.daemon.send(message(), USER) == 250
    ours, theirs = json.loads(admin.ask("/status.json")[2]), split.daemon.status()
    for volatile in ("uptime_seconds",):
        ours.pop(volatile), theirs.pop(volatile)
    assert ours == theirs


def test_what_is_not_there_is_404(start):
    _, admin = start()
    for path in ("/nothing", "/metrics/", "//metrics", "/Metrics", "/%2e%2e/etc/passwd", "/../etc/passwd", "/metrics%00", "/<script>"):
        status, headers, body = admin.ask(path)
        assert status in (400, 404), path
        assert "script" not in body and "passwd" not in body
    assert admin.ask("/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW", "get"])
def test_nothing_but_reading_is_405(start, method):
    _, admin = start()
    status, headers, _ = admin.ask("/metrics", method, body=b"x" * 100000 if method in ("POST", "PUT") else None)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


# ---- metrics ----

@pytest.mark.threads
def test_what_is_told_can_be_read_by_prometheus(start):
    split, admin = start()
    split.kingmailer.on("rcpt", reply("550 5.1.1 nobody"), times=1)
    assert split.daemon.send(message(), USER) == 250
    with split.client() as client:
        client.mail()
        assert client.rcpt(KING) == 550
    samples, kinds = read_metrics(admin.ask("/metrics")[2])
    assert {"counter", "gauge", "histogram"} == set(kinds.values())
    manual = (REPOSITORY / "docs" / "splitmx.8").read_text()
    assert not [name for name in kinds if not re.search(rf"^\.It Va .*\b{name}\b", manual, re.M)]


@pytest.mark.skipif(not Path(PROMTOOL).exists(), reason="promtool is not here")
def test_promtool_has_nothing_to_say(start):
    split, admin = start()
    split.daemon.send(message(), USER, KING)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=admin.ask("/metrics")[2], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout + done.stderr == "", done


def test_recipients_and_messages_are_counted_by_relay_and_outcome(start):
    split, admin = start()
    for kind in ("accepted", "deferred", "rejected"):
        assert relay(admin, "recipients_total", relay="local", outcome=kind) == 0  # before there was any
    sent = message()
    assert split.daemon.send(sent, USER, KING) == 250
    for name in ("local", "kingmailer"):
        assert relay(admin, "recipients_total", relay=name, outcome="accepted") == 1
        assert relay(admin, "relay_messages_total", relay=name, outcome="accepted") == 1
        assert relay(admin, "relay_connections_total", relay=name, outcome="ready") == 1
        assert admin.value("relay_message_bytes_total", relay=name) > len(sent)
        assert admin.value("relay_end_of_data_seconds_count", relay=name) == 1
    assert admin.value("transactions_total", outcome="accepted") == 1
    split.local.on("rcpt", reply("450 4.2.1 later"), times=1)
    split.local.on("rcpt", reply("550 5.1.1 nobody"), times=1)
    with split.client() as client:
        client.mail()
        assert client.rcpt(USER) == 450
        assert client.rcpt(USER) == 550
        assert client.rcpt("other@elsewhere.test") == 550
    split.local.rules.clear()
    metrics = admin.metrics()
    told = {key[1]: value for key, value in metrics.items() if key[0] == "splitmx_recipients_total"}
    assert told[frozenset({("relay", "local"), ("outcome", "deferred")})] == 1
    assert told[frozenset({("relay", "local"), ("outcome", "rejected")})] == 1
    assert told[frozenset({("relay", ""), ("outcome", "rejected")})] == 1
    for answer, outcome in (("451 4.3.0 later", "deferred"), ("554 5.6.0 no", "rejected")):
        split.local.on("eod", reply(answer), times=1)
        assert split.daemon.send(message(), USER) == int(answer[:3])
        assert relay(admin, "relay_messages_total", relay="local", outcome=outcome) == 1
        assert admin.value("transactions_total", outcome=outcome) == 1
    split.local.rules.clear()
    split.local.on("eod", close())
    assert split.daemon.send(message(), USER) == 451
    assert relay(admin, "relay_messages_total", relay="local", outcome="unanswered") == 1
    assert relay(admin, "relay_messages_total", relay="kingmailer", outcome="deferred") == 0


def test_times_are_those_of_the_relay_that_took_them(start):
    split, admin = start()
    split.local.on("rcpt", pause(0.3), times=1)
    split.local.on("eod", pause(0.6), times=1)
    assert split.daemon.send(message(), USER) == 250
    assert split.daemon.send(message(), KING) == 250
    assert 0.3 <= admin.value("relay_recipient_seconds_sum", relay="local") < 5
    assert 0.6 <= admin.value("relay_end_of_data_seconds_sum", relay="local") < 5
    for name in ("recipient", "end_of_data", "connect"):
        assert admin.value(f"relay_{name}_seconds_count", relay="kingmailer") == 1
    assert admin.value("relay_end_of_data_seconds_bucket", relay="local", le="0.5") == 0
    assert admin.value("relay_end_of_data_seconds_bucket", relay="local", le="10") == 1


def test_connections_that_failed_and_those_of_the_pool(start):
    split, admin = start()
    assert split.daemon.send(message(), USER) == 250
    assert split.daemon.send(message(), USER) == 250
    reused = admin.value("relay_connections_reused_total", relay="local")  # by the same worker only
    assert reused + relay(admin, "relay_connections_total", relay="local", outcome="ready") == 2
    assert admin.value("pool_idle") == 2 - reused == admin.value("upstreams_open")
    split.kingmailer.stop()
    assert asked_in_vain(split, KING)
    assert relay(admin, "relay_connections_total", relay="kingmailer", outcome="failed") >= 1
    address = f"127.0.0.1:{split.kingmailer.port}"
    assert admin.value("endpoint_failures", endpoint=address, proxy="no") >= 1
    poll(lambda: asked_in_vain(split, KING) and
         admin.value("endpoint_down", endpoint=address, proxy="no") + admin.value("endpoint_suspect", endpoint=address, proxy="no") == 1,
         "suspicion")


def test_versions_of_tls_are_counted(start_secured):
    admin = Admin()
    secured = start_secured(admin=admin.setting)
    with secured.secure_client() as client:
        assert client.cmd("NOOP") == 250
    assert admin.value("tls_handshakes_total", peer="client", version="1.3") == 1
    assert admin.value("tls_handshakes_failed_total", peer="client") == 0


def test_a_direct_transport_has_its_text_for_a_name(start):
    split, admin = start()
    direct = f"smtp:[127.0.0.1]:{split.third.port}"
    split.daemon.write_routes({"example.com": direct})
    assert split.daemon.reload().status == 0
    assert split.daemon.send(message(), USER) == 250
    assert relay(admin, "relay_messages_total", relay=direct, outcome="accepted") == 1


def test_nothing_that_a_client_says_is_in_the_metrics(start):
    split, admin = start()
    with split.client() as client:
        client.cmd('EHLO "}\\nhostile{')
        client.cmd('MAIL FROM:<"hostile\\"\\\\"@client.test>')
        client.cmd('RCPT TO:<"hostile}\\" 1"@example.com>')
    assert "hostile" not in admin.ask("/metrics")[2]
    admin.metrics()


@pytest.mark.threads
def test_counters_only_grow_whatever_a_reload_does(start):
    split, admin = start()
    assert split.daemon.send(message(), USER, KING) == 250
    before = admin.metrics()
    relays = split.daemon.settings["relays"]
    split.daemon.write_config(relays={"newcomer": relays["third"]})
    split.daemon.write_routes({"example.com": "newcomer"})
    assert split.daemon.reload().status == 0
    assert split.daemon.send(message(), USER) == 250
    after = admin.metrics()
    for (name, labels), value in before.items():
        if name.endswith(("_total", "_bucket", "_count", "_sum")):  # a relay that is gone, and had no mail, need not stay
            assert after.get((name, labels), 0) >= value, (name, labels)
    assert relay(admin, "relay_messages_total", relay="newcomer", outcome="accepted") == 1
    assert relay(admin, "relay_messages_total", relay="kingmailer", outcome="accepted") == 1


def test_reloads_are_counted_and_dated(start):
    split, admin = start()
    started = admin.value("reload_last_good_timestamp_seconds")
    assert admin.value("reload_last_good") == 1 and abs(time.time() - started) < 60
    split.daemon.write_routes("broken: [\n")
    assert split.daemon.reload().status == 1
    assert (admin.value("reload_last_good"), admin.value("reloads_total", outcome="failed")) == (0, 1)
    assert admin.value("reload_last_good_timestamp_seconds") == started
    split.daemon.write_routes({"example.com": "local"})
    assert split.daemon.reload().status == 0
    assert (admin.value("reload_last_good"), admin.value("reloads_total", outcome="good")) == (1, 1)
    assert admin.value("routes") == 1


# ---- hostile and slow clients ----

def test_requests_that_are_none_harm_nothing(start):
    split, admin = start()
    held = split.daemon.descriptors()
    for data in (b"\0" * 100, b"\r\n" * 5000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"EHLO a\r\nMAIL FROM:<>\r\n" * 1000,
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                 b"GET http://elsewhere.test/metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
        answer = admin.raw(data)
        assert not answer.startswith(b"HTTP/1.1 200"), (data[:40], answer[:100])
    assert admin.ask("/", body=b"body")[0] == 400
    assert admin.ask("/healthz")[0] == 200
    assert split.daemon.send(message(), USER) == 250
    poll(lambda: split.daemon.descriptors() <= held + 2, "connections closed")


def test_a_request_may_not_take_for_ever(start):
    """A byte now and then keeps a connection busy; it ends all the same when others come."""
    _, admin = start()
    with socket.create_connection(("127.0.0.1", admin.port), timeout=30) as sock:
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 1000:
                sock.sendall(bytes([byte]))
                time.sleep(0.5)
                assert admin.ask("/healthz")[0] == 200
                assert time.monotonic() - begun < 25
        assert time.monotonic() - begun < 25


@pytest.mark.threads
def test_idle_connections_keep_nobody_out(start):
    split, admin = start()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", admin.port), timeout=20)) for _ in range(100)]
        for _ in range(10):
            assert admin.ask("/healthz")[0] == 200
        assert split.daemon.send(message(), USER) == 250
        for sock in idle[:5] + idle[-5:]:  # and they are ended themselves
            with contextlib.suppress(ConnectionError):
                assert not sock.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_damaged_table_is_not_healthy_until_it_is_built_again(start_split):
    admin = Admin()
    routes = "user@example.com: local\n" + "".join(f"{n:0120}@example.com: local\n" for n in range(130_000))  # not copied to memory
    daemon = start_split(admin=admin.setting).daemon
    daemon.write_routes(routes)
    assert daemon.reload().status == 0
    table = poll(lambda: next(iter((daemon.folder.path / "state").glob("routes-2.lmdb")), None), "the second table")
    os.truncate(table, 0)
    status, _, words = admin.ask("/healthz")  # it is looked for at once
    assert status == 503 and "damaged" in words
    daemon.await_log("event=table-damaged")
    poll(lambda: admin.ask("/healthz")[0] == 200, "a new table")
    assert admin.value("routes_damaged") == 0 and admin.value("routes") == 130_001


def test_who_does_not_read_keeps_nobody_out(start):
    split, admin = start()
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", admin.port), timeout=20))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert admin.ask("/healthz")[0] == 200
        assert split.daemon.send(message(), USER) == 250


@pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY} is not built")
@pytest.mark.parametrize("until", [None, NEVER], ids=["one", "all from it on"])
@pytest.mark.parametrize("path, tries", [("/metrics", 60), ("/status.json", 60), ("/readyz", 60), ("/page.json", 120),
                                         ("/route.json?address=" + USER, 60)])
def test_any_allocation_for_a_page_may_fail(start_split, path, tries, until):
    admin, scarcity = Admin(), Scarcity()
    split = start_split(admin=admin.setting, environment=scarcity.environment)
    assert split.daemon.send(message(), USER) == 250
    with scarcity.of(0):
        assert admin.ask(path)[0] == 200
        time.sleep(0.1)  # what is freed afterwards
    for first in range(1, scarcity.count + 2, max(1, scarcity.count // tries)):
        with scarcity.of(first, until):
            answer = admin.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert re.match(rb"HTTP/1.1 (200|503) |$", answer), (first, answer)
        if path == "/metrics" and answer.startswith(b"HTTP/1.1 200"):
            read_metrics(answer.split(b"\r\n\r\n", 1)[1].decode())
        assert admin.ask("/healthz")[0] == 200, first
    scarcity.end()
    assert split.daemon.send(message(), USER) == 250


# ---- reload, drain ----

@pytest.mark.threads
def test_a_reload_adds_moves_and_removes_it(start_split):
    split, first, second = start_split(), Admin(), Admin()
    daemon = split.daemon
    assert daemon.send(message(), USER) == 250
    held = daemon.descriptors()
    for _ in range(3):
        daemon.write_config(admin=first.setting)
        assert daemon.reload().status == 0
        assert first.value("transactions_total", outcome="accepted") == 1
        assert daemon.reload().status == 0  # unchanged: it stays
        assert first.ask("/readyz")[0] == 200
        daemon.write_config(admin=second.setting)
        assert daemon.reload().status == 0
        assert second.ask("/readyz")[0] == 200 and not first.is_there()
        del daemon.settings["admin"]
        daemon.write_config()
        assert daemon.reload().status == 0
        assert not second.is_there()
    poll(lambda: daemon.descriptors() <= held, "no descriptor left behind")


def test_a_socket_of_the_service_manager_is_used_and_left_to_it(start_split):
    split, other = start_split(start=False), Admin()
    with socket.create_server(("127.0.0.1", 0)) as passed:
        admin = Admin(passed.getsockname()[1])
        split.daemon.write_config(admin=admin.setting)
        split.daemon.start(listen_socket=passed)
        assert admin.ask("/readyz")[0] == 200
        split.daemon.write_config(admin=other.setting)
        assert split.daemon.reload().status == 0
        assert other.ask("/readyz")[0] == 200
        assert admin.is_there()  # the manager would start another
        split.daemon.write_config(admin=admin.setting)
        assert split.daemon.reload().status == 0
        assert admin.ask("/readyz")[0] == 200


def test_an_address_that_another_has_fails_the_reload_and_changes_nothing(start):
    split, admin = start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        split.daemon.write_config(admin={"listen": f"127.0.0.1:{other.getsockname()[1]}"})
        result = split.daemon.reload()
        assert result.status == 1, result
        assert re.search(r"splitmx\.yaml:\d+:\d+: cannot listen on 127\.0\.0\.1:\d+: .*in use \(another server", result.err), result
    assert admin.ask("/readyz")[0] == 200
    assert admin.value("reload_last_good") == 0


def test_a_broken_reload_leaves_it_where_it_was(start):
    split, admin = start()
    other = Admin()
    split.daemon.write_config(admin=other.setting)
    split.daemon.write_routes("broken: [\n")
    assert split.daemon.reload().status == 1
    assert admin.ask("/readyz")[0] == 200 and not other.is_there()


@pytest.mark.parametrize("listen, warned", [("0.0.0.0:8025", True), ("[::]:8025", True), ("198.51.100.1:8025", True), ("127.0.0.1:8025", False),
                                            ("[::1]:8025", False), ("10.1.2.3:8025", False)])
def test_who_opens_the_page_to_everybody_is_warned(start_daemon, listen, warned):
    daemon = start_daemon(start=False, admin={"listen": listen})
    assert ("whoever reaches `" + listen in daemon.command("check").err) == warned


def test_where_mail_is_taken_there_is_no_page(start_split):
    daemon = start_split().daemon
    daemon.write_config(admin={"listen": f"0.0.0.0:{daemon.port}"})
    for result in (daemon.command("check"), daemon.reload()):
        assert result.status != 0
        assert re.search(r"splitmx\.yaml:\d+:\d+: `admin: listen` needs an address or port of its own", result.err), result


@pytest.mark.threads
def test_while_it_drains_it_is_neither_ready_nor_healthy(start):
    split, admin = start(timeouts={"drain": "20s"})
    with split.client() as client:
        client.mail()
        assert client.rcpt(USER) == 250
        assert client.data() == 354
        split.daemon.term()
        poll(lambda: admin.ask("/readyz")[0] == 503, "the drain to begin")
        assert admin.ask("/healthz")[::2] == (503, "not serving\n")
        assert admin.value("ready") == 0 and admin.value("sessions_open") == 1
        assert client.body(message()) == 250
    assert split.daemon.await_exit() == 0
    assert not admin.is_there()


def test_the_end_waits_for_nobody_who_has_not_asked_yet(start):
    split, admin = start()
    with socket.create_connection(("127.0.0.1", admin.port)):
        split.daemon.stop()
    assert not admin.is_there()
