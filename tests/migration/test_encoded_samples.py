"""Streams of real QEMU with XBZRLE and compressed pages: our loader and the independent walker see the same memory,
and what is counted in them is what QEMU said it had sent."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from e2kemu.memory.ram import RAMBlock
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.stream_cli import main
from e2kemu.migration.stream_reader import Record, walk
from tests.migration.conftest import SAMPLES, Samples
from tests.migration.test_ram import Memory

NAMES = ("v11-xbzrle", "tee-v11-xbzrle", "v72-compress")

FIGURES = {
    "v11-xbzrle": {"bytes": 1888, "pages": 258, "normal": 384, "duplicate": 8196},
    "tee-v11-xbzrle": {"bytes": 87, "pages": 8, "normal": 628, "duplicate": 7952},
    "v72-compress": {"compressed-size": 267584, "pages": 529, "normal": 5, "duplicate": 8134},
}
"""What query-migrate of the source said."""


def stream(samples: Samples, name: str) -> bytes:
    if name == "tee-v11-xbzrle":
        return lzma.decompress((SAMPLES.parent / f"{name}.fwd.xz").read_bytes())
    return samples.stream(name)


def ram_sections(data: bytes, memory: dict[str, bytearray]) -> list[Record]:
    records = walk(data, memory=memory, details=True)
    return [record for record in records if record.ram is not None]


def body(data: bytes, record: Record) -> bytes:
    """Type byte, section id; a start has name, instance and version, too; a footer of 5 bytes follows."""
    head = 5 + (1 + len(record.name) + 8 if record.kind == "START" else 0)
    return data[record.start + head : record.end - 5]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [1 << 20, 1009])
def test_qemus_encoded_pages_are_loaded_as_the_walker_sees_them(samples: Samples, name: str, chunk: int) -> None:
    data, memory = stream(samples, name), dict[str, bytearray]()
    sections = ram_sections(data, memory)
    assert len(sections) >= 3
    blocks = [RAMBlock(block, len(content)) for block, content in memory.items()]
    for block in blocks:
        block.view[:] = 0x5A  # what was there before must go
    loader = RamLoader(blocks)
    for record in sections:
        wire = Memory(chunk)
        wire.data += body(data, record)
        reader = StreamReader(wire, size=1 << 20)
        loader.load(reader)
        assert reader.at_end()
    loader.finish()
    for block in blocks:
        assert (block.view == np.frombuffer(memory[block.idstr], dtype=np.uint8)).all(), block.idstr


@pytest.mark.parametrize("name", NAMES)
def test_the_records_are_as_many_as_qemu_has_counted(samples: Samples, name: str) -> None:
    counts, payload = Counter[str](), Counter[str]()
    for record in ram_sections(stream(samples, name), {}):
        assert record.ram is not None
        counts += record.ram.counts
        for one in record.ram.records:
            payload[one.kind] += one.payload
    figures = FIGURES[name]
    assert counts["PAGE"] == figures["normal"]
    if "compressed-size" in figures:
        # QEMU 7.2 counts what its threads have looked at, 88 pages more than it sends here; the stream itself is
        # complete: each page of both blocks, and 258 a second time.
        assert counts["COMPRESS_PAGE"] + counts["ZERO"] + counts["PAGE"] == (34086912 >> 12) + 258
        assert 0 < counts["COMPRESS_PAGE"] <= figures["pages"]
        assert abs(payload["COMPRESS_PAGE"] - figures["compressed-size"]) < 1000
    else:
        assert counts["ZERO"] == figures["duplicate"]
        assert 0 < counts["XBZRLE"] <= figures["pages"]
        assert 0 <= payload["XBZRLE"] - figures["bytes"] <= 64


@pytest.mark.parametrize("name", NAMES)
def test_e2kemu_stream_shows_and_extracts_them(
    samples: Samples, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, memory = stream(samples, name), dict[str, bytearray]()
    ram_sections(data, memory)
    (tmp_path / "stream").write_bytes(data)
    assert main([str(tmp_path / "stream"), "-v", "--json", "--ram", str(tmp_path / "ram")]) == 0
    kinds = Counter(
        one["kind"]
        for line in capsys.readouterr().out.splitlines()
        for one in json.loads(line).get("ram", {}).get("list", [])
    )
    assert kinds["COMPRESS_PAGE" if "compress" in name else "XBZRLE"] > 0
    assert (tmp_path / "ram" / "pc.ram").read_bytes() == memory["pc.ram"]
