"""testssl.sh finds nothing on the listener that it does not find on Debian's Postfix with a good configuration."""

import json
import subprocess

import pytest

from splitmx_test.daemon import BINARY
from splitmx_test.peers import Postfix

# It looks at what is offered, which is the same with sanitizers, and takes a minute.
pytestmark = pytest.mark.skipif("asan" in str(BINARY), reason="nothing that sanitizers could see")

# Its ranks, the worst last; below LOW are remarks.
RANKS = ["LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"]
# What is judged: protocols, ciphers, forward secrecy, server defaults and preference, vulnerabilities.
CHECKS = ["--protocols", "--std", "--fs", "--server-defaults", "--server-preference", "--vulnerable"]


def findings(where, port, folder):
    """What testssl.sh, run by `where`, holds against a server: its findings' names and ranks."""
    report = folder / f"{port}.json"
    # What needs the network (revocation) is not asked for; the certificate is the test's own.
    subprocess.run([*where, "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--starttls", "smtp", *CHECKS,
                    "--jsonfile", report, f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False)
    found = json.loads(report.read_text())
    assert any(one["id"] == "TLS1_3" and "offered" in one["finding"] for one in found), found
    return {one["id"]: one["severity"] for one in found if one["severity"] in RANKS}


@pytest.fixture
def postfix(lab):
    keys = lab.mx_certificate
    with Postfix(name="good", smtpd_tls_chain_files=f"{keys.key}, {keys.chain}", smtpd_tls_security_level="may",
                 smtpd_tls_protocols=">=TLSv1.2", smtpd_tls_ciphers="medium", smtpd_tls_mandatory_ciphers="medium",
                 smtpd_tls_exclude_ciphers="aNULL, eNULL, RC4, 3DES, MD5, SEED, IDEA", tls_preempt_cipherlist="yes",
                 tls_ssl_options="NO_RENEGOTIATION, NO_COMPRESSION", smtpd_tls_session_cache_database="") as peer:
        yield peer


def test_no_worse_than_a_good_postfix(lab, start_daemon, postfix, tmp_path):
    keys = lab.mx_certificate
    start_daemon(tls={"certificate": str(keys.chain), "private-key": str(keys.key)},
                          relays={"local": {"next-hop": "smtp:[127.0.0.1]:2"}}, routes={"example.com": "local"})
    theirs, ours = findings([], postfix.port, tmp_path), findings(lab.mx.command(), 25, tmp_path)
    worse = {name: (rank, theirs.get(name, "fine")) for name, rank in ours.items()
             if name not in theirs or RANKS.index(rank) > RANKS.index(theirs[name])}
    assert worse == {}, f"ours and Postfix's: {worse}"
