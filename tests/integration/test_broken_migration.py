"""Whatever breaks on the way, the source keeps its guest, says why, and can migrate again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.guests import check_ticks
from tests.framework.proxy import CuttingProxy
from tests.framework.transports import COMMON, tcp

SMALL = ("-M", "elbrus", "-cpu", "e8c", "-m", "32M")
TICKS = ("-append", "workload=ticks")
LAST_WORD = 9
"""Bytes of the source's PING behind the vmdescription."""


def _destination(start: StartEmulator, name: str, *more: str) -> tuple[Emulator, int]:
    destination = start(name, *SMALL, "-incoming", "defer", *more)
    destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    return destination, int(destination.migration()["socket-address"][0]["port"])


def _expect_one_line_exit(destination: Emulator, pattern: str) -> None:
    assert destination.wait_exit() == 1
    lines = destination.stderr().strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(pattern, lines[0]), lines[0]


def _record(start: StartEmulator, source: Emulator) -> bytes:
    destination, port = _destination(start, "recorder", "-S")
    proxy = CuttingProxy(port)
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{proxy.port}")
    assert source.wait_migration()["status"] == "completed"
    proxy.done.wait(30)
    destination.close()
    _wake(source)
    return bytes(proxy.stream)


def _wake(source: Emulator) -> None:
    """Out of postmigrate: QEMU lets a source that has given its guest away migrate only after a ``cont``."""
    source.qmp("cont")
    source.qmp("stop")


def _boundaries(stream: bytes) -> list[int]:
    """Where each section of the stream begins and ends, and places inside the RAM sections."""
    from e2kemu.migration.stream_reader import walk

    places = {0, 4, 8}
    for record in list(walk(stream))[:-1]:  # at the last all is there but the source's word: test_every_message.py
        places.update((record.start, record.end))
    middle = [len(stream) // 3, len(stream) // 2]
    return sorted(place for place in places.union(middle) if place < len(stream) - LAST_WORD)


@pytest.mark.timeout(300)
def test_a_cut_at_every_section_boundary_leaves_the_source_whole(start: StartEmulator) -> None:
    source = start("source", *SMALL, *TICKS)
    source.wait_console("tick 2\n")
    source.qmp("stop")
    stream = _record(start, source)
    places = _boundaries(stream)
    assert len(places) > 10
    for number, place in enumerate(places):
        destination, port = _destination(start, f"cut{number}", "-S")
        proxy = CuttingProxy(port, cut_at=place, reset=bool(number % 2))
        source.qmp("migrate", uri=f"tcp:127.0.0.1:{proxy.port}")
        info = source.wait_migration()
        if info["status"] == "completed":
            pytest.fail(f"byte {place} of {len(stream)} was lost and the source calls it completed")
        assert info["status"] == "failed", (place, info)
        assert info["error-desc"], (place, info)
        assert source.status() in ("paused", "postmigrate")
        _expect_one_line_exit(destination, r"offset")
    source.qmp("cont")
    count = source.console().count("tick")
    source.wait_console("tick", count=count + 3)
    check_ticks(source.console())


def test_a_killed_destination_leaves_the_source_running_and_able_to_migrate(
    start: StartEmulator, tmp_path: Path
) -> None:
    source = start("source", *COMMON, "-append", "workload=pages start=16M end=64M rate=3000")
    source.wait_console("ok\nA")
    source.set_parameters(max_bandwidth=4 << 20)
    victim = start("victim", *COMMON, "-incoming", "defer")
    source.qmp("migrate", uri=tcp(source, victim, tmp_path))
    source.wait_migration("active")
    victim.process.kill()
    info = source.wait_migration("failed")
    assert info["error-desc"]
    assert source.status() == "running"
    again = start("again", *COMMON, "-incoming", "defer")
    source.set_parameters(max_bandwidth=1 << 30, downtime_limit=5000)
    source.qmp("migrate", uri=tcp(source, again, tmp_path))
    assert source.wait_migration()["status"] == "completed"
    again.wait_status("running")


def test_a_killed_source_ends_the_destination_with_one_line(start: StartEmulator, tmp_path: Path) -> None:
    source = start("source", *COMMON, "-append", "workload=pages start=16M end=64M rate=3000")
    source.wait_console("ok\nA")
    source.set_parameters(max_bandwidth=4 << 20)
    destination = start("destination", *COMMON, "-incoming", "defer")
    source.qmp("migrate", uri=tcp(source, destination, tmp_path))
    source.wait_migration("active")
    source.process.kill()
    _expect_one_line_exit(destination, r"offset 0x")
