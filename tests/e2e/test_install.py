"""`make install` and what it puts down: files, units, completion, examples; that the package is of this version."""

import os
import pty
import re
import shutil
import stat
import subprocess

import pytest

from splitmx_test.daemon import BINARY, REPOSITORY, splitmx
from splitmx_test.waiting import poll

FILES = {
    "bin/splitmx": 0o755,
    "lib/systemd/system/splitmx.service": 0o644,
    "lib/systemd/system/splitmx.socket": 0o644,
    "lib/sysusers.d/splitmx.conf": 0o644,
    "lib/tmpfiles.d/splitmx.conf": 0o644,
    "share/bash-completion/completions/splitmx": 0o644,
    "share/doc/splitmx/README.md": 0o644,
    "share/man/man5/splitmx-routes.5": 0o644,
    "share/man/man5/splitmx.yaml.5": 0o644,
    "share/man/man8/splitmx.8": 0o644,
}
EXAMPLES = "share/doc/splitmx/examples"
HOST = REPOSITORY / "docs" / "examples" / "postfix-same-host"


def make(*arguments):
    """As somebody says it in a shell of his own, whoever runs this test; what is built is taken as it is."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key not in ("MFLAGS", "BUILD")}
    done = subprocess.run(["make", "-s", "-o", "all", f"BUILD={BINARY.parent}", *arguments], cwd=REPOSITORY, env=environment,
                          umask=0o077, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done
    return done


def files(folder):
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A prefix of its own, as /usr/local is one."""
    prefix = tmp_path_factory.mktemp("installed") / "prefix"
    make("install", f"PREFIX={prefix}")
    return prefix


def unit(path):
    """Its lines, by key; one that is said twice has both."""
    found = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.M):
        found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def service(installed):
    return unit(installed / "lib/systemd/system/splitmx.service")


# Files.


def test_every_file_is_there_with_its_mode_and_nothing_else(installed):
    there = files(installed)
    examples = {name: there.pop(name) for name in list(there) if name.startswith(EXAMPLES)}
    assert there == FILES
    source = REPOSITORY / "docs" / "examples"
    assert examples == {f"{EXAMPLES}/{name}": 0o644 for name in files(source)}
    for name in files(source):
        assert (installed / EXAMPLES / name).read_bytes() == (source / name).read_bytes()


def test_a_destdir_is_in_front_of_all_and_in_no_file(tmp_path):
    make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr", "UNITS=/lib/systemd/system")
    there = files(tmp_path)
    assert {name for name in there if not name.startswith("usr/")} == {"lib/systemd/system/splitmx.service",
                                                                       "lib/systemd/system/splitmx.socket"}
    assert len(there) == len(FILES) + len(files(REPOSITORY / "docs" / "examples"))
    lines = unit(tmp_path / "lib/systemd/system/splitmx.service")
    assert (lines["ExecStart"], lines["ExecReload"]) == (["/usr/bin/splitmx run"], ["/usr/bin/splitmx reload"])


def test_uninstall_takes_away_what_install_put_there(tmp_path):
    stranger = tmp_path / "share" / "man" / "man8" / "other.8"
    make("install", f"PREFIX={tmp_path}")
    stranger.write_text("")
    make("uninstall", f"PREFIX={tmp_path}")
    assert list(files(tmp_path)) == ["share/man/man8/other.8"]


