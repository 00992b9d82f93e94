"""The image and docker/compose.yaml, run for real. See engine.py for the engine and town.py for what is run."""

import json
import re
import threading


from splitmx_test.messages import message
from splitmx_test.peers import in_front_of
from splitmx_test.waiting import poll
from town import DOMAIN, SENDER, START

USER, KING, KING2 = (f"{user}@{DOMAIN}" for user in ("user", "kingmail", "king2"))
TEXT = b"plain text\r\n.dot\r\n\r\nend\r\n"


def assert_arrived(town, container, user, sent):
    mails = town.await_mail(container, user, sent)
    assert len(mails) == 1
    ours = [line for line in in_front_of(mails[0], sent) if "(splitmx)" in line]
    assert len(ours) == 1 and f"[{SENDER}]" in ours[0], ours


def status_of(town, container):
    text = town.exec(container, "cat", "/proc/1/status").stdout
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))


# ---- the image ----


def test_the_image_is_small_and_not_root(engine):
    image, base = engine.inspect("splitmx"), engine.inspect("debian:bookworm-slim")
    assert image["Config"]["User"] == "10025:10025"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    assert image["Size"] - base["Size"] < 16 << 20


def test_a_port_below_1024_needs_no_option_and_names_of_the_hosts_file_are_known(engine, town):
    """docker run, with nothing of compose.yaml but the restrictions."""
    folder = engine.folder / "plain"
    folder.mkdir()
    (folder / "splitmx.yaml").write_text(f"hostname: mx.{DOMAIN}\nroutes: routes.yaml\nlisten:\n  - address: '[::]:25'\n")
    (folder / "routes.yaml").write_text(f"{DOMAIN}: smtp:[only-in-hosts.test]\n")
    container = engine.docker("run", "--detach", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
                              "--network", town.network, f"--add-host=only-in-hosts.test:{town.address_of(town.kingmailer)}",
                              "--volume", f"{folder}:/etc/splitmx:ro", "splitmx").stdout.strip()
    town.await_log(container, "event=ready")
    sent = message(TEXT)
    with town.client(town.address_of(container)) as client:
        assert client.send_mail(sent, KING) == 250
    assert_arrived(town, town.kingmailer, "kingmail", sent)
    assert engine.docker("diff", container).stdout == ""
    engine.docker("stop", container)
    assert engine.inspect(container)["State"]["ExitCode"] == 0


def test_on_the_hosts_network_it_starts_as_root_and_becomes_its_user(engine, town):
    """The options that docker/Dockerfile names."""
    text = (town.repository / "docker" / "Dockerfile").read_text()
    options = re.search(r"^#   (--user root .*)$", text, re.M)[1].split()
    folder = engine.folder / "host"
    folder.mkdir()
    (folder / "splitmx.yaml").write_text(f"hostname: mx.{DOMAIN}\nroutes: routes.yaml\nlisten:\n  - address: '127.0.0.1:26'\n")
    (folder / "routes.yaml").write_text(f'{DOMAIN}: "discard:"\n')
    container = engine.docker("run", "--detach", "--read-only", *options, "--network=host", "--volume", f"{folder}:/etc/splitmx:ro",
                              "splitmx").stdout.strip()
    town.await_log(container, "event=ready")
    status = status_of(town, container)
    assert status["Uid"].split() == ["10025"] * 4 and status["Gid"].split() == ["10025"] * 4
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 1 << 10
    engine.docker("stop", container)
    assert engine.inspect(container)["State"]["ExitCode"] == 0


# ---- compose.yaml, step by step ----


def test_check_has_nothing_to_say(town):
    assert [line for line in town.checked.splitlines() if ".yaml:" in line] == ["/etc/splitmx/splitmx.yaml: fine, 2 routes, 2 relays"]


def test_it_becomes_healthy_and_answers_what_step_7_asks(town):
    town.await_health()
    # The doctor would find that this town has no DNS worth the name.
    said = town.follow(7, lambda command: "doctor" not in command)
    assert "(healthy)" in said
    assert re.search(rf"^{USER}\n(?: .*\n)*? *relay +local$", said, re.M) and "[kingmailer.org]:25" in said, said


def test_it_can_do_no_more_than_it_has_to(engine, town):
    status = status_of(town, town.splitmx)
    assert status["Uid"].split() == ["10025"] * 4 and status["Gid"].split() == ["10025"] * 4
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0, (capabilities, status)
    assert status["NoNewPrivs"] == "1" and status["Seccomp_filters"] == "2"  # the engine's, and our own
    told = json.loads(town.exec(town.splitmx, "splitmx", "status", "--json").stdout)["confinement"]
    assert told["no_new_privileges"] and told["system_calls"] and told["no_core_dumps"] and not told["binds_low_ports"], told
    for path in ("/x", "/etc/splitmx/x", "/usr/local/bin/x", "/certs/x"):
        refused = town.exec(town.splitmx, "touch", path, check=False)
        assert refused.returncode != 0 and re.search("Read-only|Permission", refused.stderr), refused
    assert town.exec("--user=root", town.splitmx, "touch", "/x", check=False).returncode != 0
    assert "BEGIN" in town.exec(town.splitmx, "head", "-n1", "/certs/privkey.pem").stdout
    assert town.exec(town.splitmx, "stat", "-c", "%U %a", "/var/lib/splitmx").stdout.split() == ["splitmx", "700"]
    assert engine.docker("diff", town.splitmx).stdout.split() in ([], ["A", "/certs"])  # where the folder is mounted


