"""docs/examples/monitoring: scrape configuration, alerts and dashboard, with promtool, a real Prometheus and a daemon that has mail."""

import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from splitmx_test.daemon import REPOSITORY, daemons
from splitmx_test.messages import message
from splitmx_test.peers import prometheus_tool
from splitmx_test.upstream import ScriptedUpstream
from splitmx_test.waiting import free_port, poll

EXAMPLE = REPOSITORY / "docs" / "examples" / "monitoring"
ALERTS, WORLDS = (EXAMPLE / "alerts.yml").read_text(), (EXAMPLE / "alerts.test.yml").read_text()
NAMES = re.findall(r"^ +- alert: (\w+)$", ALERTS, re.M)
DASHBOARD = json.loads((EXAMPLE / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = {f"{panel['title']}, {target['refId']}": target for panel in PANELS for target in panel["targets"]}
PROMTOOL, PROMETHEUS = prometheus_tool("promtool"), prometheus_tool("prometheus")
BOUND = "127.0.0.1:8025"  # of prometheus.yml, and of what it says about splitmx.yaml
USER, KING = "user@example.com", "kingmail@example.com"

needs_promtool = pytest.mark.skipif(not Path(PROMTOOL).exists(), reason="promtool is not here")
needs_prometheus = pytest.mark.skipif(not Path(PROMETHEUS).exists(), reason="prometheus is not here")


def get(where, **query):
    with urllib.request.urlopen(f"http://{where}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return answer.read().decode()


class Watched:
    """A daemon with a relay that takes mail, one that is ended, and one that is paced."""

    def __init__(self, start_daemon):
        self.local, self.kingmailer, self.gmail = (ScriptedUpstream(f"{name}.test") for name in ("local", "kingmailer", "gmail"))
        self.admin = f"127.0.0.1:{free_port()}"
        self.daemon = start_daemon(
            admin={"listen": self.admin}, workers=1, timeouts={"greeting": "400ms", "connect": "1s"},
            relays={"local": {"next-hop": self.local.next_hop}, "kingmailer": {"next-hop": self.kingmailer.next_hop},
                    "gmail": {"hosts": [{"host": "127.0.0.1", "priority": 1}], "port": self.gmail.port, "tls": "none"}},
            routes={"example.com": "local", KING: "kingmailer", "example.net": "gmail"})

    def send(self):
        """To each relay."""
        assert self.daemon.send(message(), USER, KING) == 250
        assert self.daemon.send(message(), "x@example.net") == 250

    def lose(self):
        """The server of one relay, which is taken for dead then."""
        self.kingmailer.stop()

        def is_down():
            with self.daemon.client() as client:
                client.mail()
                assert client.rcpt(KING) == 451
            return re.search(rf'^splitmx_endpoint_down{{endpoint="127.0.0.1:{self.kingmailer.port}",.*}} 1$', get(self.admin + "/metrics"), re.M)

        poll(is_down, "the server to be taken for dead")

    def stop(self):
        for upstream in (self.local, self.kingmailer, self.gmail):
            upstream.stop()


@pytest.fixture(scope="module")
def watched():
    with daemons() as start_daemon:
        watched = Watched(start_daemon)
        try:
            watched.send()
            yield watched
        finally:
            watched.stop()


# As files


@needs_promtool
@pytest.mark.parametrize("what", [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")], ids=" ".join)
def test_promtool_is_content(what):
    done = subprocess.run([PROMTOOL, *what], cwd=EXAMPLE, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "WARNING" not in done.stdout, done


@needs_promtool
def test_no_alert_could_go_unseen(tmp_path):
    """Each has a world that it fires in: of alerts that never do, each is missed."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "alerts.yml").write_text(re.sub(r"(?s)expr: .*?\n(?=        (?:for|labels):)", "expr: vector(0) > 1\n", ALERTS))
    done = subprocess.run([PROMTOOL, "test", "rules", "alerts.test.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    missed = set(re.findall(r'exp: \{.*?alertname="(\w+)"', done.stderr + done.stdout))
    assert done.returncode == 1 and len(NAMES) > 15 and missed == set(NAMES), done


def test_the_example_and_the_manual_have_the_same_address():
    assert BOUND in (EXAMPLE / "prometheus.yml").read_text()
    assert BOUND in (REPOSITORY / "docs" / "splitmx.yaml.5").read_text()


def test_the_dashboard_is_whole():
    assert sorted(panel["id"] for panel in DASHBOARD["panels"]) == list(range(1, len(DASHBOARD["panels"]) + 1))
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= known
    assert all(panel["description"] and panel["targets"] for panel in PANELS)
    asked = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert all(thing["datasource"]["uid"] == "${datasource}" for thing in [*PANELS, *TARGETS.values(), *asked])


# What they name


def series(text):
    """Name to the set of label sets, each a tuple of pairs."""
    found = {}
    for name, labels in re.findall(r"^(splitmx_\w+)(?:\{(.*)\})? \S+$", text, re.M):
        found.setdefault(name, set()).add(tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
    return found


def expressions():
    yield from re.findall(r"(?s)expr: (?:>-\n)?(.*?)\n(?=        (?:for|labels):)", ALERTS)
    yield from (target["expr"] for target in TARGETS.values())
    yield from (variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query")
    yield from (annotation["expr"] for annotation in DASHBOARD["annotations"]["list"])


ADDED = {"job", "instance"}  # by Prometheus


def test_each_metric_label_and_value_that_they_name_is_one_of_the_daemons(watched):
    live = series(get(watched.admin + "/metrics"))
    wrong, named = [], set()
    for expression in expressions():
        labels = set(ADDED)
        for name, matchers in re.findall(r"\b(splitmx_\w+)(?:\{([^}]*)\})?", expression):
            named.add(name)
            values = {}
            for pairs in live.get(name, ()):
                for label, value in pairs:
                    values.setdefault(label, set()).add(value)
            labels |= set(values)
            wrong += [name] if name not in live else []
            for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers):
                wrong += [f"{name} {label}"] if label not in {*values, *ADDED} else []
                wanted = set() if "$" in value or operator == "!=" else set(value.split("|"))
                wrong += [f"{name} {label}={value}"] if wanted - values.get(label, set()) else []
        kept = {label.strip() for words in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in words.split(",")}
        wrong += [f"{label} in {expression}" for label in kept - labels]
    assert not wrong
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in live}
    shown = {re.sub(r"_bucket$", "", name) for name in named}
    assert bases - shown <= {"splitmx_workers", "splitmx_ready", "splitmx_upstreams_opened_total", "splitmx_upstreams_reused_total",
                             "splitmx_reload_last_timestamp_seconds"}, "neither on the dashboard nor an alert"


def test_legends_have_labels_that_are_left():
    for where, target in TARGETS.items():
        kept = re.search(r"\bby \(([^)]*)\)", target["expr"])
        left = set(re.split(r",\s*", kept[1])) if kept else {"instance"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, where


# With Prometheus


class Prometheus:
    """Runs the example: another address, looks each second, and the time before an alert fires is a second."""

    def __init__(self, admin):
        self.folder = Path(tempfile.mkdtemp(prefix="splitmx-prometheus-", dir="/tmp"))
        self.where = f"127.0.0.1:{free_port()}"
        config = (EXAMPLE / "prometheus.yml").read_text()
        assert config.count(f'["{BOUND}"]') == 1
        config = re.sub(r"interval: \d+s", "interval: 1s", config.replace(f'["{BOUND}"]', f'["{admin}"]'))
        (self.folder / "prometheus.yml").write_text(config)
        (self.folder / "alerts.yml").write_text(re.sub(r"(?m)^        for: .*$", "        for: 1s", ALERTS))
        self.said = (self.folder / "said").open("w+")
        self.process = subprocess.Popen([PROMETHEUS, f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                                         f"--web.listen-address={self.where}"], stdout=subprocess.DEVNULL, stderr=self.said)

    def ask(self, what, **query):
        try:
            answer = json.loads(get(f"{self.where}/api/v1/{what}", **query))
        except OSError as error:
            assert self.process.poll() is None, (self.folder / "said").read_text()
            assert isinstance(error, urllib.error.URLError) and getattr(error, "code", 503) == 503, (what, query, error)
            return None  # it has not begun, or says that it is still reading what it has
        assert answer["status"] == "success" and not answer.get("warnings"), answer
        return answer["data"]

    def query(self, expression):
        """Label sets and values."""
        data = self.ask("query", query=expression)
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]] if data else []

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.said.close()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def prometheus(watched):
    prometheus = Prometheus(watched.admin)
    try:
        poll(lambda: [value for _, value in prometheus.query('up{job="splitmx"}')] == [1], "the daemon to be scraped", 60, 0.1)
        yield prometheus
    finally:
        prometheus.end()


@needs_prometheus
def test_prometheus_scrapes_the_daemon_and_each_panel_has_data(watched, prometheus):
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"], target["labels"]["job"]) == ("up", "", "splitmx")
    before = prometheus.query('splitmx_transactions_total{outcome="accepted"}')[0][1]
    watched.send()
    poll(lambda: prometheus.query(f'splitmx_transactions_total{{outcome="accepted"}} == {before + 2:g}'), "the messages to be seen", 30, 0.1)
    told = {"$__rate_interval": "1m", "$instance": ".*", "$relay": ".*"}
    without = []
    for where, made in TARGETS.items():
        expression = re.sub(r"\$\w+", lambda name: told[name[0]], made["expr"])
        without += [] if prometheus.query(expression) else [where]
    assert not without
    for quantile in (target["expr"] for target in TARGETS.values() if "histogram_quantile" in target["expr"]):
        shown = dict((metric["relay"], value) for metric, value in prometheus.query(re.sub(r"\$\w+", lambda name: told[name[0]], quantile)))
        assert set(shown) == {"local", "kingmailer", "gmail"}
        assert "connect" in quantile or all(0 < value < 5 for value in shown.values()), (quantile, shown)


@needs_prometheus
def test_an_alert_fires_when_a_server_is_lost_and_says_which(watched, prometheus):
    rules = {rule["name"]: rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]}
    assert list(rules) == NAMES
    for name, rule in rules.items():
        assert rule["labels"]["severity"] in ("critical", "warning") and len(rule["annotations"]["description"]) > 60, name
        assert "splitmx" in rule["annotations"]["summary"], name

    def fired():
        return [alert for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing" and alert["labels"]["alertname"] == "SplitmxEndpointDown"]

    assert not fired()
    watched.lose()
    (alert,) = poll(fired, "the alert", 30, 0.1)
    endpoint = f"127.0.0.1:{watched.kingmailer.port}"
    assert (alert["labels"]["endpoint"], alert["labels"]["severity"]) == (endpoint, "warning")
    assert alert["annotations"]["summary"] == f"{endpoint}, where splitmx on {watched.admin} sends mail, is down"
    assert [value for _, value in prometheus.query("sum(splitmx_endpoint_down)")] == [1]
    assert all(rule["health"] == "ok" for group in prometheus.ask("rules")["groups"] for rule in group["rules"])
