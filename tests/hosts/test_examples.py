"""
The examples of docs/examples: their very files, on hosts that have the names and addresses which they speak of.

What the lab supplies, so that nothing in the files has to be replaced (but REPLACED):

    mx.example.com                  192.0.2.10, which is 10.89.0.10 on the private network: the host that splitmx is on
    other names of example.com      what the example's README or zone says of them
    kingmailer.org                  192.0.2.30, whose MX record leads to a trap
    aspmx.l.google.com and so on    a stand-in
    authorities that Debian trusts  the lab's own
    the local server                Debian's Postfix with the lines of the example, and a mailbox for user@example.com
"""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.clients import openssl
from lab.examples import EXAMPLES, ExampleDaemon, ExamplePostfix, Place, read
from lab.laboratory import KING as KING_HOST
from lab.laboratory import TRAP, Counted
from lab.names import host, mx
from splitmx_test.daemon import REPOSITORY
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import reply
from splitmx_test.waiting import poll

USER, KING, AUNT = "user@example.com", "kingmail@example.com", "aunt@example.com"
CLIENT = "client.test[192.0.2.50]"
REPLACED = {"docker-mailserver": ("/certs/", "/etc/splitmx/")}  # a host has no such folder, unlike a container
CONFIGURATIONS = sorted(path for path in EXAMPLES.glob("*/*.yaml") if path.name != "routes.yaml")


def files_of(example, names, renamed=None):
    """{name in /etc/splitmx: text}."""
    return {name: read(example, (renamed or {}).get(name, name)).replace(*REPLACED.get(example, ("", ""))) for name in names}


@pytest.fixture(scope="module", autouse=True)
def _places(lab):
    """Without overlays nothing can be put into a host's /etc."""
    place = Place(lab, lab.mx, {})
    try:
        tried = subprocess.run(place.command("true"), capture_output=True, text=True, timeout=60)
        if tried.returncode != 0:
            pytest.skip(f"file systems cannot be laid over each other here: {tried.stderr.strip()}")
    finally:
        place.remove()


@pytest.fixture
def serve(lab):
    """serve("kingmailer", "splitmx.yaml", "routes.yaml"): splitmx with these files of the example, until the test ends."""
    with contextlib.ExitStack() as stack:

        def serve(example, *names, there=None, renamed=None):
            return stack.enter_context(ExampleDaemon(lab, files_of(example, names, renamed), there))

        yield serve


@pytest.fixture
def mailserver(lab):
    """mailserver(host, "postfix-same-host"): the example's Postfix there, with what has come to it."""
    with contextlib.ExitStack() as stack:
        yield lambda there, example, recipients=("user", "postmaster"), **settings: Counted(
            stack.enter_context(ExamplePostfix(there, example, recipients, **settings)))


def answers(splitmx, *recipients, sent=None, **client):
    """What each of them is answered; then one message goes to those who were accepted."""
    with splitmx.client(**client) as client:
        client.mail()
        said = [client.rcpt(recipient) for recipient in recipients]
        if sent is not None:
            assert client.data() == 354
            assert client.body(sent) == 250
        return said


# All of them.


def test_each_folder_has_a_test_below_that_serves_its_files_and_is_told_of():
    served = set(re.findall(r'\bserve\("([\w-]+)", "splitmx.yaml", "routes.yaml"', Path(__file__).read_text()))
    told = set(re.findall(r"^\| \[([\w-]+)\]\(docs/examples/\1\)", (REPOSITORY / "README.md").read_text(), re.M))
    assert told == {path.name for path in EXAMPLES.iterdir()}
    assert served == told - {"monitoring"}  # tests/e2e/test_monitoring.py


@pytest.mark.parametrize("folder", sorted(path.name for path in EXAMPLES.iterdir()))
def test_each_folder_says_in_its_readme_what_its_files_are_for(folder):
    said = (EXAMPLES / folder / "README.md").read_text()
    assert [path.name for path in (EXAMPLES / folder).iterdir() if path.name != "README.md" and f"`{path.name}`" not in said] == []
    linked = re.findall(r"`\.\./([\w-]+)`", said)
    assert all((EXAMPLES / name).is_dir() for name in linked), linked


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_check_has_nothing_to_say_of_it(lab, config):
    beside = [path.name for path in config.parent.iterdir() if path.name.endswith(".cf") or path.name == "routes.yaml"]
    place = Place(lab, lab.mx, files_of(config.parent.name, ["splitmx.yaml", *beside], {"splitmx.yaml": config.name}))
    try:
        done = place.splitmx("check")
        assert (done.status, done.err) == (0, ""), done
    finally:
        place.remove()


# In front of docker-mailserver: tests/container takes all steps; here are the files.


def test_docker_mailservers_postscreen_is_told_the_client(lab, serve, local):
    with lab.names.also(host("mailserver", lab.local.proxy)):
        splitmx = serve("docker-mailserver", "splitmx.yaml", "routes.yaml")
        assert answers(splitmx, USER, "absent@example.com", sent=message()) == [250, "550 5.1.1"]
        local.await_log("client=", CLIENT)
        local.await_new("user")


