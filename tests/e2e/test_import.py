"""`splitmx import -o`: what is there stays what it is, and is replaced whole or not at all (design: section 8)."""

import os
import resource
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