def test_one_message_reaches_both_servers_by_the_names_that_docker_knows(town):
    sent = message(TEXT)
    with town.client() as client:
        assert client.mail() == 250
        assert client.rcpt(USER) == 250
        assert client.rcpt(KING) == 250
        assert client.rcpt(f"nobody@{DOMAIN}") == "550 5.1.1"
        assert client.rcpt("user@elsewhere.test") == "550 5.7.1"
        assert client.data() == 354
        answer = client.body(sent)
        assert answer == "250 2.0.0", answer
        client.quit()
    assert_arrived(town, town.mailserver, "user", sent)
    assert_arrived(town, town.kingmailer, "kingmail", sent)
    assert f"client={SENDER}" in town.log(town.splitmx)


def test_the_server_behind_sees_the_client_and_senders_see_tls(town):
    with town.client() as client:
        assert "STARTTLS" in client.capabilities.texts
        assert client.mail() == 250
        assert client.rcpt(USER) == 250
    town.await_log(town.mailserver, f"CONNECT from [{SENDER}]")
    town.await_log(town.mailserver, f"connect from unknown[{SENDER}]")
    assert f"CONNECT from [{town.address_of(town.splitmx)}]" not in town.log(town.mailserver)


def test_step_9_reloads_the_table(town):
    with town.client() as client:  # a session from before, which the reload does not drop
        assert client.mail() == 250
        assert client.rcpt(KING2) == "550 5.1.1"
        town.edit("splitmx/routes.yaml", "\nkingmail@", f"\n{KING2}: smtp:[kingmailer.org]\nkingmail@")
        town.follow(9, lambda command: "kill -s HUP" in command)
        sent = message(TEXT)
        poll(lambda: client.cmd("RSET") == 250 and client.mail() == 250 and client.rcpt(KING2) == 250, "the new route", START)
        assert client.data() == 354
        assert client.body(sent) == 250
    assert_arrived(town, town.kingmailer, "king2", sent)


def test_step_9_tells_what_is_wrong_and_the_old_stays_in_force(town):
    town.edit("splitmx/routes.yaml", f"\n{DOMAIN}: local", f"\n{DOMAIN}: lokal")
    try:
        refused = town.shell("docker compose exec splitmx splitmx reload", check=False)
        assert refused.returncode != 0
        assert re.search(r"routes\.yaml:\d+:\d+: .*lokal", refused.stdout + refused.stderr), refused
        with town.client() as client:
            assert client.mail() == 250
            assert client.rcpt(USER) == 250
    finally:
        town.edit("splitmx/routes.yaml", f"\n{DOMAIN}: lokal", f"\n{DOMAIN}: local")
    town.follow(9, lambda command: command.endswith("splitmx reload"))


# ---- the end, and starting again ----


def test_stopping_waits_for_the_mail_under_way(engine, town):
    sent = message(TEXT)
    with town.client() as idle, town.client() as busy:
        busy.begin(USER, KING)
        busy.send(sent[:100])
        stop = threading.Thread(target=town.shell, args=("docker compose stop splitmx",))
        stop.start()
        try:
            assert idle.reply() == "421 4.3.2"
            busy.send(sent[100:].replace(b"\r\n.", b"\r\n..") + b".\r\n")
            assert busy.reply() == 250
        finally:
            stop.join()
    state = engine.inspect(town.splitmx)["State"]
    assert not state["Running"] and state["ExitCode"] == 0, state
    assert_arrived(town, town.mailserver, "user", sent)
    assert_arrived(town, town.kingmailer, "kingmail", sent)
    town.shell("docker compose start splitmx")
    town.await_health()


def test_it_starts_again_after_it_was_killed(engine, town):
    """What it left in its state directory (a socket, the number of process 1) is not taken for a running one."""
    engine.docker("kill", "-s", "KILL", town.splitmx)
    poll(lambda: not engine.inspect(town.splitmx)["State"]["Running"], "the end", START)
    assert engine.inspect(town.splitmx)["State"]["ExitCode"] == 137
    town.shell("docker compose start splitmx")
    town.await_health()
    sent = message(TEXT)
    with town.client() as client:
        assert client.send_mail(sent, USER) == 250
    assert_arrived(town, town.mailserver, "user", sent)


def test_the_mailserver_is_found_again_after_it_was_replaced(engine, town):
    """Another image, another container, another address: docker compose up -d does that at every update."""
    engine.docker("rm", "--force", town.mailserver)
    placeholder = engine.docker("run", "--detach", "--network", town.network, "splitmx", "--version").stdout.strip()
    with town.client() as client:
        assert client.mail() == 250
        assert client.rcpt(USER).code in (451, 421)
    town.shell("docker compose up -d mailserver")
    town.mailserver = town.service("mailserver")
    town.await_postfix(town.mailserver)
    engine.docker("rm", "--force", placeholder)
    sent = message(TEXT)
    with town.client() as client:
        # That there is no such name is kept as long as any answer.
        poll(lambda: client.cmd("RSET") == 250 and client.mail() == 250 and client.rcpt(USER) == 250, "the name", 2 * START, interval=0.1)
        assert client.data() == 354
        assert client.body(sent) == 250
    assert_arrived(town, town.mailserver, "user", sent)
