"""`splitmx import`: with -o, what is there stays what it is, and is replaced whole or not at all (design: section 8);
docker-mailserver's accounts and aliases; the databases that postmap makes."""

import os
import resource
import shutil
import stat
import subprocess
import threading

import pytest

from splitmx_test.daemon import BINARY, splitmx

MAP = "user@example.com local\nexample.com smtp:[192.0.2.1]\n"
ROUTES = "user@example.com: local\nexample.com: smtp:[192.0.2.1]\n"


@pytest.fixture
def transport(reachable_folder):
    path = reachable_folder / "transport"
    path.write_text(MAP)
    return path


def told(text):
    """What was imported, without the line that says from where."""
    assert text.startswith("# Made by `splitmx import` from "), text
    return text.split("\n", 1)[1]


def test_mode_and_owner_of_a_file_are_kept(transport):
    target = transport.with_name("routes.yaml")
    assert splitmx("import", transport, "-o", target).status == 0
    assert told(target.read_text()) == ROUTES
    target.write_text("old")
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 65534, 12345)
    before = target.stat()
    assert splitmx("import", transport, "-o", target).status == 0
    after = target.stat()
    assert told(target.read_text()) == ROUTES
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two users")
def test_a_file_whose_owner_cannot_be_kept_is_left_alone(transport):
    target = transport.with_name("routes.yaml")
    target.write_text("old")
    transport.parent.chmod(0o777)
    result = splitmx("import", transport, "-o", target, user="nobody")
    assert result.status == 1 and "owner and group could not be kept: Operation not permitted" in result.err, result
    assert target.read_text() == "old"
    assert sorted(p.name for p in transport.parent.iterdir()) == ["routes.yaml", "transport"]


def test_a_symbolic_link_is_followed(transport):
    (transport.parent / "elsewhere").mkdir()
    target = transport.parent / "elsewhere" / "real.yaml"
    target.write_text("old")
    link = transport.with_name("routes.yaml")
    link.symlink_to("elsewhere/real.yaml")
    assert splitmx("import", transport, "-o", link).status == 0
    assert link.is_symlink() and told(target.read_text()) == ROUTES
    target.unlink()
    result = splitmx("import", transport, "-o", link)
    assert result.status == 1 and "symbolic link to what is not there" in result.err, result
    assert link.is_symlink() and list(target.parent.iterdir()) == []


def test_a_pipe_is_written_to(transport):
    pipe = transport.with_name("pipe")
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    result = splitmx("import", transport, "-o", pipe)
    if not stat.S_ISFIFO(pipe.stat().st_mode):
        pipe.unlink()
        pytest.fail("the pipe was replaced")
    reader.join(10)
    assert result.status == 0 and told(read[0]) == ROUTES, result


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_a_device_stays_a_device(transport):
    """One of the test's own: like /dev/full, which always is."""
    device = transport.with_name("full")
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        device.write_text("")
    except OSError as error:
        pytest.skip(f"no devices here: {error}")
    result = splitmx("import", transport, "-o", device)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert result.status == 1 and "full: cannot be written: No space left on device" in result.err, result
    folder = splitmx("import", transport, "-o", transport.parent)
    assert folder.status == 1 and "Is a directory" in folder.err, folder


