"""A transport's part in the RAM section, notifiers of the status, blockers and -only-migratable."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2kemu import Machine
from e2kemu.errors import StateError, StreamError
from e2kemu.migration.channel import Channel
from e2kemu.migration.compat import MigrationSettings
from e2kemu.migration.hooks import MigrationEvent, RamPhase
from e2kemu.migration.ram import Flag
from e2kemu.migration.service import MigrationService
from e2kemu.migration.stream_reader import walk
from e2kemu.process import Emulator
from e2kemu.wire import Reader, Writer
from tests.migration.conftest import MakeSide
from tests.migration.toy import MIB, LapWriter


class Recorder:
    """Hooks of a transport that writes a HOOK record with a word of its own before each body's pages."""

    def __init__(self) -> None:
        self.sent: list[RamPhase] = []
        self.ended: list[RamPhase] = []
        self.received: list[int] = []
        self.blocks: list[str] = []

    def before_iterate(self, out: Writer, phase: RamPhase) -> None:
        self.sent.append(phase)
        out.be64(Flag.HOOK)
        out.be32(phase)

    def after_iterate(self, out: Writer, phase: RamPhase) -> None:
        self.ended.append(phase)

    def block_listed(self, idstr: str) -> None:
        self.blocks.append(idstr)

    def load(self, r: Reader, address: int) -> None:
        word = r.be32()
        if word not in list(RamPhase):
            raise StreamError(f"hook word {word}", offset=r.position)
        self.received.append(word)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """All channels are of a transport with these hooks."""
    made = Recorder()
    monkeypatch.setattr(Channel, "ram_hooks", made)
    return made


def test_hooks_are_called_around_every_body_and_their_records_arrive(recorder: Recorder, side: MakeSide) -> None:
    source, destination = side(MIB, LapWriter(16)), side(MIB, incoming=True)
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.wait_status("completed", "failed") == "completed", source.service.query()
    assert destination.wait_incoming() == "completed"
    assert recorder.sent[0] == RamPhase.SETUP
    assert recorder.sent[-1] == RamPhase.FINISH
    assert recorder.sent == recorder.ended
    assert recorder.received == recorder.sent
    assert recorder.blocks == ["toy.ram", "toy.rom"]
    assert bytes(source.machine.ram.mem) == bytes(destination.machine.ram.mem)


def test_a_hook_record_without_such_a_transport_is_refused_by_name(
    recorder: Recorder, side: MakeSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = side(MIB)
    path = tmp_path / "hooked"
    source.service.save(str(path))
    monkeypatch.setattr(Channel, "ram_hooks", None)
    destination = side(MIB, incoming=True)
    destination.service.start_incoming(f"file:{path}", exit_on_error=False)
    assert destination.wait_incoming() == "failed"
    assert "RAM record with flags 0x80 needs capability rdma, which is off" in destination.service.query()["error-desc"]


def test_the_walker_counts_hook_records_that_carry_nothing_more() -> None:
    stream = bytes.fromhex("5145564d 00000003 01 00000001 03") + b"ram" + bytes.fromhex("00000000 00000004")
    stream += (4096 | Flag.MEM_SIZE).to_bytes(8, "big") + b"\1r" + (4096).to_bytes(8, "big")
    stream += int(Flag.HOOK).to_bytes(8, "big") + int(Flag.EOS).to_bytes(8, "big") + b"\0"
    start = next(record for record in walk(stream) if record.kind == "START")
    assert start.ram is not None
    assert start.ram.counts["HOOK"] == 1


def test_notifiers_hear_of_every_status_with_the_reason_of_a_failure(side: MakeSide) -> None:
    source, destination = side(MIB), side(MIB, incoming=True)
    events: list[MigrationEvent] = []
    arrived: list[MigrationEvent] = []
    remove = source.service.add_notifier(events.append)
    destination.service.add_notifier(arrived.append)

    def broken(event: MigrationEvent) -> None:
        raise RuntimeError("a notifier with a fault")

    source.service.add_notifier(broken)
    source.service.migrate("tcp:127.0.0.1:1")
    assert source.wait_status("failed") == "failed"
    assert [event.status for event in events] == ["setup", "failed"]
    assert events[0].in_setup
    assert events[1].failed
    assert "refused" in (events[1].reason or "")
    events.clear()
    source.service.migrate(destination.listen())
    assert source.wait_status("completed", "failed") == "completed", "a notifier that fails costs nothing"
    assert destination.wait_incoming() == "completed"
    assert [event.status for event in events] == ["setup", "active", "device", "completed"]
    assert {event.direction for event in events} == {"outgoing"}
    assert events[-1].completed
    assert [event.active for event in events].count(True) == 1
    assert [(event.direction, event.status) for event in arrived] == [
        ("incoming", "setup"), ("incoming", "active"), ("incoming", "completed"),
    ]  # fmt: skip
    remove()
    remove()


def test_only_migratable_makes_a_blocker_an_error_at_once(side: MakeSide) -> None:
    machine = side(MIB).machine
    strict = MigrationService(machine, settings=MigrationSettings(only_migratable=True))
    with pytest.raises(StateError, match=r"disallowing migration blocker \(--only-migratable\) for: no reason"):
        strict.add_blocker("no reason")
    with pytest.raises(StateError, match="for: a lamp that is on"):
        MigrationService(machine, settings=strict.settings, device_blockers=lambda: ["a lamp that is on"])
    assert strict.blockers == []


def test_blockers_of_python_and_of_devices_are_told_to_whoever_migrates() -> None:
    with Machine.build(ram="32M") as machine:
        remove = machine.migration.add_blocker("a file is open")
        machine.devices[0].migration_blocker = "the ports hold a call"
        assert machine.migration.query()["blocked-reasons"] == ["the ports hold a call", "a file is open"]
        with pytest.raises(StateError, match="the ports hold a call"):
            machine.migration.migrate("tcp:127.0.0.1:1")
        machine.devices[0].migration_blocker = ""
        with pytest.raises(StateError, match="a file is open"):
            machine.migration.migrate("tcp:127.0.0.1:1")
        remove()
        assert "blocked-reasons" not in machine.migration.query()


def test_an_emulator_with_only_migratable_does_not_start_with_a_disk_that_cannot_travel(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    options = ("-m", "32M", "-S", "-drive", f"file={image},format=raw,snapshot=on")
    with Emulator("strict", tmp_path, *options, "-only-migratable") as emulator:
        assert emulator.process.wait(20) == 1
        assert emulator.stderr().count("\n") == 1
        assert "-only-migratable: disallowing migration blocker (--only-migratable) for: " in emulator.stderr()
    with Emulator("lenient", tmp_path, *options) as emulator:
        assert "Outgoing migration blocked:" in emulator.hmp("info migrate")
