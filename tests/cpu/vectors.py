"""The golden vectors: wide instructions with the text, source lines with the words, of the vendor's tools."""

from __future__ import annotations

import csv
import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"


def lines(name: str) -> Iterator[dict[str, Any]]:
    """The objects of a compressed JSON-lines file of tests/data."""
    for line in lzma.decompress((DATA / f"{name}.xz").read_bytes()).splitlines():
        yield json.loads(line)


def table(name: str) -> list[dict[str, str]]:
    """The rows of a compressed CSV file of tests/data."""
    return list(csv.DictReader(io.StringIO(lzma.decompress((DATA / f"{name}.xz").read_bytes()).decode())))


def words_to_bytes(words: list[str]) -> bytes:
    """Hexadecimal words -> bytes."""
    return b"".join(int(word, 16).to_bytes(4, "little") for word in words)


def disassembled() -> Iterator[dict[str, Any]]:
    """All vectors of wide instructions, each with ``data`` (its bytes)."""
    for vector in lines("vectors.jsonl"):
        vector["data"] = words_to_bytes(vector["words"])
        yield vector