def test_a_limit_of_file_sizes_is_told_and_leaves_nothing(transport):
    transport.write_text("".join(f"u{n}@example.com local\n" for n in range(1000)))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))  # noqa: E731
    target = transport.with_name("routes.yaml")
    done = subprocess.run([BINARY, "import", transport, "-o", target], preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "routes.yaml: cannot be written: File too large" in done.stderr, done
    assert [p.name for p in transport.parent.iterdir()] == ["transport"]


@pytest.mark.parametrize("closed, why", [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_standard_output_that_takes_nothing_is_told_with_the_reason(transport, closed, why):
    done = subprocess.run(["bash", "-c", f'exec "$@" {closed}', "bash", BINARY, "import", transport], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr == f"standard output: cannot be written: {why}\n", done


def test_standard_input_is_a_map_too(transport):
    result = splitmx("import", "-", input=MAP)
    assert result.status == 0 and result.out == "# Made by `splitmx import` from standard input\n" + ROUTES, result
    broken = splitmx("import", "-", input=MAP + "example.org uucp:host\n")
    assert broken.status == 1 and broken.out == "" and "-:3:13: transport `uucp:`" in broken.err, broken
    assert broken.err.endswith("\nsplitmx import: nothing is written: 1 error\n"), broken


def test_a_map_with_errors_writes_nothing_and_says_so(transport):
    transport.write_text("a@example.com local\n/^x/ smtp:[y]\nb@example.com lmtp:unix:x\nc@example.com :\n")
    target = transport.with_name("routes.yaml")
    for arguments in ((), ("-o", target)):
        result = splitmx("import", transport, *arguments)
        assert result.status == 1 and result.out == "" and not target.exists(), result
        assert result.err.splitlines()[-1] == "splitmx import: nothing is written: 3 errors", result


def test_a_dash_as_the_target_is_standard_output(transport):
    result = splitmx("import", transport, "-o", "-", cwd=transport.parent)
    assert result.status == 0 and told(result.out) == ROUTES, result
    assert [p.name for p in transport.parent.iterdir()] == ["transport"]


def test_a_target_that_cannot_be_made_is_named_as_it_was_given(transport):
    result = splitmx("import", transport, "-o", "/nonexistent/routes.yaml")
    assert result.status == 1 and result.err == "/nonexistent/routes.yaml: No such file or directory\n", result


ACCOUNTS = """# the family
user@Example.com|{SHA512-CRYPT}$6$SECRET
boss@example.com|{SHA512-CRYPT}$6$SECRET$SECRET|userdb_quota_rule=*:bytes=SECRET
{PLAIN}SECRETp@ss.word|who@example.com
forgot@example.com SECRET
SECRET
$6$SECRET@example.com|x
"""
VIRTUAL = """alias@example.com user@example.com,friend@gmail.com
user@example.com user@example.com
@example.org user@example.com
/^SECRETs.*@example.com$/ user@example.com
example.net whatever
root user@example.com
list@example.com boss@example.com,
    user@example.com other@elsewhere.example
info@example.com
oops@example.com|{SHA}SECRET
"""


@pytest.fixture
def mailserver(reachable_folder):
    """What docker-mailserver keeps in its folder `config`."""
    (reachable_folder / "postfix-accounts.cf").write_text(ACCOUNTS)
    (reachable_folder / "postfix-virtual.cf").write_text(VIRTUAL)
    (reachable_folder / "postfix-regexp.cf").write_text("/^test[0-9]*@example.com/ user@example.com\n")
    return reachable_folder


def imported(folder, *arguments, **options):
    result = splitmx("import", *arguments, cwd=folder, **options)
    assert "SECRET" not in result.out + result.err, result
    return result


def test_accounts_and_aliases_become_routes_to_the_local_server(mailserver):
    result = imported(mailserver, "postfix-accounts.cf", "postfix-virtual.cf", "postfix-regexp.cf")
    assert result.status == 0 and told(result.out) == "".join(
        f"{key}: local\n" for key in ("user@example.com", "boss@example.com", "alias@example.com", "example.org", "list@example.com")), result
    assert [line.split(" warning: ")[0] for line in result.err.splitlines()] == [
        *(f"postfix-accounts.cf:{line}:1:" for line in (4, 5, 6, 7)),
        *(f"postfix-virtual.cf:{line}:1:" for line in (4, 5, 6, 9, 10)),
        "postfix-regexp.cf:1:1:", "postfix-virtual.cf:1:36:", "postfix-virtual.cf:8:22:",
        "splitmx import: 5 routes written; 10 lines not carried over, see above; 2 targets elsewhere"], result
    assert "`friend@gmail.com` is elsewhere: mail for `alias@example.com` goes to `local`" in result.err


def test_what_has_been_imported_loads(mailserver):
    assert imported(mailserver, "postfix-accounts.cf", "postfix-virtual.cf", "-o", "routes.yaml").status == 0
    (mailserver / "splitmx.yaml").write_text(
        "hostname: mx.example.com\nroutes: routes.yaml\nlisten: [{address: '127.0.0.1:2525'}]\nstate-directory: state\n"
        "relays: {local: {next-hop: 'smtp:[127.0.0.1]:10025', identity: none}}\n")
    result = splitmx("route", "-c", mailserver / "splitmx.yaml", "--json", "alias@example.com", "anyone@example.org")
    assert result.status == 0 and result.out.count('"relay":"local"') == 2, result


def test_another_relay_other_names_and_standard_input(mailserver):
    (mailserver / "postfix-accounts.cf").rename(mailserver / "users")
    result = imported(mailserver, "--accounts", "--to", "mail", "users")
    assert result.status == 0 and told(result.out) == "user@example.com: mail\nboss@example.com: mail\n", result
    result = imported(mailserver, "--virtual", "-", input="a@example.com b@example.com\n")
    assert result.status == 0 and told(result.out) == "a@example.com: local\n", result
    assert result.err == "splitmx import: 1 route written; every line carried over\n"
    as_a_map = imported(mailserver, "users")
    assert as_a_map.status == 1 and as_a_map.out == "" and "users:2:1: an address and its password" in as_a_map.err, as_a_map
    as_aliases = imported(mailserver, "--virtual", "users")
    assert as_aliases.status == 0 and as_aliases.out.count("local") == 1, as_aliases  # forgot@: what is behind it may be an alias' target


def test_a_transport_map_before_them_goes_first(mailserver):
    (mailserver / "postfix-transport_map.cf").write_text("boss@example.com smtp:[kingmailer.org]\n")
    result = imported(mailserver, "postfix-transport_map.cf", "postfix-accounts.cf")
    assert told(result.out) == "boss@example.com: smtp:[kingmailer.org]\nuser@example.com: local\n", result
    assert "postfix-accounts.cf:3:1: warning: `boss@example.com` goes to `smtp:[kingmailer.org]` already" in result.err


def test_nothing_is_written_where_nobody_is_left(mailserver):
    result = imported(mailserver, "postfix-regexp.cf", "-o", "routes.yaml")
    assert result.status == 1 and "postfix-regexp.cf: no mailbox is in what was read\nsplitmx import: nothing is written: 1 error\n" in result.err, result
    assert not (mailserver / "routes.yaml").exists()


def test_yaml_is_not_imported(reachable_folder):
    (reachable_folder / "routes.yaml").write_text(ROUTES)
    result = imported(reachable_folder, "routes.yaml")
    assert result.status == 1 and "name it in `routes:` as it is" in result.err, result


POSTMAP = shutil.which("postmap", path="/usr/sbin:/usr/bin")


@pytest.mark.skipif(POSTMAP is None, reason="no postmap")
@pytest.mark.parametrize("kind, suffix", [("hash", "db"), ("btree", "db"), ("lmdb", "lmdb"), ("cdb", "cdb")])
def test_a_database_of_postmap_is_known_and_its_text_is_read(transport, kind, suffix):
    folder = transport.parent
    (folder / "main.cf").write_text("compatibility_level = 3.6\n")
    made = subprocess.run([POSTMAP, "-c", folder, f"{kind}:{transport}"], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(made.stderr)
    result = imported(folder, f"transport.{suffix}")
    assert result.status == 1 and f"what `postmap -s {kind}:transport | splitmx import -` writes" in result.err, result
    if kind != "cdb":  # which only its name tells
        with (folder / f"transport.{suffix}").open("rb") as database:
            piped = subprocess.run([BINARY, "import", "-"], stdin=database, capture_output=True, text=True)
        assert piped.returncode == 1 and f"`postmap -s {kind}:/etc/postfix/transport | splitmx import -`" in piped.stderr, piped
    listed = subprocess.run([POSTMAP, "-c", folder, "-s", f"{kind}:{transport}"], capture_output=True, text=True, check=True)
    result = imported(folder, "-", input=listed.stdout)
    assert result.status == 0 and sorted(told(result.out).splitlines()) == sorted(ROUTES.splitlines()), result


def test_a_table_named_as_postfix_names_it(reachable_folder):
    result = imported(reachable_folder, "hash:/nonexistent/transport")
    assert result.status == 1 and "what `postmap -s hash:/nonexistent/transport | splitmx import -` writes" in result.err, result
    result = imported(reachable_folder, "texthash:/nonexistent/transport")
    assert result.status == 1 and "leave `texthash:` out: /nonexistent/transport" in result.err, result
