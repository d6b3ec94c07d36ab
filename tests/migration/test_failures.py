"""Whatever goes wrong, wherever in the stream: the source keeps its guest, says why, can migrate again."""

from __future__ import annotations

import gc
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from e2kemu.migration.stream_reader import walk
from tests.migration.conftest import MakeSide, Peer, Side, paused_source
from tests.migration.damage import damage, load_error
from tests.migration.toy import PAGE, LapWriter, ToyMachine


def boundaries(stream: bytes) -> list[int]:
    """Every place where an element begins or ends, and some within RAM."""
    places = {0, 1, 4, 8}
    for record in walk(stream):
        places |= {record.start, record.end}
        if record.name == "ram":
            places |= {record.start + 13, (record.start + record.end) // 2, record.end - 3}
    return sorted(place for place in places if place < len(stream))


PONG = b"\0\2\0\4\0\0\0\1"


@pytest.mark.parametrize("answers", [False, True])
def test_a_peer_lost_at_any_boundary_fails_the_migration_and_not_the_guest(
    side: MakeSide, recorded: bytes, answers: bool
) -> None:
    source, stream = paused_source(side), recorded
    places = boundaries(stream)
    assert len(places) > 20
    for number, place in enumerate(places):
        peer = Peer(place, answer=PONG if answers else b"", reset=bool(number % 2))
        source.service.migrate(peer.uri)
        assert source.service.wait(30) == "failed", (place, len(stream))
        assert source.service.query()["error-desc"], place
        assert source.machine.run_state == "paused", place
        peer.join()
    destination = side(16 * PAGE, incoming=True)
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"
    assert (source.machine.ram.view == destination.machine.ram.view).all()


def test_a_running_guest_runs_on_after_each_failure(side: MakeSide) -> None:
    source = side(64 * PAGE, LapWriter(32, 1))
    source.machine.ram.view[:] = 1
    source.machine.start()
    for place in (0, 60, 5000, 200000, 250000):
        peer = Peer(place, reset=True)
        source.service.migrate(peer.uri)
        assert source.service.wait(30) == "failed"
        assert source.machine.is_running()
        turns = source.machine._guest.turns  # type: ignore[union-attr]
        assert source.machine.statuses()[-1] == "failed"
        peer.join()
        while source.machine._guest.turns == turns:  # type: ignore[union-attr]
            pass  # the test's time limit says when it stands


def test_a_stream_cut_anywhere_ends_the_destination_with_place_and_status(
    side: MakeSide, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = recorded
    places = boundaries(stream)
    for place in places[:-1]:  # at the last all is there but the source's word: see test_held.py
        destination = side(16 * PAGE, incoming=True)
        target = destination.listen()
        host, port = target.removeprefix("tcp:").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(stream[:place])
        assert destination.wait_incoming() == "failed", place
        destination.service._incoming.join(10)  # type: ignore[union-attr]
        assert destination.machine.loop.status == 1
        assert destination.machine.run_state == "inmigrate"
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("e2kemu: load of migration failed: ")
        assert "at offset 0x" in lines[0], lines


def test_a_reset_connection_is_told_with_section_and_offset(
    side: MakeSide, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    part = next(record for record in walk(recorded) if record.kind == "PART")
    destination = side(16 * PAGE, incoming=True)
    host, port = destination.listen().removeprefix("tcp:").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(recorded[: part.start + 100])
        connection.recv(1)  # part of PONG: the rest unread makes the close a reset, now that it reads RAM
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert destination.wait_incoming() == "failed"
    destination.service._incoming.join(10)  # type: ignore[union-attr]
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 1
    assert "reset by peer in section 'ram' at offset 0x" in text


def test_the_section_in_flight_is_named(recorded: bytes) -> None:
    stream = recorded
    named = 0
    for record in walk(stream):
        if record.kind in ("PART", "END", "START", "FULL"):
            error = load_error(stream[: record.end - 7])
            assert error is not None
            assert error.section == record.name, str(error)
            assert f"'{record.name}'" in str(error)
            named += 1
    assert named >= 7


def test_a_destination_that_fails_stays_when_it_was_told_to(side: MakeSide) -> None:
    source, destination = side(16 * PAGE), side(16 * PAGE, incoming=True)
    source.machine.machine_type = "toy-0.9"
    source.service.capabilities.set({"return-path": True})
    source.service.migrate(destination.listen(exit_on_error=False))
    assert source.service.wait(30) == "failed"
    assert source.service.query()["error-desc"]
    assert destination.wait_incoming() == "failed"
    assert "Machine type received is 'toy-0.9'" in destination.service.query()["error-desc"]
    assert destination.machine.loop.status is None
    source.machine.machine_type = "toy-1.0"
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"


def test_the_destinations_verdict_reaches_the_source(side: MakeSide) -> None:
    source, destination = side(16 * PAGE), side(16 * PAGE, incoming=True)
    source.machine.devices[1].tag = b"zzzz"  # the loader of the device refuses it
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "failed"
    assert source.service.query()["error-desc"] == "RP: Sibling indicated error 1"
    assert destination.wait_incoming() == "failed"
    assert "error while loading state for instance 0x0 of device 'timer'" in destination.service.query()["error-desc"]
    assert source.machine.run_state == "prelaunch"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"\0\1\0\4\0\0\0\5", "RP: Sibling indicated error 5"),
        (b"\0\1\0\2\0\0", "return path: SHUT of 2 bytes instead of 4"),
        (b"\xff\xff\xff\xff", "return path: unexpected message 0xffff of 65535 bytes"),
        (b"\0\3\0\4abcd", "return path: unexpected message 0x3 of 4 bytes"),
    ],
)
def test_a_destination_that_answers_nonsense_is_told_apart(side: MakeSide, answer: bytes, message: str) -> None:
    source = side(16 * PAGE, LapWriter(16, 1))
    source.machine.start()
    source.service.migrate(Peer(1 << 30, answer=PONG + answer).uri)
    assert source.service.wait(30) == "failed"
    assert source.service.query()["error-desc"].startswith(message)
    assert source.machine.is_running()