def test_the_program_runs_from_there(installed):
    done = subprocess.run([installed / "bin/splitmx", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# Units.


def analyze(*arguments):
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_systemd_understands_every_line_of_the_units(installed):
    folder = installed / "lib/systemd/system"
    done = analyze("verify", "--man=no", folder / "splitmx.service", folder / "splitmx.socket")
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "splitmx" in line]
    assert not ours, done


def test_the_service_is_as_closed_as_systemd_can_make_it(installed):
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", installed / "lib/systemd/system/splitmx.service")
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_service_lets_the_program_do_all_that_it_allows_itself(service):
    """Its own filter has names; the unit's has groups, of which each release of systemd has its own list."""
    groups, name = {}, None
    for line in analyze("syscall-filter", "--no-pager").stdout.splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            groups[name].append(line.strip())

    def calls(word):
        return set().union(*map(calls, groups[word])) if word in groups else {word}

    allowed = calls("@default")
    for line in service["SystemCallFilter"]:
        change = set().union(*map(calls, line.lstrip("~").split()))
        allowed = allowed - change if line.startswith("~") else allowed | change
    own = set(re.findall(r"SCMP_SYS\((\w+)\)", (REPOSITORY / "proxy/daemon/syscalls.c").read_text()))
    before = {"execve", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert len(own) > 100 and not (own | before) - allowed
    assert "setuid" not in allowed


def test_a_stop_has_the_time_that_a_commit_may_take(service):
    page = (REPOSITORY / "docs" / "splitmx.yaml.5").read_text()
    assert "9m" in page and service["TimeoutStopSec"] == ["10min"]


def test_a_wrong_configuration_or_usage_is_not_tried_again(service, tmp_path):
    (tmp_path / "splitmx.yaml").write_text("hostnam: mx\n")
    statuses = [splitmx("run", "-c", tmp_path / "splitmx.yaml").status, splitmx("run", "--nonsense").status]
    assert service["RestartPreventExitStatus"] == ["64 78"] and statuses == [78, 64]


def test_the_service_runs_as_the_user_that_sysusers_makes_and_tmpfiles_gives_the_state(installed, service):
    (user,) = service["User"]
    assert (installed / "lib/sysusers.d/splitmx.conf").read_text().split()[:2] == ["u", user]
    lines = [line.split() for line in (installed / "lib/tmpfiles.d/splitmx.conf").read_text().splitlines()]
    assert ["d", "/var/lib/splitmx", "0700", user, user] in lines
    assert (service["StateDirectory"], service["StateDirectoryMode"]) == (["splitmx"], ["0700"])


def test_open_files_are_enough_for_the_connections_of_the_defaults(service, start_daemon):
    """What it takes is in the warning of one that has too few."""
    daemon = start_daemon(start=False, relays={"local": {"next-hop": "smtp:[192.0.2.1]"}}, limits=None)
    with subprocess.Popen(["prlimit", "--nofile=512:512", BINARY, "run", "-c", daemon.config], stderr=subprocess.PIPE,
                          text=True) as process:
        warning = next(line for line in process.stderr if "may open" in line)
        process.terminate()
    wanted = int(re.search(r"may open 512 files; `connections: 10000`, .* take (\d+)", warning)[1])
    assert int(service["LimitNOFILE"][0]) >= wanted + 1024


# Examples.


def test_the_example_is_good_and_the_socket_unit_has_its_address(installed, reachable_folder):
    for path in HOST.glob("*.yaml"):
        shutil.copy(path, reachable_folder)
    config = reachable_folder / "splitmx.yaml"
    config.write_text(config.read_text() + f"state-directory: {reachable_folder}/state\nuser: nobody\n")
    done = splitmx("check", "-c", config)
    assert done.status == 0 and not re.search("error|warning", done.err), done
    listens = re.findall(r'address: "(.*?)"', config.read_text())
    assert unit(installed / "lib/systemd/system/splitmx.socket")["ListenStream"] == listens


# The package.


def test_the_package_has_the_version_of_the_program():
    version = splitmx("--version").out.split()[1]
    assert (REPOSITORY / "debian" / "changelog").read_text().startswith(f"splitmx ({version}) ")


def test_the_package_builds_with_what_make_run_installs():
    listed = re.search(r'^run="(.*)"$', (REPOSITORY / "tests" / "install").read_text(), re.M)[1].split()
    control = re.search(r"^Build-Depends:\n((?: .*\n)+)", (REPOSITORY / "debian" / "control").read_text(), re.M)[1]
    built = {line.strip(" ,") for line in control.splitlines()}
    assert built - {"debhelper-compat (= 13)"} == {name for name in listed if name not in ("gcc", "libc6-dev", "python3")}


# Completion, in a bash that has a terminal.


class Bash:
    """Types a line and takes all that it can be completed to (M-*)."""

    def __init__(self, program, folder):
        self.out, master_slave = folder / "words", pty.openpty()
        self.master, slave = master_slave
        environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C", "HISTFILE": ""}
        self.process = subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], stdin=slave, stdout=subprocess.DEVNULL, stderr=slave,
                                        cwd=folder, env=environment, start_new_session=True)
        os.close(slave)
        self.type(f". {REPOSITORY}/proxy/cli/completion.bash\n")

    def type(self, text):
        os.write(self.master, text.encode())

    def complete(self, line):
        """The words of the line as it is then."""
        self.out.unlink(missing_ok=True)
        self.type(f"{line}\x1b*\x05 )\x01words=( \x05; printf '%s\\n' \"${{words[@]}}\" >words.new; mv words.new words\n")
        poll(self.out.exists, "the completion", 30)
        return self.out.read_text().splitlines()

    def completions(self, line):
        """What came in the place of the last word; that itself, if nothing did."""
        return self.complete(line)[len(line.split(" ")) - 1:]

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for name in ("postfix-map", "postfix-map2", "splitmx.yaml", "a b"):
        (folder / name).write_text("")
    (folder / "folder").mkdir()
    programs = folder / "bin"
    programs.mkdir()
    # As it is, but that there is something in the ledger.
    (programs / "splitmx").write_text(f"""#!/bin/bash
case "$*" in
*--help) exec {BINARY} "$@" ;;
"ledger -c other.yaml --json") echo '{{"set":7,"age_seconds":1}}' ;;
"ledger --json") echo '{{"set":12,"age_seconds":1}}'; echo '{{"set":13,"age_seconds":1}}' ;;
*) exit 1 ;;
esac
""")
    (programs / "splitmx").chmod(0o755)
    shell = Bash(programs / "splitmx", folder)
    yield shell
    shell.end()


