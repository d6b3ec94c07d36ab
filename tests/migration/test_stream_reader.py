"""The walker reads every stream that real QEMU recorded and decodes devices as QEMU's own tool does."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from typing import Any

import pytest

from e2kemu.errors import StreamError
from e2kemu.migration.stream_ram import decode_xbzrle
from e2kemu.migration.stream_reader import Record, walk, walk_return_path
from tests.migration.conftest import Samples

START = {"v11-file-offset": 0x1000}
UNREADABLE = {"v72-machine-2.2"}  # neither footers nor a vmdescription


def records_of(samples: Samples, name: str, **more: Any) -> list[Record]:
    return list(walk(samples.stream(name), START.get(name, 0), **more))


def ram_counts(records: list[Record]) -> Counter[str]:
    return sum((record.ram.counts for record in records if record.ram is not None), Counter())


def test_every_recorded_stream_is_walked_to_its_end_without_a_gap(samples: Samples) -> None:
    names = [name for name in samples.names() if name not in UNREADABLE]
    assert len(names) >= 17
    for name in names:
        records = records_of(samples, name)
        assert records[0].start == START.get(name, 0)
        assert records[-1].end == len(samples.stream(name)), name
        for before, after in itertools.pairwise(records):
            assert before.end == after.start, name
        assert records[-1].kind == "VMDESCRIPTION", name


def test_devices_are_decoded_as_qemus_own_tool_decodes_them(samples: Samples) -> None:
    compared = 0
    for name in samples.names():
        expected = samples.state(name)
        if expected is None:
            continue
        found: dict[str, Any] = {}
        for record in records_of(samples, name):
            if record.kind == "START" and record.ram is not None:
                sizes = {block: f"0x{size:016x}" for block, size in record.ram.blocks.items()}
                found[f"ram ({record.section_id})"] = {"section sizes": sizes}
            elif record.kind == "FULL":
                found[f"{record.name} ({record.section_id})"] = record.values
        assert found == expected, name
        compared += len(found)
    assert compared > 250


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("v11-plain-live", "PAGE", 156),
        ("v11-plain-live", "ZERO", 8184),
        ("v11-xbzrle", "XBZRLE", 208),
        ("v72-compress", "COMPRESS_PAGE", 497),
        ("v11-mapped-ram", "mapped PAGE", 134),
        ("v11-none-machine", "ZERO", 8192),
    ],
)
def test_ram_records_are_counted_as_qemu_counted_them(
    samples: Samples, name: str, kind: str, count: int
) -> None:
    assert ram_counts(records_of(samples, name))[kind] == count


def test_the_guest_memory_in_a_compressed_and_a_plain_stream_is_the_same_bios(samples: Samples) -> None:
    digests = set()
    for name in ("v72-compress", "v72-plain-stopped"):
        memory: dict[str, bytearray] = {}
        records_of(samples, name, memory=memory)
        assert any(memory["pc.bios"])
        digests.add(hashlib.sha256(memory["pc.bios"]).hexdigest())
    assert len(digests) == 1


def test_the_guest_memory_in_a_mapped_ram_file_is_that_of_a_plain_stream(samples: Samples) -> None:
    digests = set()
    for name in ("v11-mapped-ram", "v11-plain-live"):
        memory: dict[str, bytearray] = {}
        records_of(samples, name, memory=memory)
        digests.add(hashlib.sha256(memory["pc.bios"]).hexdigest())
    assert len(digests) == 1


def test_configuration_and_commands_are_read(samples: Samples) -> None:
    shared = records_of(samples, "v11-ignore-shared")[1]
    assert shared.values == {"machine": "pc-i440fx-11.1", "capabilities": ["x-ignore-shared"]}
    commands = [r.name for r in records_of(samples, "v11-postcopycap-exec") if r.kind == "COMMAND"]
    assert commands == ["OPEN_RETURN_PATH", "PING", "POSTCOPY_ADVISE", "SWITCHOVER_START"]
    for old in ("v11-machine-pc-9.0", "v11-machine-pc-8.0"):
        assert not [r for r in records_of(samples, old) if r.kind == "COMMAND"]


def test_a_stream_without_footers_and_description_is_walked_up_to_its_first_device(samples: Samples) -> None:
    seen: list[Record] = []
    records = walk(samples.stream("v72-machine-2.2"))
    with pytest.raises(StreamError, match=r"no vmdescription.*section 'timer' at offset 0x9b561"):
        seen.extend(record for record in records)
    assert ram_counts(seen)["ZERO"] > 8000


def test_both_directions_of_a_recorded_connection_are_read(samples: Samples) -> None:
    forward = list(walk(samples.files["tee-v11-return-path.fwd"]))
    assert [r.name for r in forward if r.kind == "COMMAND"] == [
        "OPEN_RETURN_PATH",
        "PING",
        "SWITCHOVER_START",
    ]
    back = list(walk_return_path(samples.files["tee-v11-return-path.rev"]))
    assert [(r.name, r.payload) for r in back] == [("PONG", b"\0\0\0\1"), ("SHUT", b"\0\0\0\0")]
    assert list(walk(samples.files["tee-v11-precopy.fwd"]))[-1].kind == "VMDESCRIPTION"
    assert samples.files["tee-v11-precopy.rev"] == b""


def test_every_cut_of_a_stream_is_refused_with_its_place(samples: Samples) -> None:
    whole = samples.stream("v11-none-machine")
    for cut in [*range(80), *range(len(whole) - 1100, len(whole) - 900, 7)]:
        with pytest.raises(StreamError) as error:
            list(walk(whole[:cut]))
        assert error.value.offset is not None


def _error_of(data: bytes) -> StreamError | None:
    try:
        list(walk(data, memory={}))
    except StreamError as error:
        return error
    return None


@pytest.mark.parametrize("seed", [20260, 20261])
def test_damaged_streams_end_in_one_clear_error_or_are_read(recorded: bytes, seed: int) -> None:
    chance = random.Random(seed)
    places = [record.start for record in walk(recorded)] + [len(recorded) - 100]
    refused = 0
    for _ in range(500):
        data = bytearray(recorded)
        for _ in range(chance.randint(1, 4)):
            place = min(chance.choice(places) + chance.randrange(30), len(data) - 1)
            data[chance.choice((place, chance.randrange(len(data))))] = chance.randrange(256)
        error = _error_of(bytes(data))
        refused += error is not None
        assert "\n" not in str(error)
    assert refused > 200, seed


def test_the_xbzrle_example_of_the_format_decodes() -> None:
    old = bytes(range(256)) * 16
    assert decode_xbzrle(b"\x00\x04wxyz", old, 0) == b"wxyz" + old[4:]
    assert decode_xbzrle(b"\x81\x02\x01!\x03\x01?", old, 0)[257] == ord("!")
    for wrong in (
        b"\x00\x00",
        b"\x00\x04abc",
        b"\x80\x80\x01x",
        b"\x00\x01a\x00\x01b",
        b"\xff\x1f\x02ab",
        b"\x01",
    ):
        with pytest.raises(StreamError):
            decode_xbzrle(wrong, old, 0)
