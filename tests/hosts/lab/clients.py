"""Clients from Debian, on the host "client", that speak TLS: what each of them thinks of the server's certificate."""

import re
import subprocess


class Said:
    """verified: the certificate holds for the name; version: of TLS, None without it; output: all that was said."""

    def __init__(self, done, verified, version):
        self.output = done.stdout.decode("utf-8", "replace")
        self.status = done.returncode
        self.verified = done.returncode == 0 and verified in self.output
        found = re.search(version, self.output)
        self.version = found.group(1) if found else None

    def __repr__(self):
        return f"<status {self.status}, {self.version}, verified={self.verified}:\n{self.output}>"


def _run(lab, *arguments, environment=(), input=b""):
    command = lab.client.command("env", *environment, *arguments)
    return subprocess.run(command, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


def openssl(lab, *options, name="mx.example.com", address="192.0.2.10", port=25, implicit=False):
    start = [] if implicit else ["-starttls", "smtp", "-name", "openssl.test"]
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    done = _run(lab, "openssl", "s_client", *start, "-connect", where, "-servername", name, "-CAfile", lab.ca.file,
                "-verify_return_error", "-verify_hostname", name, *options)
    return Said(done, "Verify return code: 0 (ok)", r"New, (TLSv1[.0-9]*), Cipher is (?!\(NONE\))")


def posttls_finger(lab, *options, name="mx.example.com", address="192.0.2.10", port=25, implicit=False):
    where = f"[{address}]:{port}"
    wrapped = ["-w"] if implicit else []
    done = _run(lab, "posttls-finger", "-c", "-L", "summary", "-l", "secure", "-F", lab.ca.file, *wrapped, *options, where, name,
                environment=[f"MAIL_CONFIG={lab.local.etc}"])
    return Said(done, "Verified TLS connection established", r"TLS connection established to \S+ (TLSv1[.0-9]*)")


def swaks(lab, *options, name="mx.example.com", address="192.0.2.10", port=25, implicit=False):
    """Ends after the handshake's EHLO. The swaks of Debian 12 checks the certificate's chain and dates, not its name."""
    mode = "--tls-on-connect" if implicit else "--tls"
    done = _run(lab, "swaks", "--server", address, "--port", port, "--helo", "swaks.test", "--quit-after", "EHLO" if implicit else "TLS", mode,
                "--tls-verify", "--tls-sni", name, "--tls-ca-path", lab.ca.file, *options)
    return Said(done, "TLS started with cipher", r"TLS started with cipher (TLSv1[.0-9]*)")