# In front of a Postfix on the same host.


def test_postfix_on_the_same_host_sees_the_client_and_trusts_nobody(lab, serve, mailserver):
    here = mailserver(lab.mx, "postfix-same-host")
    splitmx = serve("postfix-same-host", "splitmx.yaml", "routes.yaml")
    sent = message()
    assert answers(splitmx, USER, "absent@example.com", "x@elsewhere.test", sent=sent) == [250, "550 5.1.1", "550 5.7.1"]
    here.await_log("client=", CLIENT)
    assert here.await_new("user")[0].endswith(sent.replace(b"\r\n", b"\n"))
    with lab.mx.client(("127.0.0.1", 10025)) as client:  # past splitmx, from an address of mynetworks
        client.mail()
        assert client.rcpt("x@elsewhere.test") == "454 4.7.1"


# One address lives at another server.


def test_kingmail_goes_to_the_bracketed_host_by_the_line_of_a_postfix_map(lab, serve, mailserver, start_server):
    king, trap = start_server(lab.far, "kingmailer.org", KING_HOST), start_server(lab.far, "trap.test", TRAP)
    here = mailserver(lab.mx, "postfix-same-host")
    splitmx = serve("kingmailer", "splitmx.yaml", "routes.yaml", "postfix-transport_map.cf")
    sent = message()
    assert answers(splitmx, USER, KING, sent=sent) == [250, 250]
    assert_relayed(king.only_message().data, sent)
    assert king.only_message().recipients == [KING]
    here.await_new("user")
    king.on("rcpt", reply("550 5.1.1 nobody of that name"))
    assert answers(splitmx, KING) == ["550 5.1.1"]
    trap.assert_has_nothing()
    told = splitmx.command("route", "--probe", KING)
    assert told.status == 1 and "550 5.1.1 nobody of that name" in told.out, told


# Gmail for the family.


def test_the_family_is_at_gmail_and_so_am_i_while_the_server_here_is_down(lab, serve, mailserver, gmail):
    here = mailserver(lab.mx, "postfix-same-host")
    splitmx = serve("gmail-family", "splitmx.yaml", "routes.yaml")
    sent = message()
    assert answers(splitmx, USER, AUNT, "absent@example.com", "postmaster@example.com", sent=sent) == [250, 250, "550 5.1.1", 250]
    aunts = gmail.only_message()
    assert_relayed(aunts.data, sent)
    assert (aunts.recipients, aunts.connection.tls) == ([AUNT], "TLSv1.3")
    here.await_new("user")
    here.await_log("client=", CLIENT)
    assert openssl(lab).verified
    assert splitmx.command("route", "--probe", AUNT).status == 0
    here.server.stop()
    assert answers(splitmx, USER, "postmaster@example.com", sent=message()) == [250, "451 4.4.1"]
    assert gmail.await_messages(2)[1].recipients == [USER]


# Behind HAProxy.


