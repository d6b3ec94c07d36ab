"""Two machines in one process migrate while the guest writes, over real sockets; all figures are truthful."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2kemu.errors import ChannelError, E2kError, OptionError, StateError
from tests.migration.conftest import MakeSide
from tests.migration.toy import MIB, PAGE, LapWriter, ToyMachine, laps_are_whole


def fill(machine: ToyMachine, seed: int = 1) -> None:
    """Incompressible contents, but for the first byte of each page."""
    machine.ram.view[:] = np.random.default_rng(seed).integers(0, 256, machine.ram.size, dtype=np.uint8)
    machine.ram.view.reshape(-1, PAGE)[:, 0] = 0


@pytest.mark.parametrize("uri", ["tcp:127.0.0.1:0", "unix"])
def test_a_stopped_machine_arrives_byte_by_byte(side: MakeSide, tmp_path: Path, uri: str) -> None:
    source, destination = side(), side(incoming=True)
    fill(source.machine)
    for number, device in enumerate(source.machine.devices):
        device.counter, device.stamp, device.tag, device.colour = 1000 + number, 1 << 60, b"axyz", 99
    source.machine.run_state = "paused"
    target = destination.listen(f"unix:{tmp_path}/sock" if uri == "unix" else uri)
    source.service.migrate(target)
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"
    assert (source.machine.ram.view == destination.machine.ram.view).all()
    for here, there in zip(source.machine.devices, destination.machine.devices, strict=True):
        assert (here.counter, here.stamp, here.tag, here.colour) == (
            there.counter,
            there.stamp,
            there.tag,
            there.colour,
        )
    assert source.machine.run_state == "postmigrate"
    assert destination.machine.run_state == "paused"


@pytest.mark.parametrize("return_path", [False, True])
def test_a_guest_that_writes_all_the_time_loses_nothing(side: MakeSide, return_path: bool) -> None:
    pages = 4096
    source = side(24 * MIB, LapWriter(pages))
    destination = side(24 * MIB, incoming=True)
    fill(source.machine)
    source.service.capabilities.set({"return-path": return_path})
    source.service.parameters.set({"max-bandwidth": 0, "downtime-limit": 20})
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.service.wait(60) == "completed", source.service.query()
    assert destination.wait_incoming() == "completed"
    assert (source.machine.ram.view == destination.machine.ram.view).all()
    assert laps_are_whole(destination.machine, pages)
    assert destination.machine.run_state == "running"
    assert source.machine.run_state == "postmigrate"
    assert source.machine.statuses() == ["setup", "active", "device", "completed"]
    assert destination.machine.statuses() == ["setup", "active", "completed"]
    passes = [data["pass"] for event, data in source.machine.events if event == "MIGRATION_PASS"]
    assert passes == list(range(1, 1 + len(passes)))
    assert passes[-1] == source.service.query()["ram"]["dirty-sync-count"] >= 2


def test_a_guest_migrates_there_and_back_many_times(side: MakeSide) -> None:
    pages = 512
    writer = LapWriter(pages)
    here = side(4 * MIB, writer)
    here.machine.start()
    for _ in range(10):
        there = side(4 * MIB, writer, incoming=True)
        here.service.parameters.set({"max-bandwidth": 0})
        here.service.migrate(there.listen())
        assert here.service.wait(30) == "completed", here.service.query()
        assert there.wait_incoming() == "completed"
        here = there
    assert here.machine.is_running()
    here.machine.stop()
    assert laps_are_whole(here.machine, pages)


def test_statistics_are_complete_and_plausible(side: MakeSide) -> None:
    source, destination = side(8 * MIB), side(8 * MIB, incoming=True)
    source.machine.ram.view[: 2 * MIB] = 1
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    info = source.service.query()
    ram = info["ram"]
    assert ram["total"] == 8 * MIB + 16 * PAGE
    assert ram["normal"] == 512
    assert ram["normal-bytes"] == 2 * MIB
    assert ram["duplicate"] == 1536 + 16
    assert ram["remaining"] == 0
    assert ram["precopy-bytes"] + ram["downtime-bytes"] <= ram["transferred"]
    assert ram["transferred"] > 2 * MIB
    assert ram["dirty-sync-count"] == 3
    assert 0 <= info["setup-time"] <= info["total-time"]
    assert 0 <= info["downtime"] <= info["total-time"]
    assert ram["mbps"] > 0
    assert set(ram) >= {
        "pages-per-second",
        "dirty-pages-rate",
        "multifd-bytes",
        "postcopy-requests",
        "page-size",
    }
    assert destination.wait_incoming() == "completed"
    assert destination.service.query()["status"] == "completed"


def test_the_figures_of_a_running_migration_move(side: MakeSide) -> None:
    source, destination = side(32 * MIB, LapWriter(64, 1)), side(32 * MIB, incoming=True)
    fill(source.machine)
    source.machine.start()
    source.service.parameters.set({"max-bandwidth": 8 * MIB, "downtime-limit": 1})
    source.service.migrate(destination.listen())
    source.wait_status("active")
    seen = []
    deadline = time.monotonic() + 20
    while len(seen) < 3 and time.monotonic() < deadline:
        info = source.service.query()
        moved = not seen or info["ram"]["transferred"] > seen[-1]["ram"]["transferred"]
        if info["status"] == "active" and info["ram"]["mbps"] > 0 and moved:
            seen.append(info)
        time.sleep(0.02)
    assert len(seen) == 3
    assert seen[0]["ram"]["remaining"] > seen[-1]["ram"]["remaining"] > 0
    assert seen[0]["remaining"] == seen[0]["ram"]["remaining"]
    assert "expected-downtime" in seen[0]
    assert "downtime" not in seen[0]
    # Faster from now on: the parameters act at once.
    source.service.parameters.set({"max-bandwidth": 0, "downtime-limit": 1000})
    assert source.service.wait(30) == "completed"


def test_a_low_bandwidth_limit_is_kept(side: MakeSide) -> None:
    source, destination = side(16 * MIB), side(16 * MIB, incoming=True)
    fill(source.machine)
    source.service.parameters.set({"max-bandwidth": 20 * MIB, "downtime-limit": 0})
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    info = source.service.query()
    assert info["ram"]["precopy-bytes"] > 15 * MIB
    # 16 MiB at 20 MiB/s; the last window may not be full
    assert info["ram"]["mbps"] < 20 * MIB * 8 / 1e6 * 1.35


def test_pause_before_switchover_waits_for_migrate_continue(side: MakeSide) -> None:
    source, destination = side(4 * MIB, LapWriter(64)), side(incoming=True)
    source.service.capabilities.set({"pause-before-switchover": True})
    source.machine.start()
    source.service.migrate(destination.listen())
    source.wait_status("pre-switchover")
    assert source.machine.run_state == "finish-migrate"
    with pytest.raises(StateError, match="Migration not in expected state: pre-switchover"):
        source.service.proceed("device")
    source.service.proceed("pre-switchover")
    assert source.service.wait(30) == "completed"
    assert source.machine.statuses() == ["setup", "active", "pre-switchover", "device", "completed"]


@pytest.mark.parametrize("running", [False, True])
def test_the_switchover_acknowledgement_is_waited_for(side: MakeSide, running: bool) -> None:
    source, destination = side(4 * MIB, LapWriter(64)), side(incoming=True)
    for one in (source, destination):
        one.service.capabilities.set({"return-path": True, "switchover-ack": True})
    if running:
        source.machine.start()
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"


def test_a_destination_started_with_S_stays_paused(side: MakeSide) -> None:
    source, destination = side(4 * MIB, LapWriter(64)), side(incoming=True)
    destination.machine.autostart = False
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"
    assert destination.machine.run_state == "paused"


def test_save_writes_a_file_that_can_be_loaded_again_and_again(side: MakeSide, tmp_path: Path) -> None:
    source = side()
    fill(source.machine)
    source.machine.devices[0].counter = 77
    source.service.save(str(tmp_path / "state"))
    for _ in range(2):
        destination = side(incoming=True)
        destination.service.start_incoming(f"file:{tmp_path}/state")
        assert destination.wait_incoming() == "completed", destination.service.query()
        assert (source.machine.ram.view == destination.machine.ram.view).all()
        assert destination.machine.devices[0].counter == 77


def test_a_command_receives_the_stream_and_its_failure_is_reported(side: MakeSide, tmp_path: Path) -> None:
    source = side()
    source.machine.run_state = "paused"
    source.service.migrate(f"exec:cat > {tmp_path}/out")
    assert source.service.wait(30) == "completed", source.service.query()
    destination = side(incoming=True)
    destination.service.start_incoming(f"exec:cat {tmp_path}/out")
    assert destination.wait_incoming() == "completed", destination.service.query()
    other = side()
    other.machine.run_state = "paused"
    other.service.migrate("exec:cat > /dev/null; exit 3")
    assert other.service.wait(30) == "failed"
    assert "3" in other.service.query()["error-desc"]
    assert other.machine.run_state == "paused"


def test_the_return_path_over_a_file_is_refused(side: MakeSide, tmp_path: Path) -> None:
    source = side()
    source.service.capabilities.set({"return-path": True})
    source.service.migrate(f"file:{tmp_path}/out")
    assert source.service.wait(30) == "failed"
    assert "return-path" in source.service.query()["error-desc"]
    assert source.machine.run_state == "prelaunch"


def test_a_peer_that_only_listens_gets_the_whole_stream(side: MakeSide) -> None:
    import socket

    source = side()
    fill(source.machine)
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def sink() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    received.extend(data)

        thread = threading.Thread(target=sink)
        thread.start()
        source.service.migrate(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        assert source.service.wait(30) == "completed", source.service.query()
        thread.join(10)
    from e2kemu.migration.stream_reader import walk

    memory: dict[str, bytearray] = {}
    records = list(walk(bytes(received), memory=memory))
    assert [record.kind for record in records[-2:]] == ["VMDESCRIPTION", "COMMAND"]
    assert bytes(memory["toy.ram"]) == source.machine.ram.view.tobytes()


def test_what_cannot_start_is_refused_at_once(side: MakeSide, tmp_path: Path) -> None:
    source, waiting = side(), side(incoming=True)
    with pytest.raises(OptionError, match="unknown migration protocol"):
        source.service.migrate("foo:bar")
    with pytest.raises(E2kError):
        source.service.migrate(f"file:{tmp_path}/no/such/dir")
    with pytest.raises(OptionError, match="File descriptor named 'zz' has not been found"):
        source.service.migrate("fd:zz")
    with pytest.raises(StateError, match="Guest is waiting for an incoming migration"):
        waiting.service.migrate("tcp:127.0.0.1:1")
    with pytest.raises(StateError, match="'-incoming' was not specified on the command line"):
        source.service.start_incoming("tcp:127.0.0.1:0")
    with pytest.raises(OptionError):
        waiting.service.start_incoming("fd:bad")
    target = waiting.listen()  # a failed attempt is not held against it
    with pytest.raises(StateError, match="already been started"):
        waiting.service.start_incoming("tcp:127.0.0.1:0")
    source.service.parameters.set({"tls-creds": "nope"})
    with pytest.raises(OptionError, match="No TLS credentials with id 'nope'"):
        source.service.migrate(target)
    source.service.parameters.set({"tls-creds": None})
    source.service.migrate(target)
    assert source.service.wait(30) == "completed"
    with pytest.raises(StateError, match="paused due to previous migration"):
        source.service.migrate(target)


def test_blockers_refuse_with_their_reason_until_they_are_lifted(side: MakeSide) -> None:
    source, destination = side(), side(incoming=True)
    target = destination.listen()
    lift = source.service.add_blocker("the clock is nailed down")
    lift_other = source.service.add_blocker("the clock is nailed down")
    assert source.service.query() == {"blocked-reasons": ["the clock is nailed down"] * 2}
    with pytest.raises(StateError, match="the clock is nailed down"):
        source.service.migrate(target)
    lift()
    assert len(source.service.blockers) == 1
    lift_other()
    source.service.migrate(target)
    assert source.service.wait(30) == "completed"


def test_uuids_are_compared_when_both_sides_have_one(side: MakeSide) -> None:
    import uuid

    for mine, theirs, validate, expected in [
        (1, 1, True, "completed"),
        (1, 2, True, "failed"),
        (1, 2, False, "completed"),
        (None, 2, True, "completed"),
        (1, None, True, "completed"),
    ]:
        source, destination = side(MIB), side(MIB, incoming=True)
        source.machine.uuid = None if mine is None else uuid.UUID(int=mine)
        destination.machine.uuid = None if theirs is None else uuid.UUID(int=theirs)
        source.service.capabilities.set({"validate-uuid": validate})
        source.service.migrate(destination.listen())
        assert destination.wait_incoming() == expected
        assert source.service.wait(30) == expected


def test_a_refused_connection_is_a_failure_with_its_reason(side: MakeSide) -> None:
    source = side(4 * MIB, LapWriter(64))
    source.machine.start()
    source.service.migrate("tcp:127.0.0.1:1")
    assert source.service.wait(30) == "failed"
    assert source.service.query() == {
        "status": "failed",
        "error-desc": "Failed to connect to '127.0.0.1:1': Connection refused",
    }
    assert source.machine.is_running()
    destination = side(incoming=True)
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"


def test_save_raises_when_it_fails(side: MakeSide, tmp_path: Path) -> None:
    source = side()

    def broken(w: Any) -> None:
        raise ValueError("no state today")

    source.machine.devices[1].save = broken  # type: ignore[method-assign]
    with pytest.raises(ChannelError, match="cannot save section 'timer': no state today"):
        source.service.save(str(tmp_path / "state"))
    assert source.machine.run_state == "prelaunch"
