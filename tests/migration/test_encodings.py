"""Migrations with XBZRLE, compression threads and auto-converge, between two machines: memory is whole, figures are
true, nothing of it is left behind."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from e2kemu.migration.stream_reader import walk
from tests.migration.conftest import MakeSide, Peer, Side
from tests.migration.toy import MIB, PAGE, LapWriter, ToyMachine, laps_are_whole

RAM = 8 * MIB


def fill(machine: ToyMachine, values: int = 256) -> None:
    """Contents of which zlib makes little (256 values) or half (4)."""
    machine.ram.view[:] = np.random.default_rng(7).integers(0, values, machine.ram.size, dtype=np.uint8)
    machine.ram.view.reshape(-1, PAGE)[:, 0] = 0


def threads(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def gone(prefix: str) -> bool:
    """No such thread is left, soon."""
    deadline = time.monotonic() + 10
    while threads(prefix) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not threads(prefix)


def migrate(source: Side, destination: Side) -> dict[str, Any]:
    """Migrate to the end; returns query-migrate."""
    source.service.migrate(destination.listen())
    assert source.service.wait(60) == "completed", source.service.query()
    assert destination.wait_incoming() == "completed", destination.service.query()
    assert (source.machine.ram.view == destination.machine.ram.view).all()
    return source.service.query()


def laps(per_turn: int, pages: int, pause: float = 0.0) -> Any:
    """A guest that increments a byte of each page, a rest of ``pause`` seconds between its turns."""
    writer = LapWriter(pages, per_turn)

    def guest(machine: ToyMachine) -> None:
        writer(machine)
        end = time.monotonic() + pause
        while time.monotonic() < end:
            time.sleep(0)

    return guest


# -- XBZRLE


@pytest.mark.parametrize("cache", [16 * MIB, MIB])
def test_a_guest_that_rewrites_a_byte_a_page_converges_with_xbzrle_only(side: MakeSide, cache: int) -> None:
    pages = 1024
    source = side(RAM, laps(64, pages, 0.002))  # some 100 MiB/s of dirty pages, far more than the link
    destination = side(RAM, incoming=True)
    fill(source.machine)
    source.machine.start()
    source.service.parameters.set({"max-bandwidth": 16 * MIB, "downtime-limit": 10, "xbzrle-cache-size": cache})
    target = destination.listen()
    source.service.migrate(target)
    source.wait_status("active")
    assert not source.service.outgoing_state.wait_until(lambda now: now == "completed", 2)
    source.service.cancel()
    source.wait_status("cancelled")
    assert "xbzrle-cache" not in source.service.query()
    source.service.capabilities.set({"xbzrle": True})
    again = side(RAM, incoming=True)
    if cache < pages * PAGE:  # too small a cache does not help, and one that grows meanwhile does
        source.service.migrate(again.listen())
        source.wait_status("active")
        assert not source.service.outgoing_state.wait_until(lambda now: now == "completed", 2)
        assert source.service.query()["xbzrle-cache"]["cache-miss"] > 0
        source.service.parameters.set({"xbzrle-cache-size": 16 * MIB})
        assert source.service.wait(60) == "completed", source.service.query()
        assert again.wait_incoming() == "completed"
        info = source.service.query()
    else:
        info = migrate(source, again)
    assert (source.machine.ram.view == again.machine.ram.view).all()
    again.machine.stop()
    assert laps_are_whole(again.machine, pages)
    figures = info["xbzrle-cache"]
    assert figures["cache-size"] == 16 * MIB
    assert figures["pages"] >= pages
    assert figures["encoding-rate"] > 100
    assert 0 <= figures["cache-miss-rate"] <= 1
    assert figures["overflow"] == 0
    assert figures["bytes"] < figures["pages"] * 20


@pytest.mark.parametrize("capability", ["xbzrle", "compress"])
def test_the_figures_are_those_of_the_stream(side: MakeSide, capability: str) -> None:
    rewrite = np.random.default_rng(3)

    def guest(machine: ToyMachine) -> None:  # some pages change a little, some wholly
        page = int(rewrite.integers(0, 512))
        size = PAGE if page % 4 == 0 else 8
        machine.ram.write(page * PAGE, rewrite.integers(0, 256, size, dtype=np.uint8).tobytes())

    source = side(RAM, guest)
    fill(source.machine, 4)
    source.service.capabilities.set({capability: True})
    source.service.parameters.set({"max-bandwidth": 24 * MIB, "downtime-limit": 1, "xbzrle-cache-size": 4 * MIB})
    source.machine.start()
    peer = Peer(1 << 30)
    source.service.migrate(peer.uri)
    time.sleep(1.2)
    source.service.parameters.set({"max-bandwidth": 0, "downtime-limit": 2000})
    assert source.service.wait(60) == "completed", source.service.query()
    peer.join()
    info = source.service.query()
    # The independent walker of streams counts for itself, and decodes.
    memory: dict[str, bytearray] = {}
    bodies = [
        record.ram
        for record in walk(bytes(peer.received), memory=memory, details=True)
        if record.ram is not None
    ]
    assert bytes(memory["toy.ram"]) == source.machine.ram.view.tobytes()
    counts = sum((body.counts for body in bodies), Counter())
    payload: Counter[str] = Counter()
    for body in bodies:
        for record in body.records:
            payload[record.kind] += record.payload
    assert counts["PAGE"] == info["ram"]["normal"]
    assert counts["ZERO"] == info["ram"]["duplicate"]
    assert len(peer.received) == info["ram"]["transferred"]
    if capability == "compress":
        figures = info["compression"]
        assert figures["pages"] == counts["COMPRESS_PAGE"] > 1000
        # the first record of a block has its name in it
        assert 0 <= payload["COMPRESS_PAGE"] - figures["compressed-size"] <= 8 * 8
    else:
        figures = info["xbzrle-cache"]
        assert counts["XBZRLE"] > 0
        assert figures["overflow"] > 0
        assert figures["pages"] >= counts["XBZRLE"] + figures["overflow"]
        assert 0 <= payload["XBZRLE"] + figures["overflow"] * PAGE - figures["bytes"] <= 8 * 8
        assert figures["cache-miss"] > 0


def test_nobody_asked_for_a_cache_size_so_it_is_a_small_part_of_the_guest(side: MakeSide) -> None:
    source, destination = side(RAM, laps(16, 64)), side(RAM, incoming=True)
    fill(source.machine)
    source.service.capabilities.set({"xbzrle": True})
    source.machine.start()
    assert migrate(source, destination)["xbzrle-cache"]["cache-size"] == RAM // 64


# -- compression


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("workers", [1, 4])
def test_compressed_pages_arrive_and_are_counted(side: MakeSide, wait: bool, workers: int) -> None:
    source, destination = side(RAM, laps(4, 256)), side(RAM, incoming=True)
    fill(source.machine, 4)
    source.machine.ram.view[RAM // 2 : RAM // 2 + 64 * PAGE] = 0
    source.service.capabilities.set({"compress": True})
    source.service.parameters.set(
        {"compress-threads": workers, "compress-wait-thread": wait, "compress-level": 1, "max-bandwidth": 0}
    )
    destination.service.parameters.set({"decompress-threads": workers})
    source.machine.start()
    info = migrate(source, destination)
    figures = info["compression"]
    assert figures["pages"] + figures["busy"] >= RAM // PAGE - 64
    assert (figures["busy"] == 0) or not wait
    assert 2 < figures["compression-rate"] < 5
    assert figures["compressed-size"] < figures["pages"] * PAGE / 2
    assert 0 <= figures["busy-rate"] < 1
    assert info["ram"]["normal"] == figures["busy"]
    assert gone("compress")
    assert gone("decompress")


def test_pages_that_do_not_shrink_go_whole(side: MakeSide) -> None:
    source, destination = side(RAM), side(RAM, incoming=True)
    fill(source.machine)
    source.service.capabilities.set({"compress": True})
    source.service.parameters.set({"max-bandwidth": 0})
    info = migrate(source, destination)
    assert info["compression"]["pages"] < 16  # those of the ROM may shrink
    assert info["ram"]["normal"] == RAM // PAGE


def test_compression_in_the_first_round_and_xbzrle_afterwards(side: MakeSide) -> None:
    source, destination = side(RAM, laps(64, 1024, 0.002)), side(RAM, incoming=True)
    fill(source.machine, 4)
    source.service.capabilities.set({"compress": True, "xbzrle": True})
    source.service.parameters.set({"max-bandwidth": 16 * MIB, "downtime-limit": 5, "xbzrle-cache-size": 4 * MIB})
    source.machine.start()
    info = migrate(source, destination)
    assert info["compression"]["pages"] > 0
    assert info["xbzrle-cache"]["pages"] > 0


# -- auto-converge


def throttled(side: MakeSide, **parameters: object) -> Side:
    """A guest that writes twice as fast as the link lets through, with auto-converge."""
    source = side(RAM, laps(8, 1024, 0.001))
    fill(source.machine)
    source.service.capabilities.set({"auto-converge": True})
    source.service.parameters.set({"max-bandwidth": 8 * MIB, "downtime-limit": 20, **parameters})
    source.machine.start()
    return source


def test_auto_converge(side: MakeSide) -> None:
    source = throttled(side, **{"cpu-throttle-initial": 30, "cpu-throttle-increment": 60, "max-cpu-throttle": 95})
    destination = side(RAM, incoming=True)
    source.service.capabilities.set({"pause-before-switchover": True})
    source.service.migrate(destination.listen())
    seen: list[int] = []
    deadline = time.monotonic() + 60
    while source.status() in ("setup", "active") and time.monotonic() < deadline:
        percent = source.service.query().get("cpu-throttle-percentage", 0)
        if percent not in (seen or [0])[-1:]:
            seen.append(percent)
        time.sleep(0.005)
    source.wait_status("pre-switchover")
    steps = list(source.machine.throttles)
    assert steps in ([30], [30, 90], [30, 90, 95])
    assert seen == steps[: len(seen)]
    assert seen
    info = source.service.query()
    assert info["cpu-throttle-percentage"] == steps[-1]
    source.service.proceed("pre-switchover")
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"
    assert "cpu-throttle-percentage" not in source.service.query()
    assert source.machine.throttles == [*steps, 0]
    assert destination.machine.throttles == []
    destination.machine.stop()
    assert laps_are_whole(destination.machine, 1024)


@pytest.mark.parametrize("how", ["cancel", "failure"])
def test_a_migration_that_ends_early_leaves_no_throttle(side: MakeSide, how: str) -> None:
    source = throttled(side, **{"cpu-throttle-initial": 5, "cpu-throttle-increment": 1})
    destination = side(RAM, incoming=True)
    source.service.migrate(destination.listen())
    deadline = time.monotonic() + 60
    while not source.machine.throttle and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.machine.throttles == [5]
    if how == "cancel":
        source.service.cancel()
        source.wait_status("cancelled")
    else:
        destination.service.close()
        source.wait_status("failed")
    assert source.machine.throttles[-1] == 0
    assert "cpu-throttle-percentage" not in source.service.query()
    assert source.machine.is_running()


@pytest.mark.parametrize("capability", ["xbzrle", "compress", "auto-converge"])
def test_cancelling_again_and_again_leaves_no_threads(side: MakeSide, capability: str) -> None:
    source = side(RAM, laps(16, 512))
    fill(source.machine, 4)
    source.service.capabilities.set({capability: True})
    source.service.parameters.set({"max-bandwidth": 8 * MIB, "downtime-limit": 1})
    source.machine.start()
    for _ in range(5):
        peer = Peer(1 << 20)
        source.service.migrate(peer.uri)
        source.wait_status("active", "failed")
        source.service.cancel()
        source.wait_status("cancelled", "failed")
        peer.join()
    assert gone("compress")
    assert gone("migration out")
    assert source.machine.is_running()
