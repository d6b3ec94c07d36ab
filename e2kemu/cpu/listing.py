"""Runs of wide instructions: cut a flat piece of code into pieces, each with its words and text.

A piece is a wide instruction, an instruction of the array prefetch program, or bytes that are neither
(with the reason). After the latter reading goes on where the header says the wide instruction ends, or 8
bytes further when the header itself is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from e2kemu.cpu.bundle import DecodeError, layout
from e2kemu.cpu.disasm import disassemble_at


class Piece(NamedTuple):
    """``size`` bytes at ``address`` (and ``offset`` in the data); ``error`` is "" when ``text`` is valid."""

    address: int
    offset: int
    size: int
    text: list[str]
    error: str

    def words(self, data: bytes | memoryview) -> list[str]:
        """The 32-bit words in hexadecimal; a last one of fewer bytes has fewer digits."""
        raw = bytes(data[self.offset : self.offset + self.size])
        return [raw[i : i + 4][::-1].hex() for i in range(0, len(raw), 4)]


def pieces(data: bytes | memoryview, version: int, base: int = 0) -> Iterator[Piece]:
    """The pieces of ``data``, which is loaded at ``base``, for an instruction set version."""
    offset, end = 0, len(data)
    while offset < end:
        address = base + offset
        try:
            size, text = disassemble_at(data, version, address, offset)
        except DecodeError as error:
            size = min(_skip(data, version, offset), end - offset)
            yield Piece(address, offset, size, [], str(error))
        else:
            yield Piece(address, offset, size, text, "")
        offset += size


def _skip(data: bytes | memoryview, version: int, offset: int) -> int:
    place = layout(int.from_bytes(data[offset : offset + 4], "little"), version)
    return 8 if place.problem else 4 * place.words
