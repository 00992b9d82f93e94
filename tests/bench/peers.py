"""The things in the middle, each started in a folder of its own with a configuration as an operator would have it, and
the upstreams behind them. All listen on 127.0.0.1.
"""

import os
import pathlib
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time

from measure import Meter

START_SECONDS, STOP_SECONDS = 20, 20
USER, KING, SENDER = "user@example.com", "kingmail@example.com", "sender@example.net"
PORTS = iter(range(20000 + os.getpid() % 1000 * 10, 32000))  # below the ports that connections get
MODULES = "/usr/lib/nginx/modules"


class Trouble(Exception):
    """What could not be measured, in words for the reader."""


class Unsuited(Trouble):
    """This machine is not one to measure it on."""


def descriptors():
    """As many as we may have, for us and all that we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (65536, most):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, most)))
            return wanted
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_port():
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Trouble("no free port below 32000")


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.settimeout(5)
            return connection.recv(3) == b"220"
    except OSError:
        return False


class Server:
    """A program that has begun to answer on `port`; in a `with`, or start() and stop()."""

    name = label = "server"
    program = None  # the file it is, for those that may be missing

    def __init__(self, scratch):
        self.port = free_port()
        self.folder = pathlib.Path(scratch) / f"{self.label.replace(',', '').replace(' ', '-')}-{self.port}"
        self.meter = None
        self.process = None

    def command(self):
        """Writes what the program reads, and says how it is started."""
        raise NotImplementedError

    def start(self):
        self.folder.mkdir(mode=0o755)
        command = [str(word) for word in self.command()]
        self.meter = Meter(self.folder.name)
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            preexec_fn=self.meter.enter, start_new_session=True)
        self.meter.root = self.process.pid
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / "output").read_text(errors="replace")[-2000:]
                self.stop()
                raise Trouble(f"{self.label} does not start: {words}")
            time.sleep(0.02)
        return self

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.meter is not None:
            self.meter.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    @classmethod
    def missing(cls):
        """Why it cannot run here, or None."""
        return None if cls.program is None or shutil.which(cls.program) else f"{cls.program} is not installed"

    @classmethod
    def version(cls):
        return None


def first_line(*command):
    """Where a program says its version, on either output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def as_nobody():
    """The option that programs started as root want."""
    return ["-u", "nobody"] if os.geteuid() == 0 else []


# ---- upstreams ----


class SmtpSink(Server):
    label = "smtp-sink"
    program = "smtp-sink"

    def command(self):
        return ["smtp-sink", *as_nobody(), "-m", "30000", f"127.0.0.1:{self.port}", "1024"]


class Sink(Server):
    """Our own, which speaks TLS and can be slow."""

    label = "sink"

    def __init__(self, scratch, program, *options):
        super().__init__(scratch)
        self.file, self.options = program, options

    def command(self):
        return [self.file, "--listen", f"127.0.0.1:{self.port}", *self.options]


# ---- in the middle ----


class Direct:
    """Nothing in the middle: the upstream itself."""

    name = label = "direct"
    meter = None

    def __init__(self, _, upstream):
        self.port = upstream.port

    def start(self):
        return self

    def stop(self):
        pass

    @classmethod
    def missing(cls):
        return None


class Splitmx(Server):
    """As shipped: summary log on (to a file), ledger on, a loop for every two cores. One client is all there is here, so its
    limits are raised. `upstreams`: of `local`, and of `king` if there are two; `tables`: files of routes beside."""

    name = label = "splitmx"

    def __init__(self, scratch, *upstreams, program, label=None, certificate=None, workers=None, tables=()):
        self.label = label or self.label
        super().__init__(scratch)
        self.file, self.upstreams, self.certificate, self.workers = program, upstreams, certificate, workers
        self.tables = tables

    def command(self):
        tls = "tls: none" if self.certificate is None else "tls: encrypt"
        relays = dict(zip(("local", "king"), self.upstreams))
        files = [str(path) for path in self.tables]
        if relays:
            files.insert(0, "routes.yaml")
            addresses = {"local": USER, "king": KING}
            (self.folder / "routes.yaml").write_text("".join(f"{addresses[relay]}: {relay}\n" for relay in relays))
        settings = ["hostname: mx.example.com", f"routes: [{', '.join(files)}]", "state-directory: state",
                    "limits: {connections: 30000, connections-per-client: 30000, message-size: 100M}",
                    f'listen: [{{address: "127.0.0.1:{self.port}"}}]', "relays:" if relays else ""]
        settings += [f'  {relay}: {{next-hop: "smtp:[127.0.0.1]:{upstream.port}", identity: none, {tls}}}'
                     for relay, upstream in relays.items()]
        if os.geteuid() == 0:
            settings.append("user: nobody")
        if self.workers is not None:
            settings.append(f"workers: {self.workers}")
        if self.certificate is not None:
            settings.append(f"tls: {{certificate: {self.certificate.chain}, private-key: {self.certificate.key}}}")
        (self.folder / "splitmx.yaml").write_text("\n".join(settings) + "\n")
        return [self.file, "run", "-c", self.folder / "splitmx.yaml"]


