"""Not an open relay, whatever the table says (law 4)."""

import re
import subprocess

import pytest

from splitmx_test.messages import message


@pytest.mark.parametrize("settings", [
    {"routes": {"example.com": "local"}},
    {"routes": {"example.com": "local", "*": "local"}},
    {"routes": {"example.com": "local", ".example.com": "local", "*": "local"}, "domains": ["example.com", ".example.com"]},
    {"map": True},
    {"map": True, "domains": ["example.com"]},
], ids=["one domain", "star", "star and subdomains", "map with star", "map with star and domains"])
def test_nmap_finds_no_open_relay(start_daemon, start_upstream, settings):
    upstream = start_upstream()
    settings = dict(settings)
    if settings.get("map"):
        settings["map"] = f"example.com {upstream.next_hop}\n* {upstream.next_hop}\n"
    daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}}, limits={"errors": 1000}, **settings)
    result = subprocess.run(
        ["nmap", "-Pn", "-n", "-p", str(daemon.port), "--script", "+smtp-open-relay",
         "--script-args", "smtp-open-relay.domain=nmap.scanme.org,smtp-open-relay.ip=127.0.0.1", "127.0.0.1"],
        capture_output=True, text=True, timeout=120)
    assert "open" in result.stdout, result.stdout
    verdict = re.search(r"smtp-open-relay: (.*)", result.stdout)
    assert verdict, f"the script did not run: {result.stdout}"
    assert "doesn't seem to be an open relay" in verdict.group(1), result.stdout
    assert upstream.commands() == [] or all(b"nmap.scanme.org>" not in c for c in upstream.commands() if c.startswith(b"RCPT"))


def test_a_star_catches_only_inside_domains(start_daemon, start_upstream):
    upstream = start_upstream()
    daemon = start_daemon(relays={"local": {"next-hop": upstream.next_hop}}, routes={"*": "local"}, domains=["example.com"])
    with daemon.client() as client:
        client.mail()
        assert client.rcpt("x@elsewhere.test") == "550 5.7.1"
        assert client.rcpt("x@sub.example.com") == "550 5.7.1"
        assert client.rcpt("x@example.com") == 250
    assert daemon.send(message(), "x@example.com") == 250
