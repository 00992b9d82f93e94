"""The commands: what they print, what they exit with, where they say an error is (design: sections 3, 4, 8)."""

import json
import os
import re
import subprocess

import pytest

from splitmx_test.daemon import BINARY, Folder, splitmx, yaml
from splitmx_test.messages import message
from splitmx_test.waiting import free_port


@pytest.fixture
def folder():
    """A folder with a configuration that is right; nothing runs."""
    folder = Folder()
    folder.write("routes.yaml", "example.com: local\nkingmail@example.com: smtp:[kingmailer.org]\n")
    folder.write("splitmx.yaml", GOOD.format(user=folder.user, port=free_port()))
    yield folder
    folder.remove()


GOOD = """\
hostname: mx.splitmx.test
routes: routes.yaml
state-directory: state
user: {user}
listen:
  - address: "127.0.0.1:{port}"
relays:
  local:
    next-hop: smtp:[192.0.2.1]
    identity: none
dns: {{servers: ["127.0.0.1:1"]}}
"""


def run(folder, command, *arguments, **keywords):
    return splitmx(command, "-c", folder.config_path, *arguments, **keywords)


def places(result, file):
    """[(line, column, text)] of the errors and warnings about a file."""
    found = re.findall(rf"^(?:\S*/)?{re.escape(file)}:(\d+):(\d+): (.*)$", result.err, re.M)
    return [(int(line), int(column), text) for line, column, text in found]


# Help and usage


def test_help_and_version():
    result = splitmx("--help")
    assert result.status == 0
    for command in ("run", "check", "route", "import", "reload", "status", "doctor", "healthcheck"):
        assert command in result.out
        one = splitmx(command, "--help")
        assert one.status == 0 and command in one.out and one.err == ""
    version = splitmx("--version")
    assert version.status == 0 and re.search(r"splitmx \d+\.\d+", version.out)


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("--frobnicate",), ("check", "--frobnicate"), ("check", "-c"),
                                       ("route",), ("import",), ("check", "surplus"), ("run", "surplus")])
def test_wrong_usage_is_64_and_said_on_standard_error(arguments):
    result = splitmx(*arguments, timeout=10)
    assert result.status == 64, result
    assert result.err and not result.out


@pytest.mark.parametrize("where", ["/dev/full", None], ids=["full", "closed"])
@pytest.mark.parametrize("command", [("check",), ("route", "x@example.com"), ("route", "--json", "x@example.com"), ("--help",),
                                     ("--version",), ("check", "--help"), ("import",)], ids=" ".join)
