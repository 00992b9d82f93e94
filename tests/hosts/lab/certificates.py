"""A certificate authority for a test run, made by openssl in a folder that goes with it."""

import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path


class Certificate:
    def __init__(self, chain, key):
        self.chain, self.key = chain, key

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """with Authority() as ca: ca.issue("mx.example.com"), ca.file, ca.client_context()."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="splitmx-ca-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.file = self.folder / "ca.pem"
        self._count = 0

    def __enter__(self):
        try:
            self._openssl("req", "-x509", *self._new_key("ca"), "-out", self.file, "-days", "30", "-subj", "/CN=Laboratory CA",
                          "-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def issue(self, *names, days=30):
        """A certificate for host names; with days below zero one that has expired."""
        self._count += 1
        name = f"server{self._count}"
        request, chain, extensions = (self.folder / f"{name}.{end}" for end in ("csr", "pem", "ext"))
        extensions.write_text(f"subjectAltName={','.join('DNS:' + host for host in names)}\n"
                              "basicConstraints=critical,CA:false\nextendedKeyUsage=serverAuth\n")
        self._openssl("req", "-new", *self._new_key(name), "-out", request, "-subj", f"/CN={names[0]}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
                      "-days", days, "-extfile", extensions, "-out", chain)
        return Certificate(chain, self.folder / f"{name}.key")

    def client_context(self):
        return ssl.create_default_context(cafile=str(self.file))

    def _new_key(self, name):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.folder / f"{name}.key"

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"