def test_random_answers_never_cost_the_source_its_guest(side: MakeSide) -> None:
    chance = random.Random(7)
    source = side(16 * PAGE)
    source.machine.run_state = "paused"
    for number in range(60):
        answer = PONG + chance.randbytes(chance.randint(1, 40))
        if chance.random() < 0.5:
            answer = PONG * 3 + b"\0" + bytes([chance.randrange(8)]) + chance.randbytes(chance.randint(1, 9))
        if b"\0\1\0\4\0\0\0\0" in answer:
            continue  # by chance the right answer
        peer = Peer(chance.choice([0, 100, 300]), answer=answer, reset=bool(number % 2))
        source.service.migrate(peer.uri)
        assert source.service.wait(30) == "failed", answer
        assert source.machine.run_state == "paused"
        assert "\n" not in source.service.query()["error-desc"]
        peer.join()


def test_failed_and_cancelled_migrations_leave_nothing_behind(side: MakeSide) -> None:
    source = side(16 * PAGE)
    source.machine.run_state = "paused"

    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = left()
    for number in range(40):
        peer = Peer(number * 50)
        source.service.migrate(peer.uri)
        if number % 2:
            source.service.cancel()
        assert source.service.wait(30) in ("failed", "cancelled")
        peer.join()
    for _ in range(20):
        there = side(16 * PAGE, incoming=True)
        source.service.migrate(there.listen())
        assert source.service.wait(30) == "completed"
        assert there.wait_incoming() == "completed"
        there.service._incoming.join(10)  # type: ignore[union-attr]
        there.machine.close()
        source.machine.run_state = "paused"
        del there
    gc.collect()
    after = left()
    # a little more for what the test runner itself may have opened
    assert after[0] <= before[0] + 3, (before, after)
    assert after[1] <= before[1] + 1, (before, after)


# -- cancel ----------------------------------------------------------------------------------------


def test_cancel_before_anything_does_nothing(side: MakeSide) -> None:
    source = side()
    source.service.cancel()
    assert source.service.query() == {}


def _silent_server() -> socket.socket:
    """Accepts nobody, yet connections succeed."""
    return socket.create_server(("127.0.0.1", 0))