def test_output_that_cannot_be_written_is_a_failure(folder, command, where):
    arguments = list(command)
    if command[0] == "import":
        arguments.append(str(folder.write("map", "example.com smtp:[192.0.2.1]\n")))
    elif command[0] in ("check", "route") and "--help" not in command:
        arguments[1:1] = ["-c", str(folder.config_path)]
    shell = f'exec "$@" >{where or "&-"}'
    result = subprocess.run(["bash", "-c", shell, "bash", str(BINARY), *arguments], stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1, result
    assert "standard output" in result.stderr


def test_status_that_cannot_be_written_is_a_failure(start_split):
    daemon = start_split().daemon
    for command in ("status", "healthcheck", "reload"):
        result = subprocess.run(["bash", "-c", 'exec "$@" >/dev/full', "bash", str(BINARY), command, "-c", str(daemon.config)],
                                stderr=subprocess.PIPE, text=True)
        assert result.returncode == 1 and "standard output" in result.stderr, (command, result)


# check


def test_check_of_a_right_configuration_is_silent_and_writes_nothing(folder):
    before = sorted(os.listdir(folder.path))
    result = run(folder, "check")
    assert result.status == 0, result
    assert "error" not in result.err.lower()
    assert sorted(os.listdir(folder.path)) == before


def test_check_without_a_file_is_78(folder):
    result = splitmx("check", "-c", folder.path / "absent.yaml")
    assert result.status == 78 and "absent.yaml" in result.err


@pytest.mark.parametrize("text, line, column, hints", [
    ("hostnam: x\n", 1, 1, ["hostnam", "hostname"]),
    ("hostname: mx.test\nhostname: mx2.test\n", 2, 1, ["hostname"]),
    ("hostname: [a]\n", 1, 11, []),
    ("hostname: mx.test\nlimits: {recipients: many}\n", 2, 22, []),
    ("hostname: mx.test\nlimits:\n  recipients: -1\n", 3, 15, []),
    ("hostname: mx.test\nlimits:\n  message-size: 50X\n", 3, 17, []),
    ("hostname: mx.test\ntimeouts: {command: 5 fortnights}\n", 2, 21, []),
    ("hostname: &a mx.test\n", 1, 11, ["anchor"]),
    ("hostname: mx.test\nsplit: sometimes\n", 2, 8, ["together", "defer"]),
    ("hostname: mx.test\nsmtputf8: perhaps\n", 2, 11, []),
    ("hostname: mx.test\nrelays:\n  local:\n    nxt-hop: smtp:[a]\n", 4, 5, ["next-hop"]),
    ("hostname: mx.test\nrelays:\n  smtp:\n    next-hop: smtp:[a.test]\n", 3, 3, ["smtp"]),
    ("hostname: mx.test\nrelays:\n  local:\n    next-hop: smpt:[a.test]\n", 4, 15, []),
    ("hostname: mx.test\nlisten:\n  - address: nonsense\n", 3, 14, []),
    ("hostname: mx.test\nlisten: [\"[::]:25\"]\n", 2, 10, ["each entry of `listen`", "address"]),
    ("hostname: mx.test\nrelays:\n  local:\n    next-hop: smtp:[a.test]\n    port: 26\n", 5, 11, ["port", "gmail"]),
    ("hostname: mx.test\n\trelays: x\n", 2, None, []),
    ("- a\n- b\n", 1, 1, []),
])
def test_errors_of_the_configuration_have_their_place(folder, text, line, column, hints):
    folder.write("splitmx.yaml", text)
    result = run(folder, "check")
    assert result.status == 78, result
    hits = [p for p in places(result, "splitmx.yaml") if p[0] == line and column in (None, p[1])]
    assert hits, f"no error at {line}:{column}: {result}"
    assert all(any(hint in text for _, _, text in hits) for hint in hints), result


def test_all_errors_are_reported_not_only_the_first(folder):
    folder.write("splitmx.yaml", "hostnam: x\nsplit: sometimes\nlimits: {recipients: many, errors: none}\nfoo: bar\n")
    result = run(folder, "check")
    assert result.status == 78
    assert {(1, 1), (2, 8), (4, 1)} <= {p[:2] for p in places(result, "splitmx.yaml")}
    assert len([p for p in places(result, "splitmx.yaml") if p[0] == 3]) == 2


def test_errors_of_all_files_are_reported_in_one_go(folder):
    """Of the configuration, of its next hops, and of the routes: none has to be mended for the others to be told."""
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("smtp:[192.0.2.1]", "smpt:[192.0.2.1]") + "foo: bar\n")
    folder.write("routes.yaml", "a b@example.com: local\nexample.com: smtp:[x.test]:70000\n")
    result = run(folder, "check")
    assert result.status == 78
    assert len(places(result, "splitmx.yaml")) == 2 and len(places(result, "routes.yaml")) == 2, result
    (folder.path / "state").write_text("no folder\n")
    assert "state is not a directory" in run(folder, "check").err
    (folder.path / "state").unlink()
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("foo: bar\n", ""))
    assert len(places(run(folder, "check"), "routes.yaml")) == 2
    folder.write("splitmx.yaml", GOOD.format(user=folder.user, port=free_port()) + "foo: bar\n")
    folder.write("routes.yaml", "example.com: nosuch\nexample.org: nosuch\nexample.net: local\n")
    result = run(folder, "run", timeout=20)
    assert result.status == 78
    assert [place[:2] for place in places(result, "routes.yaml")] == [(1, 14)], "each name once"


