"""Snapshots: a guest goes back to where it was; what cannot be loaded costs nobody anything."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2kemu import Machine
from e2kemu.errors import CommandError, E2kError, OptionError, StateError
from e2kemu.jobs import Jobs
from e2kemu.migration.snapshot_store import HEADER, SnapshotStore, check_tag
from e2kemu.migration.stream_cli import main as stream_main
from e2kemu.migration.stream_reader import walk
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework import forked

TABLE = "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT"


@pytest.fixture
def ticks(tmp_path: Path) -> Iterator[Machine]:
    """A machine that has printed its second tick."""
    with Machine.build(ram="32M", append="workload=ticks", snapshot_dir=str(tmp_path)) as machine:
        machine.run(until=b"tick 2")
        yield machine


def memory_of(machine: Machine) -> list[bytes]:
    return [bytes(block.mem) for block in machine.ram_blocks]


def test_a_machine_goes_back_to_its_snapshot_exactly(ticks: Machine) -> None:
    clock, pc, before = ticks.clock.now(), ticks.read_reg("pc"), memory_of(ticks)
    info = ticks.snapshots.save("two")
    assert ticks.run_state == info.run_state == "paused"
    assert memory_of(ticks) == before, "saving changes nothing"
    ticks.run(until=b"tick 5")
    assert memory_of(ticks) != before
    ticks.snapshots.load("two")
    assert (ticks.clock.now(), ticks.read_reg("pc"), memory_of(ticks)) == (clock, pc, before)
    printed = len(ticks.console.output)
    ticks.run(until=b"tick 4")
    again = ticks.console.text[printed:].replace("\r", "")
    assert again.lstrip("\n 2").startswith("tick 3\n"), again


def test_a_snapshot_is_a_stream_that_everybody_reads(
    ticks: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks.snapshots.save("file")
    path = tmp_path / "file.snapshot"
    kinds = [record.kind for record in walk(path.read_bytes(), HEADER)]
    assert "COMMAND" not in kinds
    assert kinds[:2] == ["HEADER", "CONFIGURATION"]
    assert kinds[-2:] == ["EOF", "VMDESCRIPTION"]
    with Machine.build(ram="32M", incoming=True) as other:
        other.load(f"{path},offset={HEADER}")
        assert memory_of(other) == memory_of(ticks)
    extracted = tmp_path / "extracted"
    assert stream_main(["-q", "--offset", str(HEADER), "--extract", str(extracted), str(path)]) == 0
    assert capsys.readouterr().out.count("FULL") == len(ticks.save_handlers()) + 1, "and globalstate"
    assert (extracted / "ram" / "elbrus.ram").read_bytes() == memory_of(ticks)[0]
    assert json.loads((extracted / "configuration.json").read_text())["machine"] == "elbrus-2.0"
    described = json.loads((extracted / "vmdescription.json").read_text())
    for device in described["devices"]:
        (body,) = (extracted / "devices").glob(f"[0-9][0-9]-{device['name']}-{device['instance_id']}.bin")
        assert json.loads(body.with_suffix(".json").read_text())["version"] == device["version"]
        assert body.read_bytes() in path.read_bytes()
    timer = json.loads(next((extracted / "devices").glob("[0-9][0-9]-timer-0.json")).read_text())["fields"]
    assert any(int(value, 16) == ticks.clock.now() for value in timer.values() if isinstance(value, str))


@pytest.mark.parametrize("tag", ["", ".", "..", "../x", "a/b", ".hidden", "a b", "-x", "ä", "a\0b", "x" * 129, "a\nb"])
def test_tags_that_could_lead_astray_are_refused(tag: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Invalid snapshot name"):
        check_tag(tag)
    for action in (SnapshotStore(str(tmp_path)).read, SnapshotStore(str(tmp_path)).delete):
        with pytest.raises(OptionError, match="Invalid snapshot name"):
            action(tag)


def test_a_damaged_file_is_found_before_the_guest_is_touched(ticks: Machine, tmp_path: Path) -> None:
    ticks.snapshots.save("good")
    path, before, clock = tmp_path / "good.snapshot", memory_of(ticks), ticks.clock.now()
    good = path.read_bytes()
    damages = {
        "cut": good[:-1],
        "longer": good + b"x",
        "empty": b"",
        "header": b"{" + good[2:],
        "text": b"hello",
        "version": good.replace(b'"e2kemu_snapshot":1', b'"e2kemu_snapshot":2', 1),
        "no header": good[HEADER:],
    }
    for place in range(HEADER, len(good), len(good) // 40):
        damages[f"byte {place}"] = good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :]
    assert len(damages) > 40
    for name, data in damages.items():
        path.write_bytes(data)
        with pytest.raises(StateError, match=r"Snapshot 'good' (is damaged|has format)") as problem:
            ticks.snapshots.load("good")
        assert "\n" not in str(problem.value), name
    assert (memory_of(ticks), ticks.clock.now(), ticks.run_state) == (before, clock, "paused")
    path.write_bytes(good)
    ticks.snapshots.load("good")


def test_a_snapshot_of_another_machine_is_refused_before_the_guest_is_touched(tmp_path: Path) -> None:
    with Machine.build(ram="32M", snapshot_dir=str(tmp_path)) as machine:
        machine.snapshots.save("small")
    for options, reason in (
        ({"ram": "64M"}, "its RAM is"),
        ({"ram": "32M", "machine": "elbrus-0.1"}, "its machine type is 'elbrus-2.0' and this is 'elbrus-0.1'"),
    ):
        with Machine.build(**options, snapshot_dir=str(tmp_path)) as other:
            before = memory_of(other)
            with pytest.raises(StateError, match="does not fit this machine: " + reason):
                other.snapshots.load("small")
            assert memory_of(other) == before
            assert other.run_state == "prelaunch"


def test_a_load_that_fails_after_all_leaves_a_machine_as_after_power_on(ticks: Machine, tmp_path: Path) -> None:
    """A file whose checksum is right and whose content is not: nobody can know that before."""
    info = ticks.snapshots.save("forged")
    path = tmp_path / "forged.snapshot"
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\x7e", HEADER + 64)  # a footer
    raw[at] = 0x7D
    path.write_bytes(raw)
    header = raw[:HEADER].replace(str(info.crc32).encode(), str(zlib.crc32(raw[HEADER:])).encode())
    path.write_bytes(header.rstrip().ljust(HEADER - 1) + b"\n" + raw[HEADER:])
    with pytest.raises(StateError, match=r"Error while loading VM state: .*; the guest has been reset"):
        ticks.snapshots.load("forged")
    assert ticks.run_state == "prelaunch"
    with Machine.build(ram="32M", append="workload=ticks") as fresh:
        assert memory_of(ticks) == memory_of(fresh)
        assert ticks.read_reg("pc") == fresh.read_reg("pc")
    printed = len(ticks.console.output)
    ticks.run(until=b"tick 2")
    assert "tick 1" in ticks.console.text[printed:], "it boots"


def test_unfinished_files_never_appear(ticks: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks.snapshots.save("kept")
    old = (tmp_path / "kept.snapshot").read_bytes()

    def full(fd: int, *rest: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StateError, match="No space left on device"):
            ticks.snapshots.save("kept")
    assert os.listdir(tmp_path) == ["kept.snapshot"]
    assert (tmp_path / "kept.snapshot").read_bytes() == old
    assert ticks.run_state == "paused"


def test_migration_and_snapshots_exclude_each_other(ticks: Machine) -> None:
    with ticks.migration.exclusive():
        for action in (lambda: ticks.snapshots.save("x"), lambda: ticks.migration.migrate("tcp:127.0.0.1:1")):
            with pytest.raises(StateError, match="There's a migration process in progress"):
                action()
        with pytest.raises(StateError, match="snapshot in progress"):
            ticks.migration.add_blocker("late")
    remove = ticks.migration.add_blocker("not now")
    with pytest.raises(StateError, match="not now"):
        ticks.snapshots.save("x")
    remove()
    for state in ("save-vm", "restore-vm"):
        ticks.set_run_state(state)
        for command in (ticks.cont, ticks.pause, ticks.reset):
            with pytest.raises(StateError, match="A snapshot is being saved or loaded"):
                command()
        ticks.set_run_state("paused")


def test_a_machine_that_waits_or_has_left_has_no_snapshots(tmp_path: Path) -> None:
    with (
        Machine.build(ram="32M", incoming=True, snapshot_dir=str(tmp_path)) as machine,
        pytest.raises(StateError, match="Guest is waiting for an incoming migration"),
    ):
        machine.snapshots.save("x")
    with Machine.build(ram="32M") as machine, pytest.raises(StateError, match="no block device can store vmstate"):
        machine.snapshots.save("x")
    with pytest.raises(OptionError, match="not a directory"):
        Machine.build(ram="32M", snapshot_dir=str(tmp_path / "missing"))


def test_a_disk_that_the_guest_may_write_forbids_snapshots(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    drive = f"file={image},format=raw,id=d0"
    with (
        Machine.build(ram="32M", drives=[drive], snapshot_dir=str(tmp_path)) as machine,
        pytest.raises(StateError, match="Device 'd0' is writable but does not support snapshots"),
    ):
        machine.snapshots.save("x")
    with Machine.build(ram="32M", drives=[f"{drive},readonly=on"], snapshot_dir=str(tmp_path)) as machine:
        machine.snapshots.save("x")
        machine.snapshots.load("x")


# -- whole processes -------------------------------------------------------------------------------


def ticks_of(emulator: Emulator) -> list[int]:
    return [int(number) for number in re.findall(r"tick (\d+)\b", emulator.console())]


def test_the_human_monitors_commands_on_a_running_guest(start: StartEmulator, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    options = ("-m", "32M", "-append", "workload=ticks", "-snapshot-dir", str(store))
    one = start("one", *options)
    assert one.hmp("info snapshots") == "There is no snapshot available.\r\n".replace("\r", "")
    one.wait_console("tick 3\n")
    assert one.hmp("savevm early") == ""
    assert one.hmp("savevm") == ""
    assert one.status() == "running"
    assert {"STOP", "RESUME"} <= set(one.events())
    listing = one.hmp("info snapshots").splitlines()
    assert listing[:2] == ["List of snapshots present on all disks:", TABLE]
    row = r"--        early             +\d+ KiB \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d\d:\d\d:\d\d\.\d{3} {11}"
    assert re.fullmatch(row, listing[2]), listing[2]
    assert len(listing[2]) == len(TABLE)
    assert re.match(r"--        vm-\d{14} ", listing[3])
    one.wait_console("tick", count=max(ticks_of(one)) + 2)
    seen = max(ticks_of(one))
    assert one.hmp("loadvm early") == ""
    assert one.status() == "running", "a guest that ran runs again"
    one.wait_console("tick", count=len(ticks_of(one)) + 2)
    numbers = ticks_of(one)
    back = numbers.index(seen) + 1 + next(i for i, n in enumerate(numbers[numbers.index(seen) + 1 :]) if n <= seen)
    assert numbers[back:] == list(range(numbers[back], numbers[back] + len(numbers[back:])))
    one.qmp("stop")
    assert one.hmp("loadvm early") == ""
    assert one.status() == "paused", "one that stood stands"
    assert one.hmp("loadvm nope") == "Error: Snapshot 'nope' does not exist in one or more devices\n"
    assert one.hmp("delvm nope") == "Error: Snapshot 'nope' does not exist in one or more devices\n"
    assert "Invalid snapshot name '../x'" in one.hmp("savevm ../x")
    (store / "bad.snapshot").write_text("nonsense")
    assert "Snapshot 'bad' is damaged" in one.hmp("info snapshots").splitlines()[-1]
    assert "Error: Snapshot 'bad' is damaged" in one.hmp("loadvm bad")
    assert one.hmp("delvm bad") == ""
    assert one.hmp("delvm early") == ""
    assert "early" not in one.hmp("info snapshots")
    one.close()
    tag = listing[3].split()[1]
    two = start("two", *options, "-loadvm", tag)
    two.wait_console("tick", count=2)
    assert min(ticks_of(two)) > 1, "it went on where the snapshot was made"
    with Emulator("three", tmp_path, *options, "-loadvm", "nope") as three:
        assert three.process.wait(20) == 1
        assert three.stderr() == "e2kemu: -loadvm nope: Snapshot 'nope' does not exist in one or more devices\n"


def test_a_script_in_a_pipe_is_carried_out_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "e2kemu", "-m", "32M", "-display", "none", "-serial", "null", "-monitor", "stdio"]
    script = "savevm a\nloadvm a\nloadvm b\nsavevm c\ninfo snapshots\nquit\n"
    done = forked.run(
        [*command, "-snapshot-dir", str(tmp_path)], input=script, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "Error: Snapshot 'b' does not exist in one or more devices" in done.stdout
    assert done.stdout.index("Error:") < done.stdout.index("--        a  ") < done.stdout.index("--        c  ")
    assert sorted(os.listdir(tmp_path)) == ["a.snapshot", "c.snapshot"]


def job_events(emulator: Emulator, ident: str, last: str = "concluded") -> list[str]:
    """The statuses of a job up to ``last``."""
    statuses: list[str] = []
    deadline = time.monotonic() + 20
    while last not in statuses and time.monotonic() < deadline:
        event = emulator.monitor.pull_event(wait=20.0)
        if event is not None and event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"] == ident:
            statuses.append(event["data"]["status"])
    return statuses


def test_qmp_makes_jobs_of_snapshots(start: StartEmulator, tmp_path: Path) -> None:
    good = ["created", "running", "waiting", "pending", "concluded"]
    bad = ["created", "running", "aborting", "concluded"]
    one = start("one", "-m", "32M", "-append", "workload=ticks", "-snapshot-dir", str(tmp_path))
    one.wait_console("tick 2\n")
    place = {"vmstate": "snapshot-dir", "devices": ["snapshot-dir"]}
    one.qmp("snapshot-save", job_id="save0", tag="t", **place)
    assert job_events(one, "save0") == good
    one.qmp("snapshot-save", job_id="save1", tag="t")
    assert job_events(one, "save1") == bad
    one.qmp("snapshot-load", job_id="load0", tag="t", **place)
    assert job_events(one, "load0") == good
    one.qmp("snapshot-load", job_id="load1", tag="nope")
    assert job_events(one, "load1") == bad
    assert one.status() == "running"
    one.qmp("snapshot-delete", job_id="del0", tag="t")
    assert job_events(one, "del0") == good
    jobs = {job["id"]: job for job in one.qmp("query-jobs")}
    assert jobs["save1"] == {
        "id": "save1", "type": "snapshot-save", "status": "concluded", "current-progress": 1, "total-progress": 1,
        "error": "Snapshot 't' already exists in one or more devices",
    }  # fmt: skip
    assert "error" not in jobs["load0"]
    assert jobs["load1"]["error"] == "Snapshot 'nope' does not exist in one or more devices"
    for arguments, error in (
        ({"job_id": "save0", "tag": "u"}, "Job ID 'save0' already in use"),
        ({"job_id": "1", "tag": "u"}, "Invalid job ID '1'"),
        ({"job_id": "x", "tag": "u", "vmstate": "disk0"}, "No block device node 'disk0'"),
    ):
        with pytest.raises(Exception, match=error):
            one.qmp("snapshot-save", **arguments)
    for ident in jobs:
        one.qmp("job-dismiss", id=ident)
    assert one.qmp("query-jobs") == []
    with pytest.raises(Exception, match="Job not found"):
        one.qmp("job-dismiss", id="save0")


def test_the_dirty_bitmap_of_a_migration_in_progress_can_be_written_down(start: StartEmulator, tmp_path: Path) -> None:
    source = start("source", "-m", "32M", "-append", "workload=pages start=16M end=24M")
    source.wait_console("ok\nA")
    out = tmp_path / "dirty.json"
    assert source.hmp(f"migrate_dump_bitmap {out}") == "Error: There's no migration process in progress\n"
    destination = start("destination", "-m", "32M", "-incoming", "tcp:127.0.0.1:0")
    port = destination.migration()["socket-address"][0]["port"]
    source.set_parameters(max_bandwidth=1 << 20)
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
    while source.migration()["status"] == "setup":
        time.sleep(0.02)
    assert source.hmp(f"migrate_dump_bitmap {out}") == ""
    dump = json.loads(out.read_text())
    assert dump["page-size"] == 4096
    blocks = {block["block"]: block for block in dump["blocks"]}
    assert set(blocks) == {"elbrus.ram", "elbrus.rom"}
    for block in blocks.values():
        assert sum(count for _, count in block["runs"]) == block["dirty"] <= block["pages"]
        ends = [(first, first + count) for first, count in block["runs"]]
        assert all(end < following for (_, end), (following, _) in itertools.pairwise(ends))
    assert blocks["elbrus.ram"]["dirty"] > 0
    assert "Could not open" in source.hmp(f"migrate_dump_bitmap {tmp_path}/none/x")
    source.qmp("x-migrate-dump-bitmap", filename=str(out))
    source.qmp("migrate_cancel")


def test_a_job_that_fails_in_an_unforeseen_way_still_ends() -> None:
    events: list[tuple[str, str]] = []
    concluded = threading.Event()

    def emit(name: str, data: Any) -> None:
        events.append((data["id"], data["status"]))
        if data["status"] == "concluded":
            concluded.set()

    jobs = Jobs(emit)
    gate = threading.Event()

    def work() -> None:
        gate.wait(10)
        raise ZeroDivisionError("oops")

    jobs.start("j", "test", work)
    with pytest.raises(CommandError, match="Job 'j' in state 'running' cannot accept command verb 'dismiss'"):
        jobs.dismiss("j")
    gate.set()
    assert concluded.wait(10)
    assert jobs.all()[0].error == "internal error: ZeroDivisionError: oops"
    jobs.dismiss("j")
    assert [status for _, status in events] == ["created", "running", "aborting", "concluded", "null"]
    assert issubclass(CommandError, E2kError)
