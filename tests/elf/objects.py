"""Objects to link, made by our own writer around code words of the vendor's assembler."""

from __future__ import annotations

import io
import lzma
import struct
from pathlib import Path

from elftools.elf.elffile import ELFFile

from e2kemu.elf.constants import Binding, SymbolType
from e2kemu.elf.model import Symbol
from e2kemu.elf.writer import ObjectFile

DATA = Path(__file__).parent.parent / "data"

NOP = (0x00000000, 0x00000000)
DISP_CTPR1 = (0x00004001, 0x40000000)  # disp %ctpr1, 0
IBRANCH = (0x00005012, 0xC0000020, 0x00000000, 0x00000000)  # ibranch 0
ADDD_LITERAL = (0x40000011, 0x1181DC02, 0x00001234, 0x56789ABC)  # addd,4 %dr1, 0x123456789abc, %db[2]


def words(*values: int) -> bytes:
    """Little-endian words."""
    return struct.pack(f"<{len(values)}I", *values)


def foreign_program() -> bytes:
    """A program for Elbrus-8C, assembled and linked by foreign tools."""
    return lzma.decompress((DATA / "call.elf.xz").read_bytes())


def elf(data: bytes) -> ELFFile:
    """``data`` as pyelftools sees it."""
    return ELFFile(io.BytesIO(data))


def contents(data: bytes, name: str) -> bytes:
    """The bytes of a section, by pyelftools."""
    section = elf(data).get_section_by_name(name)
    assert section is not None, name
    return section.data()


def global_function(obj: ObjectFile, name: str, code: bytes, section: str = ".text") -> Symbol:
    """A global function of ``code`` at the end of ``section``."""
    text = obj.section(section, align=8)
    return obj.symbol(
        name, text, text.append(code, 8), size=len(code), binding=Binding.GLOBAL, type=SymbolType.FUNC
    )


def undefined(obj: ObjectFile, name: str, *, weak: bool = False) -> Symbol:
    """A mention of a name that another object defines."""
    return obj.symbol(name, binding=Binding.WEAK if weak else Binding.GLOBAL)


def simple(name: str = "a.o", function: str = "_start", **kwargs: object) -> ObjectFile:
    """An object with one function."""
    obj = ObjectFile("v4", name=name, **kwargs)  # type: ignore[arg-type]
    global_function(obj, function, words(*NOP))
    return obj