@pytest.mark.parametrize("text", ["relay:\n  local: {next-hop: \"smtp:[192.0.2.1]\"}\n", "relays: none\n"])
def test_routes_are_not_blamed_for_relays_that_could_not_be_read(folder, text):
    folder.write("splitmx.yaml", "hostname: mx.test\n" + text)
    folder.write("routes.yaml", "example.com: local\na b@example.com: local\n")
    result = run(folder, "check")
    assert result.status == 78
    assert [place[0] for place in places(result, "routes.yaml")] == [2], result


def test_a_user_that_could_not_be_read_is_not_looked_for(folder):
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("user:", "usr:"))
    result = run(folder, "check")
    assert result.status == 78 and len(result.err.splitlines()) == 1, result


def test_a_default_route_file_that_is_not_there_is_no_second_error(folder):
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("routes:", "rotues:"))
    (folder.path / "routes.yaml").unlink()
    result = run(folder, "check")
    assert result.status == 78 and len(result.err.splitlines()) == 1, result


@pytest.mark.parametrize("name, text, line, hints", [
    ("routes.yaml", "example.com: local\nuser@example.com: nosuch\n", 2, ["nosuch"]),
    ("routes.yaml", "example.com: locall\n", 1, ["local"]),
    ("routes.yaml", "example.com: local\nEXAMPLE.com: local\n", 2, []),
    ("routes.yaml", "example.com: smpt:[x.test]\n", 1, []),
    ("routes.yaml", "example.com: local\n'*': 'smtp:'\n", 2, []),
    ("routes.yaml", "a b@example.com: local\n", 1, []),
    ("routes.yaml", "example.com: smtp:[x.test]:70000\n", 1, []),
    ("routes.yaml", "example.com: {fallback: local}\n", 1, ["to"]),
    ("routes.yaml", "example.com: {to: local, fal1back: local}\n", 1, ["fallback"]),
    ("routes.yaml", "example.com: [local\n", 1, []),
    ("transport", "example.com smtp:[x.test]\nother.test uucp:x\n", 2, ["uucp"]),
    ("transport", "example.com\n", 1, []),
    ("transport", " example.com smtp:[x.test]\n", 1, ["blank"]),
    ("transport", "example.com smtp:[x.test]\nother\0.test smtp:[x.test]\n", 2, ["NUL"]),
    ("routes.yaml", "example.com: local\n---\nother.test: local\n", 2, ["second document"]),
    ("routes.yaml", b"example.com: local\nother.test: m\xe4x\n", 2, ["0xe4"]),
    ("routes.yaml", "example.com: local\nother.test: discard:\n", 2, ["quotes"]),
    ("routes.yaml", "example.com: local\nother.test: smtp:[a.test]:1,smtp:[b.test]:2\n", 2, ["once"]),
])
def test_errors_of_the_routes_have_their_place(folder, name, text, line, hints):
    folder.write(name, text)
    if name != "routes.yaml":
        folder.write("splitmx.yaml", folder.config_path.read_text().replace("routes: routes.yaml", f"routes: {name}\ndomains: [example.com]"))
    result = run(folder, "check")
    assert result.status == 78, result
    said = re.findall(rf"^(?:\S*/)?{re.escape(name)}:(\d+)(?::\d+)?: (.*)$", result.err, re.M)
    allowed = (line, line + 1) if text == "example.com: [local\n" else (line,)  # a list that is not closed is noticed behind it
    hits = [words for number, words in said if int(number) in allowed]
    assert hits, result
    assert all(any(hint in hit for hit in hits) for hint in hints), result


def test_a_routes_file_that_is_not_there_is_placed_where_it_is_named(folder):
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("routes: routes.yaml", "routes: gone.yaml"))
    line = folder.config_path.read_text().splitlines().index("routes: gone.yaml") + 1
    result = run(folder, "check")
    assert result.status == 78, result
    assert re.search(rf"splitmx\.yaml:{line}:9: routes \S*gone\.yaml cannot be read: No such file", result.err), result


