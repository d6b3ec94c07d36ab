"""An assembled program as a static ELF executable.

ELF64, little endian, ET_EXEC, EM_MCST_ELBRUS (175), e_flags = machine << 24. One PT_LOAD for code and
constants, one for data (on pages of its own), section headers and a symbol table for tools.
"""

from __future__ import annotations

from struct import pack

from e2kemu.cpu.asm import PAGE, Image
from e2kemu.cpu.asm_expr import Section

EM_MCST_ELBRUS = 175
MACHINES = {"e2s": 3, "e8c": 19, "e1cp": 20, "e8c2": 5, "e12c": 21, "e16c": 22, "e2c3": 23, "e2c+": 2}
"""CPU model -> machine number in e_flags; a bare version is its own number."""

_TYPES = {"function": 2, "object": 1, "STT_FUNC": 2, "STT_OBJECT": 1}


def _table(names: list[str]) -> tuple[bytes, dict[str, int]]:
    data, at = bytearray(b"\0"), {"": 0}
    for name in names:
        if name not in at:
            at[name] = len(data)
            data += name.encode() + b"\0"
    return bytes(data), at


def _symbols(image: Image, indices: dict[str, int]) -> tuple[bytes, bytes, int]:
    """The symbol table, its strings and the number of local symbols."""
    names = sorted(image.symbols, key=lambda name: (name in image.globals, image.symbols[name]))
    strings, at = _table(names)
    data = bytearray(24)
    for name in names:
        kind, size, section = image.kinds[name]
        info = (1 if name in image.globals else 0) << 4 | _TYPES.get(kind, 0)
        data += pack(
            "<IBBHQQ",
            at[name],
            info,
            0,
            indices.get(section, 0xFFF1),
            image.symbols[name] & 0xFFFF_FFFF_FFFF_FFFF,
            size,
        )
    return bytes(data), strings, 1 + sum(name not in image.globals for name in names)


def _segment(sections: list[Section], flags: int, start: int, low: int | None = None) -> tuple[bytes, int]:
    """A program header for ``sections``; file offsets are ``start`` + address - first address."""
    first = sections[0].address if low is None else low
    filled = [s for s in sections if not s.nobits]
    file_end = max((s.address + s.size for s in filled), default=first)
    memory_end = max(s.address + s.size for s in sections)
    return pack(
        "<IIQQQQQQ", 1, flags, start, first, first, file_end - first, memory_end - first, PAGE
    ), file_end - first


def executable(image: Image, machine: int) -> bytes:
    """The ELF file of ``image`` (assembled with ``separate=True``); ``machine`` goes into e_flags."""
    groups = [
        [s for s in image.sections if "w" not in s.flags],
        [s for s in image.sections if "w" in s.flags],
    ]
    groups = [group for group in groups if group]
    header_size = 64 + 56 * len(groups)
    out = bytearray(header_size)
    headers = bytearray()
    offsets: dict[str, int] = {}
    for group in groups:
        flags = (
            4
            | (1 if any("x" in s.flags for s in group) else 0)
            | (2 if any("w" in s.flags for s in group) else 0)
        )
        start = len(out) + (group[0].address - len(out)) % PAGE
        header, size = _segment(group, flags, start)
        headers += header
        out += bytes(start + size - len(out))
        for section in group:
            offsets[section.name] = start + section.address - group[0].address
            if not section.nobits:
                out[offsets[section.name] : offsets[section.name] + section.size] = section.data
    indices = {section.name: i + 1 for i, section in enumerate(image.sections)}
    symtab, strtab, local = _symbols(image, indices)
    names, at = _table([*indices, ".symtab", ".strtab", ".shstrtab"])
    table = bytearray(64)
    for section in image.sections:
        bits = 2 | ("w" in section.flags) | ("x" in section.flags) << 2
        table += pack(
            "<IIQQQQIIQQ",
            at[section.name],
            8 if section.nobits else 1,
            bits,
            section.address,
            offsets[section.name],
            section.size,
            0,
            0,
            section.align,
            0,
        )
    count = len(image.sections) + 4
    for name, kind, data, link, info, entry in (
        (".symtab", 2, symtab, count - 2, local, 24),
        (".strtab", 3, strtab, 0, 0, 0),
        (".shstrtab", 3, names, 0, 0, 0),
    ):
        out += bytes(-len(out) % 8)
        table += pack(
            "<IIQQQQIIQQ", at[name], kind, 0, 0, len(out), len(data), link, info, 8 if entry else 1, entry
        )
        out += data
    out += bytes(-len(out) % 8)
    section_headers = len(out)
    out += table
    out[:64] = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + pack(
            "<HHIQQQIHHHHHH",
            2,
            EM_MCST_ELBRUS,
            1,
            image.entry,
            64,
            section_headers,
            machine << 24,
            64,
            56,
            len(groups),
            64,
            count,
            count - 1,
        )
    )
    out[64 : 64 + len(headers)] = headers
    return bytes(out)