def commands():
    return re.findall(r"^  ([a-z]+) ", splitmx("--help").out, re.M)


def test_every_command_of_the_help_is_completed(bash):
    assert len(commands()) > 8
    assert bash.completions("splitmx ") == sorted([*commands(), "--help", "--version"])
    assert bash.completions("splitmx rel") == ["reload"]
    assert bash.completions("splitmx --v") == ["--version"]


@pytest.mark.parametrize("command", commands() if BINARY.exists() else [])
def test_every_option_of_a_commands_help_is_completed_and_no_other(bash, command):
    told = splitmx(command, "--help").out
    wanted = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", told, re.M)) | set(re.findall(r"^ +(-\w),", told, re.M))
    assert "--help" in wanted
    assert set(bash.completions(f"splitmx {command} -")) == wanted
    assert bash.completions(f"splitmx {command} --he") == ["--help"]


def test_every_kind_of_word_that_the_help_names_is_known():
    """A new one is an operand, or a value, that the completion has to be told of."""
    known = set(re.findall(r"[A-Z]+", " ".join(re.findall(r"^    ([A-Z |]+)\)", (REPOSITORY / "proxy/cli/completion.bash").read_text(), re.M))))
    named = set()
    for command in commands():
        told = splitmx(command, "--help").out
        named |= set(re.findall(r"\b[A-Z]{3,}\b", told.splitlines()[0])) | set(re.findall(r"^ +(?:-\w, )?--[a-z-]+ ([A-Z]+)", told, re.M))
    assert named == known


def test_files_are_completed_where_files_are_meant(bash):
    assert bash.completions("splitmx import post") == ["postfix-map", "postfix-map2"]
    assert bash.completions("splitmx import -o post") == ["postfix-map", "postfix-map2"]
    assert bash.completions("splitmx check -c spl") == ["splitmx.yaml"]
    assert bash.completions("splitmx check --config spl") == ["splitmx.yaml"]
    assert bash.completions("splitmx check --config=spl") == ["--config=splitmx.yaml"]
    assert bash.completions("splitmx import a") == ["a b"]
    assert bash.completions("splitmx import fol") == ["folder"]


def test_addresses_and_domains_are_nobodys_to_guess(bash):
    assert bash.completions("splitmx route spl") == ["spl"]
    assert bash.completions("splitmx doctor -c splitmx.yaml spl") == ["spl"]


def test_a_command_without_operands_has_its_options(bash):
    assert set(bash.completions("splitmx run ")) == {"-c", "--config", "-h", "--help"}


def test_sets_of_the_ledger_are_completed(bash):
    assert bash.completions("splitmx ledger --clear ") == ["12", "13", "all"]
    assert bash.completions("splitmx ledger -c other.yaml --clear ") == ["7", "all"]


def test_a_program_by_its_path_is_asked_itself(bash):
    assert bash.completions("bin/splitmx heal") == ["healthcheck"]


def test_a_command_that_does_not_exist_is_completed_to_nothing(bash):
    assert bash.completions("splitmx nonsense --") == ["--"]