def test_cancel_while_active_leaves_the_guest_running_and_may_be_repeated(side: MakeSide) -> None:
    source = side(64 * PAGE, LapWriter(64, 1))
    source.machine.start()
    source.service.parameters.set({"max-bandwidth": 1000})
    destination = side(64 * PAGE, incoming=True)
    source.service.migrate(destination.listen())
    source.wait_status("active")
    source.service.cancel()
    source.service.cancel()
    assert source.service.wait(30) == "cancelled"
    source.service.cancel()
    assert source.service.query() == {"status": "cancelled"}
    assert source.machine.is_running()
    assert source.machine.statuses() == ["setup", "active", "cancelling", "cancelled"]
    assert destination.wait_incoming() == "failed"
    source.service.parameters.set({"max-bandwidth": 0})
    again = side(64 * PAGE, incoming=True)
    source.service.migrate(again.listen())
    assert source.service.wait(30) == "completed"


def test_cancel_wakes_a_source_that_is_stuck_in_a_write(side: MakeSide) -> None:
    source = side(32 << 20)
    source.machine.ram.view[:] = 1
    with _silent_server() as server:
        source.service.parameters.set({"max-bandwidth": 0})
        source.service.migrate(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        source.wait_status("active", "device")
        source.service.cancel()
        assert source.service.wait(30) == "cancelled"
    assert source.machine.run_state == "prelaunch"


def test_cancel_wakes_a_source_that_waits_for_the_verdict(side: MakeSide) -> None:
    source = side(PAGE)
    source.service.capabilities.set({"return-path": True})
    with _silent_server() as server:
        source.service.migrate(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        source.wait_status("device")
        source.service.cancel()
        assert source.service.wait(30) == "cancelled"
    assert source.machine.run_state == "prelaunch"


def test_cancel_in_pre_switchover_resumes_the_guest(side: MakeSide) -> None:
    source, destination = side(64 * PAGE, LapWriter(64)), side(64 * PAGE, incoming=True)
    source.service.capabilities.set({"pause-before-switchover": True})
    source.machine.start()
    source.service.migrate(destination.listen())
    source.wait_status("pre-switchover")
    source.service.cancel()
    assert source.service.wait(30) == "cancelled"
    assert source.machine.is_running()


def test_cancel_after_the_end_changes_nothing(side: MakeSide) -> None:
    source, destination = side(), side(incoming=True)
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    source.service.cancel()
    assert source.status() == "completed"
    failed = side()
    failed.service.migrate("tcp:127.0.0.1:1")
    assert failed.service.wait(30) == "failed"
    failed.service.cancel()
    assert failed.status() == "failed"
    assert failed.service.query()["error-desc"]


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_damaged_stream_is_refused_with_one_line_or_loaded(recorded: bytes, seed: int) -> None:
    chance = random.Random(seed)
    machine = ToyMachine(16 * PAGE, incoming=True)
    stream = recorded
    assert load_error(stream, machine) is None
    interesting = boundaries(stream)
    refused = 0
    for number in range(1000):
        error = load_error(damage(stream, chance, interesting), machine)
        refused += error is not None
        if error is not None:
            assert "\n" not in str(error), (seed, number)
            assert error.offset is not None, (seed, number, str(error))
    machine.close()
    print("seed", seed, "refused", refused)
    assert refused > 300


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ((0, b"QEVN"), "Not a migration stream: the magic is 0x5145564e at offset 0x0"),
        ((7, b"\2"), "SaveVM v2 format is obsolete"),
        ((7, b"\7"), "Unsupported migration stream version 7"),
        ((8, b"\1"), "Configuration section missing"),
        ((13, b"tox"), "Machine type received is 'tox-1.0' and local is 'toy-1.0'"),
    ],
)
def test_a_wrong_header_is_named(recorded: bytes, patch: tuple[int, bytes], message: str) -> None:
    stream = recorded
    at, data = patch
    error = load_error(stream[:at] + data + stream[at + len(data) :])
    assert message in str(error)


