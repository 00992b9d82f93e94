"""What the process has given up once it serves: rights, system calls, files; and what `status` says of it."""

import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from splitmx_test.daemon import Folder, is_sanitized
from splitmx_test.messages import message

USER = "user@example.com"

pytestmark = pytest.mark.skipif(is_sanitized(), reason="a sanitizer needs what is given up")


@pytest.fixture
def town(start_daemon, start_upstream):
    local = start_upstream("local.test")
    return start_daemon(routes={USER: "local"}, relays={"local": {"next-hop": local.next_hop}}, workers=2)


def threads(daemon):
    return [dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            for task in Path(f"/proc/{daemon.process.pid}/task").iterdir()]


def test_no_thread_has_more_than_it_needs(town):
    town.send(message(), USER)
    told = town.status()["confinement"]
    assert len(threads(town)) > 3
    for thread in threads(town):
        assert thread["NoNewPrivs"] == "1"
        assert thread["Seccomp"] == "2"
        assert int(thread["CapEff"], 16) & ~(1 << 10) == 0 and int(thread["CapPrm"], 16) & ~(1 << 10) == 0
        assert int(thread["CapInh"], 16) == int(thread["CapAmb"], 16) == 0
        assert {int(uid) for uid in thread["Uid"].split()} == {told["uid"]}
    assert told["no_new_privileges"] and told["system_calls"] and told["no_core_dumps"]
    assert told["binds_low_ports"] == bool(int(thread["CapEff"], 16))
    assert (told["landlock"] > 0) == (told["missing"] is None), told


@pytest.mark.skipif(os.geteuid() != 0, reason="started as root it has somebody to become")
def test_root_is_left_behind(town):
    assert town.status()["confinement"]["uid"] != 0


def test_no_core_is_ever_written(town):
    limits = Path(f"/proc/{town.process.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    # Undumpable: what is in /proc is root's, and no other process of its user can look in.
    assert os.stat(f"/proc/{town.process.pid}/mem").st_uid == 0


def test_status_and_the_log_say_what_is_in_force(town):
    text = town.command("status").out
    line = re.search(r"^confined +(.*)$", text, re.M)[1]
    assert "no new privileges" in line and "system calls by list" in line and "no core dumps" in line
    assert town.fields(town.await_log("event=ready"))["confined"] == line


def test_what_is_kept_is_its_own_alone(town):
    town.send(message(), USER)
    state = town.folder.path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    files = list(state.iterdir())
    assert {"control.sock", "ledger.mdb"} <= {file.name for file in files}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


# What a reload may need


@pytest.fixture
def elsewhere():
    folder = Folder()
    yield folder
    folder.remove()


@pytest.fixture
def by_landlock(town):
    if not town.by_landlock:
        pytest.skip("this kernel has no Landlock")
    return town


def test_a_new_file_in_a_known_folder_is_read(by_landlock):
    by_landlock.folder.write("more.yaml", "more@example.com: local\n")
    by_landlock.write_config(routes=["routes.yaml", "more.yaml"])
    assert by_landlock.reload().status == 0
    assert by_landlock.send(message(), "more@example.com") == 250


def test_a_file_in_a_folder_that_is_new_needs_a_restart_and_says_so(by_landlock, elsewhere):
    more = elsewhere.write("more.yaml", "more@example.com: local\n")
    by_landlock.write_config(routes=["routes.yaml", str(more)])
    result = by_landlock.reload()
    assert result.status == 1
    first = result.err.splitlines()[0]
    assert re.match(rf".*/splitmx\.yaml:\d+:\d+: {more} is out of reach: .* that needs a restart$", first), first
    assert by_landlock.send(message(), USER) == 250
    by_landlock.stop()
    by_landlock.start()
    assert by_landlock.send(message(), "more@example.com") == 250


def test_a_configuration_whose_folder_was_put_in_the_place_of_another_needs_a_restart(start_daemon, start_upstream):
    local = start_upstream("local.test")
    daemon = start_daemon(routes={USER: "local"}, relays={"local": {"next-hop": local.next_hop}})
    if not daemon.by_landlock:
        pytest.skip("this kernel has no Landlock")
    place = daemon.folder.path
    other = place.with_name(place.name + "-other")
    shutil.copytree(place, other, ignore=shutil.ignore_patterns("state", "notify"))
    other.chmod(0o755)
    shutil.move(place / "state", other / "state")
    place.rename(place.with_name(place.name + "-old"))
    other.rename(place)
    try:
        daemon.sighup()
        assert "is out of reach" in daemon.await_log("event=configuration")
        daemon.await_log("event=reload-failed")
        assert daemon.send(message(), USER) == 250
    finally:
        shutil.rmtree(place.with_name(place.name + "-old"))


def test_a_link_that_leads_elsewhere_later_is_followed_where_both_folders_were_known(start_daemon, start_upstream, elsewhere):
    """As certificates are renewed: live/x.pem leads to archive/x1.pem, then to archive/x2.pem."""
    live, archive = elsewhere.path / "live", elsewhere.path / "archive"
    live.mkdir(), archive.mkdir()
    (archive / "routes1.yaml").write_text(f"{USER}: local\n")
    (live / "routes.yaml").symlink_to("../archive/routes1.yaml")
    local = start_upstream("local.test")
    daemon = start_daemon(start=False, relays={"local": {"next-hop": local.next_hop}})
    daemon.write_config(routes=[str(live / "routes.yaml")])
    daemon.start()
    assert daemon.send(message(), USER) == 250
    (archive / "routes2.yaml").write_text("more@example.com: local\n")
    (live / "routes.yaml").unlink()
    (live / "routes.yaml").symlink_to("../archive/routes2.yaml")
    assert daemon.reload().status == 0
    assert daemon.send(message(), "more@example.com") == 250
    (live / "routes.yaml").unlink()
    (live / "routes.yaml").write_text(f"{USER}: local\n")
    assert daemon.reload().status == 0
    assert daemon.send(message(), USER) == 250
