"""Runs of wide instructions: cut a flat piece of code, decode all of it, or give each piece its words and text.

A piece is a wide instruction, an instruction of the array prefetch program, or bytes that are neither
(with the reason). After the latter reading goes on where the header says the wide instruction ends, or 8
bytes further when the header itself is wrong.

Programs repeat themselves: what was decoded or printed once is remembered by its bytes while a run lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from e2kemu.cpu.bundle import DecodeError, layout
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm import disassemble_at
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa.formats import HS

REMEMBERED = 1 << 17
"""Different pieces that are remembered at most: some hundred megabytes."""
_LNG, _LNG_BITS = HS["lng"].lo, HS["lng"].mask >> HS["lng"].lo
_CS0 = HS["cs0"].mask


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


def wides(data: bytes | memoryview, version: int, base: int = 0) -> Iterator[Wide | DecodeError]:
    """Every wide instruction of ``data``, which is loaded at ``base``, or why there is none, in order."""
    data, end, offset = bytes(data), len(data), 0
    known: dict[bytes, Wide] = {}
    while offset < end:
        raw = data[offset : offset + 8 * ((data[offset] >> _LNG & _LNG_BITS) + 1)]
        wide = known.get(raw)
        if wide is None:
            try:
                wide = decode(data, version, base + offset, offset)
            except DecodeError as error:
                yield error
                offset += _skip(data, version, offset)
                continue
            if len(known) < REMEMBERED:
                known[raw] = wide
        else:
            wide = wide.at(base + offset)
        yield wide
        offset += wide.size


def pieces(data: bytes | memoryview, version: int, base: int = 0) -> Iterator[Piece]:
    """The pieces of ``data``, which is loaded at ``base``, for an instruction set version."""
    data, end, offset = bytes(data), len(data), 0
    known: dict[bytes, tuple[int, list[str]]] = {}
    while offset < end:
        address = base + offset
        raw = data[offset : offset + 8 * ((data[offset] >> _LNG & _LNG_BITS) + 1)]
        found = known.get(raw)
        try:
            if found is None:
                found = disassemble_at(data, version, address, offset)
                # the text of a displacement depends on the address
                if not int.from_bytes(raw[:4], "little") & _CS0 and found[0] == len(raw) and len(known) < REMEMBERED:
                    known[raw] = found
            size, text = found
        except DecodeError as error:
            size = min(_skip(data, version, offset), end - offset)
            yield Piece(address, offset, size, [], str(error))
        else:
            yield Piece(address, offset, size, text, "")
        offset += size


def _skip(data: bytes, version: int, offset: int) -> int:
    place = layout(int.from_bytes(data[offset : offset + 4], "little"), version)
    return 8 if place.problem else 4 * place.words