class HAProxy(Server):
    """Passes bytes on, blindly: the measure of all others."""

    name = label = "haproxy"
    program = "haproxy"

    def __init__(self, scratch, upstream):
        super().__init__(scratch)
        self.upstream = upstream

    def command(self):
        # A session takes two descriptors; more than there are for is refused at the start.
        most = min(20000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100) // 2)
        (self.folder / "haproxy.cfg").write_text(f"""global
  maxconn {most}
defaults
  mode tcp
  timeout connect 10s
  timeout client 600s
  timeout server 600s
listen smtp
  bind 127.0.0.1:{self.port}
  server upstream 127.0.0.1:{self.upstream.port}
""")
        return ["haproxy", "-db", "-f", self.folder / "haproxy.cfg"]

    @classmethod
    def version(cls):
        return " ".join(first_line("haproxy", "-v").split()[:3:2])


class Nginx(Server):
    """The mail proxy. It asks for each session over HTTP where to go; a server block of its own answers."""

    name = label = "nginx"
    program = "nginx"

    def __init__(self, scratch, upstream, certificate=None):
        super().__init__(scratch)
        self.upstream, self.certificate, self.ask = upstream, certificate, free_port()

    def command(self):
        tls = ""
        if self.certificate is not None:
            tls = f"starttls on; ssl_certificate {self.certificate.chain}; ssl_certificate_key {self.certificate.key};"
        user = "user nobody nogroup;" if os.geteuid() == 0 else ""
        for place in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (self.folder / place).mkdir()
        places = "".join(f"  {place}_temp_path {self.folder}/{folder};\n" for place, folder in (
            ("client_body", "body"), ("proxy", "proxy"), ("fastcgi", "fastcgi"), ("uwsgi", "uwsgi"), ("scgi", "scgi")))
        (self.folder / "nginx.conf").write_text(f"""load_module {MODULES}/ngx_mail_module.so;
{user}
worker_processes auto;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[0]};
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 30000; }}
mail {{
  server_name mx.example.com;
  auth_http 127.0.0.1:{self.ask}/;
  server {{
    listen 127.0.0.1:{self.port} backlog=1024;
    protocol smtp;
    smtp_auth none;
    xclient off;
    {tls}
  }}
}}
http {{
{places}  access_log off;
  server {{
    listen 127.0.0.1:{self.ask} backlog=1024;
    location / {{
      add_header Auth-Status OK;
      add_header Auth-Server 127.0.0.1;
      add_header Auth-Port {self.upstream.port};
      return 204;
    }}
  }}
}}
""")
        return ["nginx", "-e", self.folder / "error.log", "-c", self.folder / "nginx.conf", "-g", "daemon off;"]

    @classmethod
    def missing(cls):
        if not pathlib.Path(MODULES, "ngx_mail_module.so").exists():
            return "libnginx-mod-mail is not installed"
        return super().missing()

    @classmethod
    def version(cls):
        return first_line("nginx", "-v").rpartition(" ")[2].replace("/", " ")


class Postfix(Server):
    """smtpd with smtpd_proxy_filter: like splitmx it takes no custody, the upstream's answer is the client's."""

    name = label = "postfix"
    program = "postfix"

    def __init__(self, scratch, upstream, certificate=None, processes=100):
        super().__init__(scratch)
        self.upstream, self.certificate, self.processes = upstream, certificate, processes

    def command(self):
        etc, queue, data = (self.folder / name for name in ("etc", "queue", "data"))
        for path in (etc, queue, data):
            path.mkdir(mode=0o755)
        os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
        settings = {
            "compatibility_level": "3.6", "queue_directory": queue, "data_directory": data, "maillog_file": "/dev/stdout",
            "myhostname": "mx.example.com", "mydestination": "", "mynetworks": "127.0.0.0/8", "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4", "alias_maps": "", "local_recipient_maps": "", "smtputf8_enable": "no",
            "message_size_limit": "104857600", "smtpd_client_connection_count_limit": "0",
            "smtpd_client_connection_rate_limit": "0", "smtpd_proxy_filter": f"127.0.0.1:{self.upstream.port}",
        }
        if self.certificate is not None:
            settings.update({"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": f"{self.certificate.key}, {self.certificate.chain}"})
        (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        (etc / "master.cf").write_text(
            f"127.0.0.1:{self.port} inet n - n - {self.processes} smtpd\n"
            "cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n"
            "bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\nanvil unix - - n - 1 anvil\n"
            "tlsmgr unix - - n 1000? 1 tlsmgr\nproxymap unix - - n - - proxymap\npostlog unix-dgram n - n - 1 postlogd\n")
        return ["postfix", "-c", etc, "start-fg"]

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            subprocess.run(["postfix", "-c", str(self.folder / "etc"), "abort"], capture_output=True, timeout=STOP_SECONDS, check=False)
        super().stop()

    @classmethod
    def missing(cls):
        return "postfix needs root" if os.geteuid() != 0 else super().missing()

    @classmethod
    def version(cls):
        done = subprocess.run(["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=False)
        return f"Postfix {done.stdout.strip()}"
