"""Cut, stalled, damaged and killed at places all over the stream: afterwards exactly one guest runs, and it is whole.

The stream goes through a gate that stops at one byte of it; ``test_every_message.py`` stops at messages.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu.process import FINAL
from tests.conftest import StartEmulator
from tests.framework.chain import TICKS, VERIFY, Chain, one_line_for_each_failure
from tests.framework.gate import Gate

RECORD_HEADER = 5
"""Bytes in front of each TLS record; its last two are the length."""


class GatedChain(Chain):
    """A chain whose streams go through gates."""

    def attempt(self, stop_at: int | None) -> Gate:
        """Begin to migrate through a gate."""
        gate = Gate(self.listen(), stop_at)
        self.source.qmp("migrate", uri=gate.uri)
        if stop_at is not None:
            # A stream that is a few pages shorter than another may be over before.
            self.source.wait_for(
                self.source.migration,
                lambda info: gate.stopped.is_set() or info["status"] in FINAL,
                60,
                f"byte {stop_at}",
            )
        return gate

    def finish(self) -> None:
        """The guest migrates once more, and was one and the same all the time."""
        with self.attempt(None):
            assert self.source.wait_migration()["status"] == "completed"
            self.one_guest()
        self.check()


def _recorded(chain: GatedChain) -> bytes:
    """What a whole migration looks like on the wire."""
    with chain.attempt(None) as gate:
        assert chain.source.wait_migration()["status"] == "completed"
        chain.one_guest()
    return bytes(gate.stream)


def _tls_records(stream: bytes) -> list[int]:
    """Where each record begins."""
    starts, at = [], 0
    while at < len(stream):
        starts.append(at)
        at += RECORD_HEADER + int.from_bytes(stream[at + 3 : at + 5], "big")
    return starts


def _tls_places(stream: bytes, chance: random.Random) -> list[int]:
    """Of the handshake, of the setup, of RAM, of the devices and of the end."""
    records = _tls_records(stream)
    assert len(records) > 5
    handshake = [1, RECORD_HEADER, *records[1:5], records[1] // 2, records[3] + 9]
    memory = [len(stream) * part // 10 for part in (2, 5, 8)]
    devices = [len(stream) - back for back in (16_000, 12_000, 9_000, 5_000)]
    anywhere = [chance.randrange(1, len(stream) - 5_000) for _ in range(3)]
    return sorted({*handshake, *memory, *devices, *anywhere})


WAYS: tuple[Callable[[Gate], None], ...] = (Gate.cut, lambda gate: gate.cut(reset=True), Gate.flip)


def test_tls_cut_or_damaged_anywhere_leaves_one_guest(start: StartEmulator, pki: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chain = GatedChain(start, TICKS, pki)
    places = _tls_places(_recorded(chain), random.Random(seed))
    assert len(places) >= 12
    for number, place in enumerate(places):
        print("byte", place)
        with chain.attempt(place) as gate:
            WAYS[number % len(WAYS)](gate)
            chain.one_guest()
    assert chain.failures >= 12
    assert 0 < one_line_for_each_failure(chain.destination) <= chain.failures
    chain.finish()


def _keys(mode: str, pki: Path) -> Path | None:
    return pki if mode == "tls" else None


MODES = ("plain", "tls")
ANYWHERE = (3, 600, 30_000, 150_000, 400_000)
"""Of the stream of VERIFY: in the handshake or header, in the setup, in RAM."""


@pytest.mark.parametrize("mode", MODES)
def test_a_stalled_network_goes_on_is_cut_or_is_cancelled(mode: str, start: StartEmulator, pki: Path) -> None:
    chain = GatedChain(start, VERIFY, _keys(mode, pki))
    for place in ANYWHERE:
        with chain.attempt(place) as gate:
            chain.source.qmp("migrate_cancel")
            # Nothing passes yet: neither end may need the other to get out of it.
            assert chain.source.wait_migration()["status"] == "cancelled"
            chain.source.wait_status("running")
            chain.beats()
            chain.no_guest_there()
            gate.cut()
            chain.one_guest()
    for place in ANYWHERE[1:4:2]:
        with chain.attempt(place) as gate:
            assert not gate.stream[place:]
            chain.no_guest_there()
            gate.cut(reset=True)
            chain.one_guest()
    assert chain.failures == len(ANYWHERE) + 2
    for place in ANYWHERE[1::2]:
        with chain.attempt(place) as gate:
            for _ in range(10):
                chain.source.migration()
                chain.no_guest_there()
            gate.go_on()
            assert chain.source.wait_migration()["status"] == "completed"
            chain.one_guest()
    chain.finish()


@pytest.mark.parametrize("mode", MODES)
def test_a_destination_killed_anywhere_leaves_the_guest_at_the_source(
    mode: str, start: StartEmulator, pki: Path
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    chain = GatedChain(start, VERIFY, _keys(mode, pki))
    for place in (chance.randrange(2_000), chance.randrange(2_000, 500_000)):
        with chain.attempt(place) as gate:
            chain.destination.process.kill()
            gate.go_on()
            info = chain.source.wait_migration()
            assert info["status"] == "failed", (place, info)
            assert "\n" not in info["error-desc"]
            chain.source.wait_status("running")
            chain.beats()
            chain.lose_destination()
    chain.finish()


@pytest.mark.parametrize("mode", MODES)
def test_a_source_killed_anywhere_leaves_no_half_guest(mode: str, start: StartEmulator, pki: Path) -> None:
    """The destination has the guest, stopped, if all of it was on its way already; else it has none, and is there for
    another."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    chain = GatedChain(start, VERIFY, _keys(mode, pki))
    for place in (chance.randrange(2_000), chance.randrange(2_000, 500_000)):
        print("byte", place)
        with chain.attempt(place) as gate:
            chain.source.process.kill()
            chain.source.process.wait()
            gate.go_on()
            arrived = chain.destination.wait_migration()["status"] == "completed"
            if chain.destination.status() == "paused":
                chain.destination.qmp("cont")
                arrived = True
            elif not arrived:
                assert chain.destination.migration()["status"] == "failed"
                chain.no_guest_there()
        if arrived:
            chain.hand_over()
            chain.source.wait_status("running")
        else:
            assert one_line_for_each_failure(chain.destination)
            chain.lose_guest()
        chain.beats()
    chain.finish()


@pytest.mark.parametrize("side", ["source", "destination"])
def test_killed_in_postcopy_the_other_half_waits_and_never_runs_what_it_has_given_away(
    side: str, start: StartEmulator, pki: Path
) -> None:
    """No architecture saves a guest of which half is gone: but nobody pretends to have it whole."""
    chain = GatedChain(start, VERIFY, pki)
    for emulator in (chain.source, chain.destination):
        emulator.set_capability("postcopy-ram")
    chain.source.set_parameters(max_bandwidth=4 << 20, downtime_limit=1, max_postcopy_bandwidth=1 << 20)
    with chain.attempt(None):
        chain.source.wait_migration("active")
        chain.source.qmp("migrate-start-postcopy")
        chain.source.wait_migration("postcopy-active")
        chain.destination.wait_migration("postcopy-active")
        victim, other = chain.source, chain.destination
        if side == "destination":
            victim, other = other, victim
        victim.process.kill()
        victim.process.wait()
        assert "\n" not in other.wait_migration("postcopy-paused")["error-desc"]
    assert "FAULT" not in chain.destination.console()
    if other is chain.source:
        assert other.status() == "finish-migrate"
        assert other.migration()["status"] == "postcopy-paused"
    assert other.process.poll() is None