@pytest.fixture
def haproxy(lab, tmp_path):
    """haproxy() starts Debian's on the host 10.89.0.11, which is 192.0.2.20 outside; the file that it logs to."""
    if shutil.which("haproxy") is None:
        pytest.skip("there is no haproxy")
    command = lab.lower.command("haproxy", "-f", EXAMPLES / "haproxy" / "haproxy.cfg")
    checked = subprocess.run([*command, "-c"], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and "WARNING" not in checked.stderr + checked.stdout, checked
    with contextlib.ExitStack() as stack:

        def start():
            log = tmp_path / "haproxy.log"
            with open(log, "wb") as file:
                process = stack.enter_context(subprocess.Popen([*command, "-db"], stdin=subprocess.DEVNULL, stdout=file, stderr=file))
            stack.callback(process.terminate)
            return log

        yield start


def test_behind_haproxy_the_server_sees_the_client_of_haproxy(lab, serve, mailserver, haproxy, start_server):
    start_server(lab.far, "kingmailer.org", KING_HOST)
    here = mailserver(lab.local_host, "haproxy", at="10.89.0.25")
    with lab.names.only([line for line in lab.names.records if "example.com" not in line] + mx("example.com", (0, "mx.example.com"))
                        + host("mx.example.com", "192.0.2.20") + host("splitmx1.example.com", "192.0.2.10", "2001:db8::10")):
        splitmx = serve("haproxy", "splitmx.yaml", "routes.yaml")
        log = haproxy()
        poll(lambda: "server smtp/splitmx1 succeeded, reason: Layer7 check passed" in log.read_text(), "HAProxy's check")
        with lab.client.client((lab.lower.address, 25), hello="helo.client.test") as client:
            assert client.send_mail(message(), USER) == 250
        here.await_log("client=", CLIENT)
        assert "helo.client.test (client.test [192.0.2.50])" in splitmx_received(here.await_new("user")[0])
        splitmx.await_log("client=192.0.2.50")
        told = splitmx.command("doctor")
        assert told.status == 0 and "0 errors" in told.out and "that `proxy-protocol` lists" in told.out, told


def splitmx_received(mail):
    """The field of splitmx in a message that Postfix has delivered."""
    return next(field for field in re.split(r"\n(?=\S)", mail.decode("latin-1")) if "(splitmx)" in field)


# Two instances behind two MX records.


def test_when_the_first_of_two_is_away_mail_comes_by_the_second(lab, serve, mailserver, start_server):
    start_server(lab.far, "kingmailer.org", KING_HOST)
    here = mailserver(lab.local_host, "two-mx", at="10.89.0.25")
    first, second = (serve("two-mx", "splitmx.yaml", "routes.yaml", there=there, renamed={"splitmx.yaml": f"{name}.yaml"})
                     for there, name in ((lab.mx, "mx1"), (lab.lower, "mx2")))
    zone = read("two-mx", "example.com.zone")
    exchanges = re.findall(r"^example\.com\. +IN MX (\d+) (\S+)\.$", zone, re.M)
    records = [mx("example.com", *exchanges), *(host(*found) for found in re.findall(r"^(\S+)\. +IN A +(\S+)$", zone, re.M))]
    assert len(records) == 3
    others = [line for line in lab.names.records if "example.com" not in line]
    sender = lab.senders[0]
    with lab.names.only(others + [line for part in records for line in part]):
        for splitmx in (first, second):
            told = splitmx.command("doctor")
            assert told.status == 0 and "0 errors" in told.out, told
        for count, (splitmx, name) in enumerate(((first, "mx1"), (second, "mx2")), start=1):
            sender.send(message(), USER)
            sender.await_empty_queue()
            mail = here.await_new("user", count)[-1]
            assert f"by {name}.example.com (splitmx)" in splitmx_received(mail)
            assert mail.count(b"[192.0.2.41]") == 2  # as splitmx saw it, and as the mail server was told
            splitmx.stop()


# Mail that local users send to those who live elsewhere.


@pytest.fixture
def house(lab, mailserver, serve, start_server, gmail):
    """Postfix, splitmx, and kingmailer.org."""
    king = start_server(lab.far, "kingmailer.org", KING_HOST)
    here = mailserver(lab.mx, "local-users", more=("elsewhere", "elsewhere-transport"))
    return here, serve("local-users", "splitmx.yaml", "routes.yaml"), king


def submit(lab, sent, *recipients):
    with lab.mx.client(("127.0.0.1", 587)) as client:
        return client.send_mail(sent, *recipients, sender=USER)


def test_what_a_user_here_sends_to_those_elsewhere_goes_by_splitmx(lab, house, gmail):
    here, splitmx, king = house
    sent = message()
    assert submit(lab, sent, KING, AUNT, USER) == 250
    for there, recipient in ((king, KING), (gmail, AUNT)):
        got = there.await_messages(1)[0]
        assert (got.recipients, got.sender) == ([recipient], USER)
        assert got.data.endswith(sent)
    here.await_log(f"to=<{KING}>", "relay=127.0.0.1[127.0.0.1]:10026", "status=sent")
    here.await_new("user")
    with lab.mx.client(("127.0.0.1", 587)) as client:
        client.mail(USER)
        assert client.rcpt("absent@example.com") == "550 5.1.1"


def test_what_a_program_here_sends_by_sendmail_goes_there_too(lab, house):
    here, splitmx, king = house
    done = lab.mx.run("/usr/sbin/sendmail", "-C", here.server.etc, "-f", USER, KING, input=b"Subject: test\n\ntest\n")
    assert done.returncode == 0, done
    assert king.await_messages(1)[0].recipients == [KING]
    assert "client=127.0.0.1" in splitmx.await_log("event=transaction")


def test_a_line_that_routes_lost_makes_no_loop(lab, house):
    here, splitmx, king = house
    with lab.mx.client(("127.0.0.1", 10025)) as client:
        client.mail()
        assert client.rcpt(KING) == "550 5.1.1"
    (splitmx.place.folder / "etc" / "splitmx" / "routes.yaml").write_text("example.com: local\n")
    reloaded = splitmx.reload()
    assert reloaded.status == 0, reloaded
    assert answers(splitmx, KING) == ["550 5.1.1"]
    assert submit(lab, message(), KING) == 250
    bounce = here.await_new("user")[0]
    assert b"550 5.1.1" in bounce and bounce.count(b"(splitmx)") == 0
    king.assert_has_nothing()


def test_neither_splitmx_nor_its_listener_relays_for_being_on_this_host(lab, house):
    for port, answer in ((25, "550 5.7.1"), (10026, "550 5.7.1"), (10025, "454 4.7.1")):
        with lab.mx.client(("127.0.0.1", port)) as client:
            client.mail(USER)
            assert client.rcpt("x@elsewhere.test") == answer
