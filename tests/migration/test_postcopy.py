"""Postcopy: payloads, recorded streams of QEMU, hostile peers, and two machines made of memory."""

from __future__ import annotations

import lzma
import socket
import tarfile
import threading
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.errors import StateError, StreamError
from e2kemu.migration.blocktime import BUCKETS, FINE, BlockTime, Percentiles, bucket
from e2kemu.migration.postcopy import (
    PageRequest,
    advise,
    bitmap_bytes,
    check_advise,
    discards,
    page_runs,
    parse_discard,
    read_bitmap,
    received_bitmap,
    request_payload,
)
from e2kemu.migration.returnpath import MAX_REQUESTS, Message, ReturnPath
from e2kemu.migration.stream_reader import Record, walk, walk_return_path
from e2kemu.wire import BytesReader
from tests.migration.conftest import SAMPLES, MakeSide, Side
from tests.migration.toy import MIB, PAGE, ToyMachine

POSTCOPY_SAMPLES = SAMPLES.parent / "qemu-postcopy.tar.xz"


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(lzma.decompress(POSTCOPY_SAMPLES.read_bytes()))) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]


# -- payloads --------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=700))
def test_received_bitmaps_come_back(flags: list[bool]) -> None:
    present = np.array(flags, dtype=np.uint8)
    data = received_bitmap(present)
    assert len(data) == 16 + bitmap_bytes(len(flags))
    assert read_bitmap(BytesReader(data), "ram", len(flags)).tolist() == flags


@given(st.sets(st.integers(0, 999), max_size=300))
def test_discards_name_each_page_once_in_commands_of_twelve(pages: set[int]) -> None:
    index = np.array(sorted(pages), dtype=np.intp)
    commands = list(discards("toy.ram", page_runs(index)))
    found: list[int] = []
    for payload in commands:
        block, ranges = parse_discard(payload, {"toy.ram": 1000}, 0)
        assert block == "toy.ram"
        assert 0 < len(ranges) <= 12
        for first, count in ranges:
            found += range(first, first + count)
    assert found == sorted(pages)


@given(st.binary(max_size=80))
def test_any_discard_is_read_or_refused(payload: bytes) -> None:
    for data in (payload, b"\0\x03toy\0" + payload):
        try:
            parse_discard(data, {"toy": 16}, 0)
        except StreamError:
            pass


def test_advice_of_another_page_size_is_refused() -> None:
    blocks = ToyMachine(MIB).ram_blocks
    check_advise(advise(blocks), blocks, 0)
    with pytest.raises(StreamError, match=r"matching RAM page sizes \(s=200000 d=1000\)"):
        check_advise((2 * MIB).to_bytes(8, "big") + PAGE.to_bytes(8, "big"), blocks, 0)
    with pytest.raises(StreamError, match=r"matching target page sizes \(s=8192 d=4096\)"):
        check_advise(PAGE.to_bytes(8, "big") + (2 * PAGE).to_bytes(8, "big"), blocks, 0)
    with pytest.raises(StreamError, match=r"invalid length \(0\)"):
        check_advise(b"", blocks, 0)


def test_latencies_fall_into_powers_of_two_of_a_microsecond() -> None:
    assert [bucket(n) for n in (0, 999, 1000, 1999, 2000, 4000, 1 << 62)] == [0, 0, 0, 0, 1, 2, BUCKETS - 1]
    account = BlockTime(2)
    account.waiting(0)
    account.arrived(0, 3_000_000)
    account.waiting(None)
    account.arrived(None, 1_000_000)
    answer = account.query()
    assert answer["postcopy-vcpu-blocktime"] == [3, 0]
    assert answer["postcopy-blocktime"] == 0
    assert answer["postcopy-latency"] == 2_000_000
    assert answer["postcopy-non-vcpu-latency"] == 1_000_000
    assert sum(answer["postcopy-latency-dist"]) == 2
    assert 1_000_000 <= answer["x-postcopy-latency-median"] < 1_040_000
    assert 3_000_000 <= answer["x-postcopy-latency-p99"] < 3_100_000


