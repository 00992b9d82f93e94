"""The ledger on the disk, from outside: what `splitmx ledger` shows and clears, what a kill leaves, what damage does, and that no
event loop waits for it."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from splitmx_test.daemon import splitmx
from splitmx_test.messages import message
from splitmx_test.upstream import reply
from splitmx_test.waiting import poll

LOCAL, KING, KING2 = "user@example.com", "kingmail@example.com", "king2@example.com"
SENDER = "sender@client.test"


def listed(daemon, *arguments):
    result = daemon.command("ledger", "--json", *arguments)
    assert result.status == 0 and not result.err, result
    found = [json.loads(line) for line in result.out.splitlines()]
    for entry in found:
        for leg in entry["legs"]:
            leg["recipients"].sort()
    return found


def state(split):
    return split.daemon.folder.path / "state"


def ledger_of_status(daemon):
    return json.loads(daemon.command("status", "--json").out)["ledger"]


# What an operator sees


def test_an_empty_ledger_has_nothing_to_show(split):
    result = split.daemon.command("ledger")
    assert (result.status, result.out, result.err) == (0, "", "")
    told = ledger_of_status(split.daemon)
    assert (told["usable"], told["why"], told["sets"], told["max_size"]) == (True, None, 0, 256 << 20)


@pytest.fixture
def story(start_split):
    """Local refuses after kingmailer has accepted: by the order of the recipients."""
    story = start_split()
    story.local.on("eod", reply("451 4.3.0 not now"))
    assert story.daemon.send(message(), KING, KING2, LOCAL) == 451
    assert len(story.kingmailer.messages) == 1
    return story


def test_a_set_is_listed_with_whom_it_concerns_whose_turn_it_is_and_who_has_accepted(story):
    (found,) = listed(story.daemon)
    assert (found["set"], found["sender"]) == (1, SENDER) and 0 <= found["age_seconds"] < 60
    first, second = found["legs"]
    assert (first["relay"], first["recipients"], first["accepted"]) == ("kingmailer", [KING2, KING], 1)
    assert (second["relay"], second["recipients"], second["accepted"]) == ("local", [LOCAL], 0)
    text = story.daemon.command("ledger").out
    assert re.fullmatch(
        rf"set 1  from <{SENDER}>, last seen \d+ s ago\n"
        rf"  next  kingmailer: (?:{KING}, {KING2}|{KING2}, {KING}); 1 message accepted already\n"
        rf"  then  local: {LOCAL}\n", text), text


def test_status_counts_it_and_healthcheck_is_fine(story):
    told = ledger_of_status(story.daemon)
    assert (told["usable"], told["sets"], told["recipients"]) == (True, 1, 3) and told["records"] >= 1
    assert 0 < told["size"] < told["max_size"]
    assert re.search(r"^ledger +1 sets, 3 recipients, ", story.daemon.command("status").out, re.M)
    assert story.daemon.command("healthcheck").out == "serving\n"


@pytest.mark.threads
def test_a_long_list_comes_in_parts_and_whole(story):
    story.local.on("eod", *[reply("451 4.3.0 not now")] * 400)
    with story.daemon.client() as client:
        for i in range(400):
            assert client.send_mail(message(), KING, LOCAL, sender=f"{i}@{'c' * 60}.{'d' * 60}.{'e' * 60}.test") == 451
    found = listed(story.daemon)
    assert [entry["set"] for entry in found] == list(range(1, 402))
    assert [entry["sender"].split("@")[0] for entry in found[1:]] == [str(i) for i in range(400)]


def test_an_odd_sender_breaks_no_line(story):
    odd = '"o\\"d}, <d>"@client.test'
    story.local.on("eod", *[reply("451 4.3.0 not now")] * 2)
    for sender in (odd, ""):
        assert story.daemon.send(message(), KING, LOCAL, sender=sender) == 451
    assert [entry["sender"] for entry in listed(story.daemon)] == [SENDER, odd, ""]
    assert re.findall(r"^set \d+  from <(.*)>, last seen", story.daemon.command("ledger").out, re.M) == [SENDER, odd, ""]


def test_one_set_or_all_can_be_forgotten(story):
    story.local.on("eod", *[reply("451 4.3.0 not now")] * 2)
    for sender in ("two@client.test", "three@client.test"):
        assert story.daemon.send(message(), KING, LOCAL, sender=sender) == 451
    result = story.daemon.command("ledger", "--clear", "2")
    assert (result.status, result.out) == (0, "forgotten: 1 set\n"), result
    assert [entry["sender"] for entry in listed(story.daemon)] == [SENDER, "three@client.test"]
    result = story.daemon.command("ledger", "--clear", "2")
    assert (result.status, result.out, result.err) == (1, "", "there is no set 2\n")
    result = story.daemon.command("ledger", "--clear", "all")
    assert (result.status, result.out) == (0, "forgotten: 2 sets\n")
    assert listed(story.daemon) == []


@pytest.mark.parametrize("word", ["", "0", "-1", "1x", "everything", "18446744073709551616"])
def test_what_is_to_be_forgotten_has_to_be_a_number_or_all(split, word):
    result = split.daemon.command("ledger", f"--clear={word}")
    assert result.status == 64 and "number of a set, or `all`" in result.err, result


# Restarts


def test_a_restart_and_a_kill_leave_what_was_told(story):
    before = listed(story.daemon)
    story.daemon.stop()
    story.daemon.start()
    assert strip_age(listed(story.daemon)) == strip_age(before)
    story.daemon.kill()
    story.daemon.start()
    assert strip_age(listed(story.daemon)) == strip_age(before)


def strip_age(entries):
    return [{key: value for key, value in entry.items() if key != "age_seconds"} for entry in entries]


def test_the_451_is_told_when_it_is_safe_so_a_kill_behind_it_costs_nothing(start_split):
    split = start_split()
    for round in range(5):
        split.local.on("eod", reply("451 4.3.0 not now"))
        with split.daemon.client() as client:
            assert client.send_mail(message(), KING, LOCAL, sender=f"{round}@client.test") == 451
            split.daemon.kill()
        split.daemon.start()
        assert [entry["sender"] for entry in listed(split.daemon)] == [f"{i}@client.test" for i in range(round + 1)]


# Without a daemon


def test_the_file_is_listed_and_cleared_when_no_daemon_runs(story):
    story.local.on("eod", reply("451 4.3.0 not now"))
    assert story.daemon.send(message(), KING, LOCAL, sender="two@client.test") == 451
    before = listed(story.daemon)
    story.daemon.stop()
    assert strip_age(listed(story.daemon)) == strip_age(before)
    result = story.daemon.command("ledger", "--clear", "1")
    assert (result.status, result.out) == (0, "forgotten: 1 set\n"), result
    assert [entry["sender"] for entry in listed(story.daemon)] == ["two@client.test"]
    result = story.daemon.command("ledger", "--clear", "1")
    assert (result.status, result.err) == (1, "there is no set 1\n"), result
    for name in ("ledger.mdb", "ledger.lock"):
        status = (state(story) / name).stat()
        assert status.st_uid == state(story).stat().st_uid and status.st_mode & 0o777 == 0o600
    story.daemon.start()
    assert [entry["sender"] for entry in listed(story.daemon)] == ["two@client.test"]
    assert ledger_of_status(story.daemon)["usable"]


def test_without_a_ledger_there_is_nothing_to_list(split, tmp_path):
    config = tmp_path / "splitmx.yaml"
    config.write_text("hostname: mx.example.com\nstate-directory: state\n")
    result = splitmx("ledger", "-c", config)
    assert (result.status, result.out) == (0, "") and "there is no ledger" in result.err, result
    result = splitmx("ledger", "-c", config, "--clear", "all")
    assert (result.status, result.out) == (0, "forgotten: 0 sets\n")
    assert not (tmp_path / "state").exists()


# Damage, and a disk that takes no more


def aside(split):
    return sorted(path.name for path in state(split).glob("ledger.mdb.broken-*"))


@pytest.mark.parametrize("damage", ["rubbish", "cut", "zeroes", "folder"])
def test_a_broken_file_is_set_aside_with_a_clear_line_and_mail_goes_on(story, damage):
    story.daemon.stop()
    path = state(story) / "ledger.mdb"
    if damage == "rubbish":
        path.write_bytes(os.urandom(30000))
    elif damage == "cut":
        os.truncate(path, 4096)
    elif damage == "zeroes":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        path.unlink()
        path.mkdir()
    story.daemon.start()
    line = story.daemon.await_log("event=ledger-broken")
    fields = story.daemon.fields(line)
    assert fields["file"] == str(path) and fields["why"], line
    assert re.fullmatch(re.escape(str(path)) + r"\.broken-\d{8}T\d{6}Z", fields["kept-as"]), line
    assert aside(story) == [os.path.basename(fields["kept-as"])]
    story.local.forget()
    assert story.daemon.send(message(), KING, LOCAL) == 250
    assert ledger_of_status(story.daemon)["usable"]
    assert not [line for line in story.daemon.lines if "ledger-unusable" in line]


def test_no_more_than_three_broken_files_are_kept(start_split):
    split = start_split()
    for year in range(2001, 2006):
        (state(split) / f"ledger.mdb.broken-{year}0101T000000Z").write_text("old")
    split.daemon.stop()
    (state(split) / "ledger.mdb").write_text("rubbish")
    split.daemon.start()
    kept = aside(split)
    assert len(kept) == 3 and kept[:2] == [f"ledger.mdb.broken-{year}0101T000000Z" for year in (2004, 2005)]


def test_a_file_that_is_removed_while_it_serves_is_made_anew(story):
    (state(story) / "ledger.mdb").unlink()
    story.local.on("eod", reply("451 4.3.0 not now"))
    assert story.daemon.send(message(), KING, LOCAL, sender="two@client.test") == 451
    line = story.daemon.await_log("event=ledger-unusable")
    assert "somebody has removed, replaced or changed it" in line
    story.daemon.await_log("event=ledger-usable")
    story.daemon.kill()
    story.daemon.start()
    assert [entry["sender"] for entry in listed(story.daemon)][0] == SENDER


def test_a_lock_that_another_process_has_is_waited_for_and_mail_goes_on(story):
    before = listed(story.daemon)
    story.daemon.stop()
    with (state(story) / "ledger.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        story.daemon.start()
        assert "another process has it locked" in story.daemon.await_log("event=ledger-unusable")
        told = ledger_of_status(story.daemon)
        assert not told["usable"] and "another process has it locked" in told["why"]
        assert "CANNOT BE USED: ledger.lock: another process has it locked" in story.daemon.command("status").out
        health = story.daemon.command("healthcheck")
        assert health.status == 0 and "warning: the ledger cannot be used" in health.out, health
        result = story.daemon.command("ledger")
        assert result.status == 0 and "cannot be used" in result.err and not result.out, result
        story.local.forget()
        assert story.daemon.send(message(), LOCAL, sender="alone@client.test") == 250
        with story.daemon.client() as client:  # as with split: defer
            client.cmd("MAIL FROM:<other@client.test>")
            assert client.cmd(f"RCPT TO:<{LOCAL}>") == 250
            assert client.cmd(f"RCPT TO:<{KING}>") == 452
    story.daemon.await_log("event=ledger-usable")
    assert strip_age(listed(story.daemon)) == strip_age(before)


def test_a_command_does_not_read_what_another_process_has_locked(story):
    story.daemon.stop()
    with (state(story) / "ledger.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arguments in ((), ("--clear", "all")):
            result = story.daemon.command("ledger", *arguments)
            assert result.status == 1 and not result.out and "another process has it locked" in result.err, result


@pytest.mark.threads
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_costs_nobody_mail_and_the_ledger_is_back_when_there_is_room(start_split):
    split = start_split()
    split.daemon.stop()
    shutil.rmtree(state(split))
    state(split).mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M,mode=700,uid=" + str(split.daemon.folder.path.stat().st_uid), "none",
                       state(split)], capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        split.daemon.start()
        ballast = os.open(state(split) / "ballast", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            while True:
                os.write(ballast, bytes(4096))
        os.close(ballast)
        refused = 0
        for i in range(400):
            split.local.on("eod", reply("451 4.3.0 not now"))
            with split.daemon.client() as client:
                client.cmd(f"MAIL FROM:<{i}@client.test>")
                assert client.cmd(f"RCPT TO:<{KING}>") == 250
                refused += client.cmd(f"RCPT TO:<{LOCAL}>") == 452
                if refused:
                    break
                client.cmd("DATA")
                assert client.cmd("Subject: x\r\n\r\nx\r\n.") == 451
        assert refused
        assert "No space left" in ledger_of_status(split.daemon)["why"]
        assert split.daemon.send(message(), KING, sender="one-leg@client.test") == 250
        (state(split) / "ballast").unlink()
        split.daemon.await_log("event=ledger-usable")
        split.local.forget()
        assert split.daemon.send(message(), KING, LOCAL, sender="both@client.test") == 250
        split.daemon.stop()
    finally:
        subprocess.run(["umount", "-l", state(split)], check=True)


# The configuration


def test_a_reload_changes_how_much_it_may_hold(start_split):
    split = start_split()
    split.daemon.write_config(ledger={"max-size": "1M", "retry-window": "2d"})
    assert split.daemon.reload().status == 0
    assert ledger_of_status(split.daemon)["max_size"] == 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what another may not read")
def test_check_warns_of_a_ledger_that_the_daemon_could_not_read(start_split):
    split = start_split()
    split.daemon.stop()
    assert split.daemon.command("check").err == ""
    for name in ("ledger.mdb", "ledger.lock"):
        os.chown(state(split) / name, 0, 0)
        checked = split.daemon.command("check")
        assert checked.status == 0 and f"{name} cannot be read and written by {split.daemon.folder.user}" in checked.err, checked
        split.daemon.start()  # and it serves all the same
        assert "Permission denied" in split.daemon.await_log("event=ledger-unusable")
        split.daemon.stop()
        os.chown(state(split) / name, state(split).stat().st_uid, -1)


# Law 6


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_event_loop_waits_for_the_disk(start_daemon, start_upstream, reachable_folder):
    """Every fsync and every write to the ledger's file is made by the store's thread, which takes no connections."""
    trace = reachable_folder / "trace"
    local, king = start_upstream("local.test"), start_upstream("king.test")
    daemon = start_daemon(relays={"local": {"next-hop": local.next_hop}, "king": {"next-hop": king.next_hop}},
                          routes={LOCAL: "local", KING: "king"},
                          environment={"ASAN_OPTIONS": "detect_leaks=0"},  # which strace does not let it
                          wrapper=["strace", "-f", "-qq", "-y", "-o", str(trace), "-e",
                                   "trace=fsync,fdatasync,pwrite64,pwritev,rename,ftruncate,openat,accept4,recvfrom,read"])
    started = len(trace.read_text().splitlines())
    try:
        for i in range(5):
            local.on("eod", reply("451 4.3.0 not now"))
            assert daemon.send(message(), KING, LOCAL, sender=f"{i}@client.test") == 451
        poll(lambda: trace.read_text().count("ledger.mdb") > 0, "the trace")
    finally:  # strace keeps a signal to itself
        os.kill(int((daemon.folder.path / "state" / "splitmx.pid").read_text()), signal.SIGTERM)
        assert daemon.await_exit() == 0
    lines = trace.read_text().splitlines()[started:]
    calls = [match.groups() for match in (re.match(r"(\d+) +(\w+)\((.*)", line) for line in lines) if match]
    loops = {thread for thread, call, rest in calls if "<socket:" in rest}
    disk = {thread for thread, call, rest in calls if "/ledger." in rest or call in ("fsync", "fdatasync")}
    assert loops and disk, lines[-20:]
    assert not loops & disk, [line for line in lines if line.split()[0] in loops & disk][:20]