def test_errors_come_in_the_order_of_the_file(folder):
    folder.write("routes.yaml", "a.test: nosuch\nb.test: smtp:[\nc.test: nosuch2\nC.test: local\n")
    result = run(folder, "check")
    assert [int(n) for n in re.findall(r"^\S*routes\.yaml:(\d+):\d+: ", result.err, re.M)] == [1, 2, 3, 4], result


def test_a_table_that_accepts_no_domain_is_warned_of_and_explained(folder):
    folder.write("transport", "example.com smtp:[192.0.2.1]\n")
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("routes: routes.yaml", "routes: transport"))
    checked = run(folder, "check")
    assert checked.status == 0 and "warning: mail is accepted for no domain" in checked.err and "`domains:`" in checked.err, checked
    explained = run(folder, "route", "<user@example.com>")
    assert explained.status == 0 and "550 5.7.1" in explained.out and "`domains:`" in explained.out, explained


def test_a_user_that_does_not_exist_is_an_error_that_names_the_fix(folder):
    if os.geteuid() != 0:
        pytest.skip("only root switches users")
    folder.write("splitmx.yaml", folder.config_path.read_text().replace(f"user: {folder.user}", "user: no-such-user"))
    result = run(folder, "check")
    assert result.status == 78, result
    assert "no-such-user" in result.err and re.search(r"useradd|adduser|user:", result.err)


def test_a_warning_stops_nothing(folder):
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("    identity: none\n", "").replace("192.0.2.1", "127.0.0.1"))
    result = run(folder, "check")
    assert result.status == 0, result
    assert "warning" in result.err and "identity" in result.err


def test_a_duplicate_key_in_a_map_is_a_warning_and_the_first_wins(folder):
    folder.write("transport", "example.com smtp:[192.0.2.7]\nExample.com smtp:[192.0.2.8]\n")
    folder.write("splitmx.yaml", folder.config_path.read_text().replace("routes: routes.yaml", "routes: transport\ndomains: [example.com]"))
    result = run(folder, "check")
    assert result.status == 0, result
    assert re.search(r"transport:2\b.*warning", result.err)
    assert "192.0.2.7" in run(folder, "route", "--json", "x@example.com").out


def test_a_state_directory_below_a_file_is_a_clear_error(folder):
    folder.write("state", "a file\n")
    result = run(folder, "run", timeout=10)
    assert result.status in (1, 78), result
    assert "state" in result.err


# route


def route(folder, *addresses):
    result = run(folder, "route", "--json", *addresses)
    assert result.status == 0, result
    return [json.loads(line) for line in result.out.splitlines()]


def test_route_json_says_all_there_is(folder):
    folder.write("routes.yaml", "Example.com: local\nkingmail@example.com: smtp:[kingmailer.org]:2525, relay.example.net\n"
                                "e@example.com: error:5.1.6 moved\nd@example.com: 'discard:'\nr@example.com: 'retry:later'\n")
    local, king, error, discard, retry, outside = route(
        folder, "X@Example.com", "kingmail@example.com", "e@example.com", "d@example.com", "r@example.com", "x@elsewhere.test")
    keys = ["address", "matched", "source", "relay", "action", "next_hops", "fallback", "unknown_recipient", "tls"]
    for one in (local, king, error, discard, retry, outside):
        assert list(one)[:len(keys)] == keys, one
    assert local["address"] == "X@Example.com"
    assert local["matched"] == "example.com"
    assert local["source"].endswith("routes.yaml:1")
    assert local["relay"] == "local" and local["action"] is None
    assert local["next_hops"] == [{"protocol": "smtp", "host": "192.0.2.1", "port": 25, "mx": False}]
    assert local["fallback"] is None and local["unknown_recipient"] is None
    assert king["matched"] == "kingmail@example.com" and king["source"].endswith("routes.yaml:2")
    assert king["next_hops"] == [{"protocol": "smtp", "host": "kingmailer.org", "port": 2525, "mx": False},
                                 {"protocol": "smtp", "host": "relay.example.net", "port": 25, "mx": True}]
    assert error["action"] == "error:5.1.6 moved" and error["relay"] is None and not error["next_hops"]
    assert discard["action"] == "discard:"
    assert retry["action"].startswith("retry:") and "later" in retry["action"]
    assert outside["action"].startswith("error:5.7.1") and outside["matched"] is None