def test_ram_that_does_not_fit_is_named(recorded: bytes) -> None:
    stream = recorded
    start = stream.index(b"\x07toy.ram")
    size = start + 8
    page = stream.index(b"\x07toy.ram", size) - 8

    def changed(at: int, data: bytes) -> str:
        return str(load_error(stream[:at] + data + stream[at + len(data) :]))

    assert 'Unknown ramblock "tay.ram"' in changed(start + 1, b"tay")
    assert "Size mismatch: toy.ram: 0xf000 != 0x10000" in changed(size, (15 * PAGE).to_bytes(8, "big"))
    assert "Illegal RAM offset 0x10000 in block toy.ram" in changed(page + 5, b"\x01\x00")
    assert "Can't find block tay.ram" in changed(page + 9, b"tay")
    assert "CONTINUE without a block before it" in changed(page + 7, b"\x28")
    assert "Unknown combination of migration flags: 0x0" in changed(page + 7, b"\x00")
    assert "Failed to load XBZRLE page - wrong compression" in changed(page + 7, b"\x40")
    continued = page + 8 + 8 + 1  # zero pages come first
    assert stream[continued + 7] == 0x22 or stream[continued + 7] == 0x28
    assert "Illegal RAM offset" in changed(continued + 4, b"\x7f")


def test_sections_that_do_not_fit_are_named(recorded: bytes) -> None:
    stream = recorded
    records = {(r.name, r.instance_id): r for r in walk(stream) if r.kind == "FULL"}
    toy = records["toy", 1]

    def changed(at: int, data: bytes) -> str:
        return str(load_error(stream[:at] + data + stream[at + len(data) :]))

    assert "Unknown savevm section or instance 'tax' 1. Make sure that" in changed(toy.start + 6, b"tax")
    assert "Unknown savevm section or instance 'toy' 9" in changed(toy.start + 9, b"\0\0\0\x09")
    assert "savevm: unsupported version 3 for 'toy' v2" in changed(toy.start + 13, b"\0\0\0\x03")
    assert "Missing section footer for toy in section 'toy'" in changed(toy.end - 5, b"\x7d")
    assert "Mismatched section id in footer for toy" in changed(toy.end - 1, b"\x7d")
    without = stream[: toy.start] + stream[toy.end :]
    assert "section 'toy' instance 1 is missing from the stream" in str(load_error(without))
    state = records["globalstate", 0]
    assert "unknown run state" in changed(state.end - 5 - 100, b"sleeping\0")
    commands = [r for r in walk(stream) if r.kind == "COMMAND"]
    ping = next(r for r in commands if r.name == "PING")
    assert "MIG_CMD 0x63 unknown (len 0x4)" in changed(ping.start + 1, b"\0\x63")
    assert "POSTCOPY_ADVISE needs capability postcopy-ram, which is off" in changed(ping.start + 1, b"\0\x03")
    assert "OPEN_RETURN_PATH received with bad length - expecting 0, got 4" in changed(ping.start + 1, b"\0\x01")


# -- a peer that never answers


@contextmanager
def silent_peer() -> Iterator[tuple[str, Callable[[], socket.socket]]]:
    """Its URI, and what accepts the connection there. Its system takes a few KiB and no more."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"tcp:127.0.0.1:{server.getsockname()[1]}", lambda: server.accept()[0]


def wait_device(source: Side) -> None:
    source.wait_status("device")
    # Longer than somebody who may be silent is waited for.
    assert not source.service.outgoing_state.wait_until(lambda status: status != "device", 3.0)


def heavy(side: MakeSide) -> Side:
    """A machine whose memory fits into our system's buffers, but not into that of ``silent_peer``."""
    source = side(64 * PAGE)
    source.machine.ram.view[:] = np.random.default_rng(7).integers(0, 256, 64 * PAGE, np.uint8)
    return source


def test_what_has_not_come_to_a_silent_peer_is_not_given_away(side: MakeSide) -> None:
    source = heavy(side)
    source.machine.start()
    with silent_peer() as (uri, accept):
        source.service.migrate(uri)
        with accept():
            wait_device(source)
            source.service.cancel()
            assert source.wait_status("cancelled", "completed", "failed") == "cancelled"
    assert source.machine.run_state == "running"


def test_a_silent_peer_that_takes_all_is_done(side: MakeSide) -> None:
    source = heavy(side)
    with silent_peer() as (uri, accept):
        source.service.migrate(uri)
        with accept() as connection:
            wait_device(source)
            while source.status() == "device" and connection.recv(1 << 16):
                pass
            while connection.recv(1 << 16):
                pass
    assert source.service.wait(30) == "completed"
