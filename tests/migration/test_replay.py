"""Recorded streams of real QEMUs, replayed as a live peer: their bytes come over a socket into ``-incoming tcp:``.

They are accepted up to the place where the machines differ, and refused there with one clear line.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu.errors import StreamError
from e2kemu.memory.ram import RAMBlock
from e2kemu.migration.compat import StreamFormat, migration_settings
from e2kemu.migration.service import MigrationService
from e2kemu.migration.stream_reader import walk
from e2kemu.process import Emulator
from tests.migration.conftest import Samples
from tests.migration.toy import ToyDevice, ToyMachine

OLD = {"v72-machine-2.3": False, "v72-machine-2.2": True}
"""Streams without configuration and footers; whether there is no vmdescription either."""


def replay(port: int, data: bytes) -> bytes:
    """Send ``data`` as a source would; returns what the destination answered before it hung up."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.settimeout(20)
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has seen enough
        try:
            while part := peer.recv(4096):
                answer += part
        except ConnectionResetError:
            pass  # it hung up with bytes unread
    return bytes(answer)


def refused(directory: Path, name: str, data: bytes, *options: str) -> tuple[str, bytes]:
    """What an emulator says to ``data``: its one line and its answer to the peer. It must end with status 1."""
    with Emulator(name, directory, "-m", "32M", *options, "-incoming", "tcp:127.0.0.1:0") as emulator:
        answer = replay(int(emulator.migration()["socket-address"][0]["port"]), data)
        assert emulator.process.wait(20) == 1
        lines = emulator.stderr().splitlines()
    assert len(lines) == 1, lines
    return lines[0], answer


def test_a_stream_of_another_machine_is_refused_at_its_configuration(samples: Samples, tmp_path: Path) -> None:
    line, answer = refused(tmp_path, "modern", samples.stream("v11-plain-live"))
    assert "Machine type received is 'pc-i440fx-11.1' and local is 'elbrus-2.0'" in line
    assert answer == b""
    line, _ = refused(tmp_path, "old", samples.stream("v72-machine-2.3"))
    assert "Configuration section missing" in line


def test_a_live_source_is_answered_up_to_the_ram_that_is_not_ours(samples: Samples, tmp_path: Path) -> None:
    """With our machine's name in it, a recorded connection gets its PONG, and then our refusal."""
    recorded = samples.files["tee-v11-return-path.fwd"]
    length = int.from_bytes(recorded[9:13], "big")
    ours = recorded[:9] + (10).to_bytes(4, "big") + b"elbrus-2.0" + recorded[13 + length :]
    line, answer = refused(tmp_path, "named", ours)
    assert 'Unknown ramblock "pc.ram", cannot accept migration' in line
    theirs = samples.files["tee-v11-return-path.rev"]
    assert answer == theirs[:8] + bytes.fromhex("0001 0004 00000001"), "PONG 1 as QEMU sends it, then SHUT 1"


@pytest.mark.parametrize("name", OLD)
def test_the_compatibility_machine_takes_streams_without_configuration_up_to_the_ram(
    name: str, samples: Samples, tmp_path: Path
) -> None:
    line, _ = refused(tmp_path, name, samples.stream(name), "-M", "elbrus-0.1")
    assert 'Unknown ramblock "pc.ram", cannot accept migration in section \'ram\'' in line


class Twin(ToyMachine):
    """A machine with the RAM of the one that wrote a stream, but other devices."""

    def __init__(self, name: str, blocks: dict[str, int]) -> None:
        super().__init__(machine_type=name, incoming=True)
        self.ram_blocks = [RAMBlock(block, size) for block, size in blocks.items()]
        self.devices = [ToyDevice("a device that no PC has")]


def stream_settings(name: str) -> dict[str, str]:
    if name not in OLD:
        return {}
    return dict.fromkeys(("send-configuration", "send-section-footer", "store-global-state"), "off")


def test_all_ram_of_every_recorded_stream_arrives_and_the_first_foreign_device_is_named(samples: Samples) -> None:
    streams = {name: samples.stream(name) for name in samples.names()}
    streams |= {name: data for name, data in samples.files.items() if name.endswith(".fwd") and data}
    beyond_us = {"v11-ignore-shared", "v11-mapped-ram"}  # both ends must agree on those, and the stream says so
    arrived = 0
    for name, data in streams.items():
        start = 0x1000 if name == "v11-file-offset" else 0
        memory: dict[str, bytearray] = {}
        machine_type, device, blocks = "", "", {}
        try:
            for record in walk(data, start, memory=None if name in beyond_us else memory):
                if record.kind == "CONFIGURATION":
                    machine_type = record.values["machine"]
                elif record.kind == "START" and record.ram is not None:
                    blocks = record.ram.blocks
                elif record.kind == "FULL":
                    device = record.name
                    break
                if name in beyond_us and machine_type:
                    break
        except StreamError as problem:  # v72-machine-2.2 does not say how long its devices are
            device = problem.section
        # what is refused at its beginning is not sent to its end: nobody would read it
        end = start + 4096 if name in beyond_us else len(data)
        error, machine = received(name, data[start:end], machine_type, blocks)
        if name in beyond_us:
            assert "is off, but received capability is on" in error, name
            continue
        assert f"Unknown savevm section or instance '{device}' 0" in error, (name, error)
        for block in machine.ram_blocks:
            assert bytes(block.mem) == bytes(memory[block.idstr]), (name, block.idstr)
        arrived += 1
    assert arrived >= 15


def received(name: str, data: bytes, machine_type: str, blocks: dict[str, int]) -> tuple[str, Twin]:
    """Replay ``data`` into a twin; the error that ended it."""
    machine = Twin(machine_type, blocks)
    settings = migration_settings(stream_settings(name), suppress_vmdesc=OLD.get(name, False))
    service = MigrationService(machine, settings=settings)
    try:
        service.capabilities.set({"postcopy-ram": True})
        service.start_incoming("tcp:127.0.0.1:0", exit_on_error=False)
        replay(int(service.query()["socket-address"][0]["port"]), data)
        assert service.incoming_state.wait_until(lambda now: now in ("completed", "failed"), 30)
        assert service.incoming_state.status == "failed"
        return service.query()["error-desc"], machine
    finally:
        service.close()
        machine.close()


def test_streams_of_old_machines_have_the_format_that_the_switches_say() -> None:
    old: Callable[[bool], StreamFormat] = lambda suppress: migration_settings(  # noqa: E731
        stream_settings("v72-machine-2.3"), suppress_vmdesc=suppress
    ).format
    assert old(False) == StreamFormat(False, False, False)
    assert old(True).suppress_vmdesc
