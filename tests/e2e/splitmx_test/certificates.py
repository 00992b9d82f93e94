"""Certificates for a test run, of several authorities and kinds, made by openssl in a folder that goes with it."""

import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

KINDS = {"ecdsa": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "rsa": ("rsa", "-pkeyopt", "rsa_keygen_bits:2048")}


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"


def _give(path):
    """The daemon's user reads it, and not everybody: else it is refused as a key."""
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)


class Certificate:
    def __init__(self, chain, key):
        self.chain, self.key = chain, key

    @property
    def settings(self):
        """As `tls:` has it."""
        return {"certificate": str(self.chain), "private-key": str(self.key)}

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """ca.issue("mx.splitmx.test"), ca.self_signed("king.test"), ca.file, ca.client_context()."""

    def __init__(self, name="Test CA"):
        self.folder = Path(tempfile.mkdtemp(prefix="splitmx-ca-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.file = self.folder / "ca.pem"
        self._count = 0
        _openssl("req", "-x509", *self._new_key("ca"), "-out", self.file, "-days", "30", "-subj", f"/CN={name}",
                 "-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def issue(self, *names, days=30, kind="ecdsa"):
        """A certificate for host names or addresses; with days below zero one that has expired."""
        name, alternatives = self._next(names)
        request, chain, extensions = (self.folder / f"{name}.{end}" for end in ("csr", "pem", "ext"))
        extensions.write_text(f"subjectAltName={alternatives}\nbasicConstraints=critical,CA:false\nextendedKeyUsage=serverAuth\n")
        _openssl("req", "-new", *self._new_key(name, kind), "-out", request, "-subj", f"/CN={names[0]}")
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", days,
                 "-extfile", extensions, "-out", chain)
        return self._made(chain, name)

    def self_signed(self, *names):
        name, alternatives = self._next(names)
        chain = self.folder / f"{name}.pem"
        _openssl("req", "-x509", *self._new_key(name), "-out", chain, "-days", "30", "-subj", f"/CN={names[0]}",
                 "-addext", f"subjectAltName={alternatives}")
        return self._made(chain, name)

    def client_context(self, **versions):
        context = ssl.create_default_context(cafile=str(self.file))
        context.check_hostname = False
        for key, value in versions.items():
            setattr(context, key, value)
        return context

    def _next(self, names):
        self._count += 1
        kinds = ("IP" if name.replace(".", "").isdigit() or ":" in name else "DNS" for name in names)
        return f"server{self._count}", ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names))

    def _made(self, chain, name):
        key = self.folder / f"{name}.key"
        chain.chmod(0o644)
        _give(key)
        return Certificate(chain, key)

    def _new_key(self, name, kind="ecdsa"):
        return "-newkey", *KINDS[kind], "-nodes", "-keyout", self.folder / f"{name}.key"