def test_route_explains_for_people_and_a_refused_address_exits_0(folder):
    result = run(folder, "route", "kingmail@example.com", "x@elsewhere.test")
    assert result.status == 0, result
    assert "kingmailer.org" in result.out and re.search(r"routes\.yaml:2\b", result.out)
    assert "5.7.1" in result.out


def test_route_builds_privately_and_says_so_when_nothing_is_in_force(folder):
    result = run(folder, "route", "x@example.com")
    assert result.status == 0
    assert result.err.strip(), "it has to say that it built a table"
    assert sorted(os.listdir(folder.path)) == ["routes.yaml", "splitmx.yaml"]


def test_route_with_broken_routes_is_78(folder):
    folder.write("routes.yaml", "example.com: nosuch\n")
    result = run(folder, "route", "x@example.com")
    assert result.status == 78 and places(result, "routes.yaml")


def test_route_uses_the_table_in_force(start_split):
    split = start_split()
    result = split.daemon.command("route", "--json", "user@example.com", "x@example.com")
    assert result.status == 0 and result.err == "", result
    user, rest = map(json.loads, result.out.splitlines())
    assert (user["relay"], rest["relay"]) == ("local", "third")
    assert user["next_hops"][0]["port"] == split.local.port


def test_several_route_files_are_one_table_and_json_is_yaml(folder):
    folder.write("more.json", '{"other.test": "local"}\n')
    folder.write("transport", "third.test smtp:[192.0.2.3]\n")
    folder.write("splitmx.yaml", folder.config_path.read_text().replace(
        "routes: routes.yaml", "routes: [routes.yaml, more.json, transport]\ndomains: [example.com, other.test, third.test]"))
    assert [one["source"].rsplit("/")[-1] for one in route(folder, "x@example.com", "x@other.test", "x@third.test")] == \
        ["routes.yaml:1", "more.json:1", "transport:1"]


# import


MAP = """\
# a comment
user@example.com    smtp:[127.0.0.1]:10025
   # a comment within
example.com
    relay:[mail.example.net]
.example.com        smtp:mail.example.net:2525
Mixed@Example.com   smtp:[unix:/run/smtp]
gone@example.com    error:5.1.6 moved: away
nothing@example.com discard:
later@example.com   retry:4.3.0 try # again
*                   smtp:[fallback.example.net]
"""


def test_import_says_the_same_as_the_map(folder):
    folder.write("transport", MAP)
    result = splitmx("import", folder.path / "transport", "-o", folder.path / "imported.yaml")
    assert result.status == 0, result
    assert result.out == ""
    again = splitmx("import", folder.path / "transport")
    assert again.status == 0 and again.out == (folder.path / "imported.yaml").read_text()
    answers = []
    addresses = ["user@example.com", "other@example.com", "x@sub.example.com", "mixed@example.com", "gone@example.com",
                 "nothing@example.com", "later@example.com"]
    good = folder.config_path.read_text()
    for routes in ("transport", "imported.yaml"):
        folder.write("splitmx.yaml", good.replace("routes: routes.yaml", f"routes: {routes}\ndomains: [example.com, .example.com]"))
        answers.append([{k: v for k, v in one.items() if k not in ("source", "relay")} for one in route(folder, *addresses)])
    assert answers[0] == answers[1]
    assert answers[0][0]["next_hops"] == [{"protocol": "smtp", "host": "127.0.0.1", "port": 10025, "mx": False}]
    assert answers[0][1]["next_hops"] == [{"protocol": "smtp", "host": "mail.example.net", "port": 25, "mx": False}]
    assert answers[0][2]["next_hops"] == [{"protocol": "smtp", "host": "mail.example.net", "port": 2525, "mx": True}]