@given(st.lists(st.integers(0, 1 << 63), min_size=1, max_size=300), st.integers(1, 100))
def test_percentiles_are_those_of_the_sorted_values_to_three_percent(values: list[int], percent: int) -> None:
    counted = Percentiles()
    for value in values:
        counted.add(value)
    exact = sorted(values)[-(-len(values) * percent // 100) - 1]
    assert exact <= counted.percentile(percent) <= exact * (1 + 2**-FINE)


def test_without_values_there_is_no_latency() -> None:
    assert Percentiles().percentile(50) == 0
    assert BlockTime(1).query()["x-postcopy-latency-p99"] == 0


# -- recorded streams ------------------------------------------------------------------------------


def _commands(records: list[Record]) -> list[str]:
    names = [f"{r.name} {r.values['value']:#x}" if r.name == "PING" else r.name for r in records if r.kind == "COMMAND"]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


def test_qemus_postcopy_is_read_to_its_end(recordings: dict[str, bytes]) -> None:
    records = list(walk(recordings["tee-v11-postcopy.fwd"]))
    assert _commands(records) == [
        "OPEN_RETURN_PATH", "PING 0x1", "POSTCOPY_ADVISE", "SWITCHOVER_START", "POSTCOPY_RAM_DISCARD", "PING 0x2",
        "PACKAGED", "POSTCOPY_LISTEN", "PING 0x3", "PING 0x42", "POSTCOPY_RUN", "PING 0x4",
    ]  # fmt: skip
    assert [record.kind for record in records[-2:]] == ["END", "EOF"]
    advice = next(record for record in records if record.name == "POSTCOPY_ADVISE")
    assert advice.payload == advise(ToyMachine(MIB).ram_blocks)
    back = list(walk_return_path(recordings["tee-v11-postcopy.rev"]))
    assert back[-1].name == "SHUT"
    requests = [record for record in back if record.name.startswith("REQ_PAGES")]
    assert len(requests) > 100
    first = requests[0].values
    assert requests[0].payload == request_payload(
        PageRequest(first["block"], first["start"] // PAGE, first["length"] // PAGE), named=True
    )


def test_qemus_discards_are_ours_byte_for_byte(recordings: dict[str, bytes]) -> None:
    found = [r for r in walk(recordings["tee-v11-postcopy.fwd"]) if r.name == "POSTCOPY_RAM_DISCARD"]
    assert len(found) >= 6
    for record in found:
        block, ranges = parse_discard(record.payload, {record.values["block"]: 1 << 20}, 0)
        assert list(discards(block, ranges)) == [record.payload]


def test_qemus_recovery_is_read_to_its_end(recordings: dict[str, bytes]) -> None:
    broken = recordings["tee-v11-postcopy-recover.0.fwd"]
    with pytest.raises(StreamError, match="the stream ends early"):
        list(walk(broken))
    records = list(walk(recordings["tee-v11-postcopy-recover.1.fwd"]))
    assert _commands(records) == ["RECV_BITMAP", "POSTCOPY_RESUME"]
    assert [record.kind for record in records[-2:]] == ["END", "EOF"]
    back = list(walk_return_path(recordings["tee-v11-postcopy-recover.1.rev"]))
    bitmaps = [record for record in back if record.name == "RECV_BITMAP"]
    assert len(bitmaps) == 6
    name, rest = bitmaps[0].payload[1:7], bitmaps[0].payload[7:]
    assert name == b"pc.ram"
    received = read_bitmap(BytesReader(_framed(rest)), "pc.ram", 8192)
    assert int(received.sum()) == bitmaps[0].values["received"]
    assert received_bitmap(received.astype(np.uint8)) == _framed(rest)
    assert [record.name for record in back[6:9]] == ["RESUME_ACK", "REQ_PAGES_ID", "REQ_PAGES"]


def _framed(bits: bytes) -> bytes:
    return len(bits).to_bytes(8, "big") + bits + 0x0123456789ABCDEF.to_bytes(8, "big")


# -- hostile destinations --------------------------------------------------------------------------


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size


def _message(kind: Message, payload: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def _heard(data: bytes, wanted: set[str] | None = None) -> ReturnPath:
    path = ReturnPath(_Bytes(data), lambda: None, {"ram": 16})
    path.bitmaps_wanted |= wanted or set()
    path.start()
    assert path.wait(ReturnPath.over, 20)
    return path


HOSTILE = {
    "beyond the block": _message(Message.REQ_PAGES_ID, request_payload(PageRequest("ram", 16, 1), named=True)),
    "more than the block": _message(Message.REQ_PAGES_ID, request_payload(PageRequest("ram", 1, 16), named=True)),
    "no pages": _message(Message.REQ_PAGES_ID, request_payload(PageRequest("ram", 1, 0), named=True)),
    "not aligned": _message(Message.REQ_PAGES_ID, b"\0" * 7 + b"\1" + b"\0\0\x10\0" + b"\x03ram"),
    "unknown block": _message(Message.REQ_PAGES_ID, request_payload(PageRequest("rom", 0, 1), named=True)),
    "no block before": _message(Message.REQ_PAGES, request_payload(PageRequest("", 0, 1), named=False)),
    "a name that is too long": _message(Message.REQ_PAGES_ID, b"\0" * 10 + b"\x10\0" + b"\xffram"),
    "unasked bitmap": _message(Message.RECV_BITMAP, b"\x03ram"),
    "unasked resume": _message(Message.RESUME_ACK, b"\0\0\0\1"),
    "switchover of a length": _message(Message.SWITCHOVER_ACK, b"\0"),
    "oversized": (3).to_bytes(2, "big") + (4000).to_bytes(2, "big") + bytes(4000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_messages_are_one_clear_error(what: str) -> None:
    path = _heard(HOSTILE[what])
    assert path.problem is not None
    assert str(path.problem).count("\n") == 0
    assert "offset" in str(path.problem)
    assert not path.requests


def test_a_flood_of_requests_is_refused() -> None:
    one = _message(Message.REQ_PAGES_ID, request_payload(PageRequest("ram", 0, 1), named=True))
    path = _heard(one * (MAX_REQUESTS + 1))
    assert f"more than {MAX_REQUESTS} requests" in str(path.problem)


@pytest.mark.parametrize(
    ("trailer", "text"),
    [
        (bytes(8), "has 0 bytes instead of 8"),
        ((1 << 40).to_bytes(8, "big"), "instead of 8"),
        ((8).to_bytes(8, "big") + bytes(16), "ends with 0x0"),
    ],
)
def test_a_bitmap_that_does_not_fit_is_refused(trailer: bytes, text: str) -> None:
    path = _heard(_message(Message.RECV_BITMAP, b"\x03ram") + trailer, {"ram"})
    assert text in str(path.problem)


# -- two machines made of memory -------------------------------------------------------------------


def _postcopy_sides(side: MakeSide) -> tuple[Side, Side]:
    source, destination = side(2 * MIB), side(2 * MIB, incoming=True)
    for one in (source, destination):
        one.service.capabilities.set({"postcopy-ram": True})
    source.machine.ram.view[:] = np.random.default_rng(5).integers(0, 256, 2 * MIB, dtype=np.uint8)
    source.machine.start()
    source.service.parameters.set({"max-bandwidth": 100_000, "downtime-limit": 0})
    return source, destination


def test_memory_arrives_whole_and_a_discarded_page_comes_again(side: MakeSide) -> None:
    source, destination = _postcopy_sides(side)
    source.service.migrate(destination.listen())
    source.wait_status("active")
    source.machine.ram.write(0, b"changed after it was sent")
    source.service.start_postcopy()
    source.wait_status("completed")
    assert destination.wait_incoming() == "completed"
    assert bytes(destination.machine.ram.view) == bytes(source.machine.ram.view)
    assert destination.machine.run_state == "running"
    assert source.machine.run_state == "postmigrate"
    assert destination.machine.ram.arrivals is None


def test_a_package_that_is_no_good_leaves_the_guest_with_the_source(side: MakeSide) -> None:
    source, destination = _postcopy_sides(side)
    source.machine.devices[0].tag = b"zzzz"
    source.service.migrate(destination.listen(exit_on_error=False))
    source.wait_status("active")
    source.service.start_postcopy()
    source.wait_status("failed")
    assert destination.wait_incoming() == "failed"
    assert "does not begin with an a" in destination.service.query()["error-desc"]
    assert source.machine.run_state == "running"
    assert destination.machine.run_state == "inmigrate"
    assert destination.machine.ram.arrivals is None
    source.machine.devices[0].tag = b"abcd"
    source.service.parameters.set({"max-bandwidth": 1 << 30, "downtime-limit": 2000})
    source.service.migrate(destination.listen())
    source.wait_status("completed")
    assert destination.wait_incoming() == "completed"


def test_a_source_without_anybody_to_ask_for_pages_stays_in_precopy(side: MakeSide) -> None:
    """A peer that reads and never answers: postcopy would leave the guest's memory behind for ever."""
    source, _ = _postcopy_sides(side)
    with socket.create_server(("127.0.0.1", 0)) as server:
        source.service.migrate(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
        reader = threading.Thread(target=_read_all, args=(peer,), daemon=True)
        reader.start()
        source.wait_status("active")
        source.service.start_postcopy()
        assert not source.service.outgoing_state.wait_until(lambda now: now != "active", 0.3)
        source.service.cancel()
        source.wait_status("cancelled")
        peer.close()
    assert source.machine.run_state == "running"


def _read_all(peer: socket.socket) -> None:
    try:
        while peer.recv(65536):
            pass
    except OSError:
        pass


def test_a_destination_without_the_capability_says_so(side: MakeSide) -> None:
    source, destination = _postcopy_sides(side)
    destination.service.capabilities.set({"postcopy-ram": False})
    source.service.migrate(destination.listen(exit_on_error=False))
    source.wait_status("failed")
    assert destination.wait_incoming() == "failed"
    assert "POSTCOPY_ADVISE needs capability postcopy-ram, which is off" in destination.service.query()["error-desc"]
    assert source.machine.run_state == "running"


def test_a_file_cannot_ask_for_pages(side: MakeSide, tmp_path: object) -> None:
    source, _ = _postcopy_sides(side)
    source.service.migrate(f"file:{tmp_path}/stream")
    source.wait_status("failed")
    assert "Unable to open return-path" in source.service.query()["error-desc"]


def test_postcopy_commands_at_the_wrong_moment_are_refused(side: MakeSide) -> None:
    source = side(MIB)
    for attempt, text in (
        (source.service.start_postcopy, "Enable postcopy with migrate_set_capability before"),
        (source.service.pause, "migrate-pause is currently only supported during"),
        (lambda: source.service.resume("tcp:127.0.0.1:1"), "Cannot resume if there is no paused migration"),
        (lambda: source.service.recover("tcp:127.0.0.1:0"), "Migrate recover can only be run when postcopy is paused."),
    ):
        with pytest.raises(StateError, match=text):
            attempt()