def test_import_reads_a_pipe(folder):
    folder.write("transport", MAP)
    from_file = splitmx("import", folder.path / "transport")
    from_pipe = splitmx("import", "/dev/stdin", input=MAP)
    assert from_pipe.status == 0, from_pipe
    assert from_pipe.out.splitlines()[1:] == from_file.out.splitlines()[1:] != []
    broken = splitmx("import", "/dev/stdin", input=MAP + "other.test uucp:host\n")
    assert broken.status == 1 and broken.out == "" and "/dev/stdin:12:12: " in broken.err, broken


def test_import_of_a_broken_map_writes_nothing(folder):
    folder.write("transport", "example.com uucp:host\n")
    result = splitmx("import", folder.path / "transport", "-o", folder.path / "imported.yaml")
    assert result.status in (1, 78), result
    assert re.search(r"transport:1", result.err)
    assert not (folder.path / "imported.yaml").exists()
    assert splitmx("import", folder.path / "absent").status in (1, 78)


# reload, status, healthcheck


def test_without_a_daemon_they_fail_with_1(folder):
    for command in ("reload", "status", "healthcheck"):
        result = run(folder, command)
        assert result.status == 1, (command, result)
        assert result.err


def test_status_tells_what_goes_on(start_split):
    split = start_split()
    assert split.daemon.send(message(), "user@example.com") == 250
    with split.client():
        status = split.daemon.status()
        text = json.dumps(status)
        for name in ("local", "kingmailer", "third", "sessions", "routes"):
            assert name in text, (name, status)
    plain = split.daemon.command("status")
    assert plain.status == 0 and "local" in plain.out and "kingmailer" in plain.out


def test_healthcheck_is_0_while_it_serves(start_split):
    split = start_split()
    assert split.daemon.command("healthcheck").status == 0
    split.daemon.stop()
    assert split.daemon.command("healthcheck").status == 1


def test_the_control_socket_is_private_and_the_state_directory_made(start_split):
    split = start_split()
    state = split.daemon.folder.path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "control.sock").stat().st_mode & 0o777 == 0o600


def test_the_log_can_be_json(start_split):
    split = start_split(log={"format": "json", "level": "debug"})
    with split.client(hello='quote"and\\backslash') as client:
        assert client.send_mail(message(), "user@example.com") == 250
    split.daemon.await_log("transaction")
    for line in split.daemon.lines:
        assert isinstance(json.loads(line), dict), line
    ready = next(line for line in map(json.loads, split.daemon.lines) if line["event"] == "ready")
    assert type(ready["routes"]) is int and ready["routes"] > 0, ready


UNDER_SYSTEMD = ["bash", "-c", 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"', "bash"]
ELSEWHERE = ["bash", "-c", 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/1) exec "$@"', "bash"]


PRIORITIES = {"error": "<3>", "warning": "<4>", "info": "<6>", "debug": "<7>"}


@pytest.mark.parametrize("format", ["text", "json"])
def test_lines_have_their_priority_in_the_journal_and_nowhere_else(start_split, format):
    for wrapper in (UNDER_SYSTEMD, ELSEWHERE):
        split = start_split(log={"format": format, "level": "debug"}, wrapper=wrapper)
        split.daemon.folder.write("routes.yaml", "example.com: nosuch\n")
        assert split.daemon.reload().status == 1
        split.daemon.stop()
        levels = [re.search(r'(?:Z |"level":")([a-z]+)', line)[1] for line in split.daemon.lines]
        assert {"error", "info"} <= set(levels)
        begins = [line[:3] for line in split.daemon.lines]
        assert begins == ([PRIORITIES[level] for level in levels] if wrapper is UNDER_SYSTEMD else ['{"t' if format == "json" else "202"] * len(levels))


def test_what_run_says_before_there_is_a_log_has_its_priority_too(folder):
    folder.write("routes.yaml", "example.com: nosuch\n")
    for wrapper, begins in ((UNDER_SYSTEMD, "<3>/"), (ELSEWHERE, "/")):
        done = subprocess.run([*wrapper, BINARY, "run", "-c", folder.config_path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 78 and done.stderr, done
        assert all(line.startswith(begins) for line in done.stderr.splitlines()), done.stderr


def test_reload_reports_errors_with_their_place_and_exits_1(start_split):
    split = start_split()
    split.daemon.folder.write("routes.yaml", "example.com: local\nuser@example.com: nosuch\n")
    result = split.daemon.reload()
    assert result.status == 1, result
    assert [p[:2] for p in places(result, "routes.yaml")] == [(2, 19)] or [p[0] for p in places(result, "routes.yaml")] == [2]
    split.daemon.await_log("routes.yaml:2:")


def test_run_of_a_broken_configuration_is_78(folder):
    folder.write("routes.yaml", "example.com: nosuch\n")
    result = run(folder, "run", timeout=10)
    assert result.status == 78, result
    assert places(result, "routes.yaml")


def test_run_on_a_taken_port_says_which(folder, start_upstream):
    taken = start_upstream()
    folder.write("splitmx.yaml", GOOD.format(user=folder.user, port=taken.port))
    result = run(folder, "run", timeout=10)
    assert result.status in (1, 78), result
    assert str(taken.port) in result.err


def test_the_daemon_does_not_run_as_root(start_split):
    if os.geteuid() != 0:
        pytest.skip("started without root")
    split = start_split()
    text = open(f"/proc/{split.daemon.process.pid}/status").read()
    assert "0" not in re.search(r"^Uid:\s+(.*)$", text, re.M).group(1).split()
    assert "0" not in re.search(r"^Gid:\s+(.*)$", text, re.M).group(1).split()
    capabilities = int(re.search(r"^CapEff:\s+(\w+)$", text, re.M).group(1), 16)
    assert capabilities & ~(1 << 10) == 0, "only CAP_NET_BIND_SERVICE may be kept"
    assert int(re.search(r"^NoNewPrivs:\s+(\d)$", text, re.M).group(1)) in (0, 1)


def test_a_folder_that_belongs_to_root_is_no_hindrance(start_split):
    """State directory made by root for the user that the daemon becomes."""
    split = start_split()
    split.daemon.stop()
    path = split.daemon.folder.path
    for entry in (path / "state").iterdir():
        entry.unlink()
    (path / "state").rmdir()
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
    split.daemon.start()
    assert split.daemon.send(message(), "user@example.com") == 250
    assert split.daemon.reload().status == 0


def test_yaml_of_the_tests_is_yaml_for_the_program(folder):
    settings = {"hostname": "mx.test", "routes": "routes.yaml", "user": folder.user,
                "relays": {"local": {"next-hop": "smtp:[192.0.2.1]", "identity": "none"}}}
    folder.write("splitmx.yaml", yaml(settings))
    assert run(folder, "check").status == 0


def test_the_pid_file_is_there_while_it_runs(start_split):
    daemon = start_split().daemon
    pid_file = daemon.folder.path / "state" / "splitmx.pid"
    assert int(pid_file.read_text()) == daemon.process.pid
    assert pid_file.stat().st_mode & 0o777 == 0o600
    daemon.stop()
    assert not pid_file.exists()


def test_status_tells_which_endpoints_are_down(start_daemon, start_upstream):
    local = start_upstream("local.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}}, routes={"example.com": "local"})
    assert daemon.send(message(), "user@example.com") == 250
    assert [(one["state"], one["failures"]) for one in daemon.status()["endpoints"]] == [("ok", 0)]
    local.stop()
    for _ in range(3):
        with daemon.client() as client:
            client.mail()
            assert client.rcpt("user@example.com") == "451 4.4.1"
    daemon.await_log("event=endpoint-down")
    (endpoint,) = daemon.status()["endpoints"]
    assert endpoint["address"] == f"127.0.0.1:{local.port}" and endpoint["state"] == "down" and endpoint["failures"] >= 3, endpoint
    assert f"endpoint      127.0.0.1:{local.port} is down" in daemon.command("status").out
