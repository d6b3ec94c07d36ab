"""ELF programs as Linux loads them: the header, the segments, the interpreter; checked before anything is mapped.

32- and 64-bit, little endian, machine 175 (or the old 49), executables and position independent ones (static or
with an interpreter). Everything wrong with a file is one line that names it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from e2kemu.cpu.isa.models import DEFAULT_MODEL, MODELS
from e2kemu.elf.constants import Flag, machine_of_flags
from e2kemu.errors import ImageError
from e2kemu.linux.mapping import PAGE_MASK, page_up
from e2kemu.loader import ELF_MACHINES

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_PHDR, PT_TLS, PT_GNU_STACK = 1, 3, 6, 7, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4

ADDRESS_LIMIT = 0xD000_0000_0000
"""End of the user's part of the address space."""

MAX_SEGMENTS = 256
LONGEST_INTERPRETER = 4096


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD: ``data`` at ``address``, zero up to ``size`` bytes; ``flags`` PF_*; ``offset`` in the file."""

    address: int
    size: int
    data: bytes
    flags: int
    offset: int


@dataclass(frozen=True, slots=True)
class Program:
    """A program file, ready to be mapped."""

    path: str
    pointer_size: int
    fixed: bool
    """It has its own addresses (ET_EXEC); otherwise the loader adds one to all of them."""
    entry: int
    flags: int
    machine: int
    segments: tuple[Segment, ...]
    phdr: int
    """Address of the program headers, 0 when no segment holds them."""
    phent: int
    phnum: int
    interpreter: str
    executable_stack: bool

    @property
    def start(self) -> int:
        """First page."""
        return min(segment.address for segment in self.segments) & ~PAGE_MASK

    @property
    def end(self) -> int:
        """One past the last page."""
        return page_up(max(segment.address + segment.size for segment in self.segments))

    @property
    def cpu_model(self) -> str:
        """The ``-cpu`` model that the file's flags ask for."""
        return model_of_flags(self.flags, self.machine)


def model_of_flags(flags: int, machine: int) -> str:
    """The CPU model of e_flags: the one they name, or the first of at least their instruction set."""
    wanted = machine_of_flags(flags, machine)
    if wanted.model and wanted.name in MODELS:
        return wanted.name
    if not wanted.model and wanted.version <= MODELS[DEFAULT_MODEL].version:
        return DEFAULT_MODEL
    for model in MODELS.values():
        if model.version >= wanted.version and not wanted.model:
            return model.name
    raise ImageError(f"it is for {wanted.name}, and there is no such CPU here")


class _Wrong(Exception):
    """Why a file cannot be used."""


def parse_program(data: bytes, path: str, what: str = "program") -> Program:
    """Read and check a program. Raises ImageError with its name and what is wrong."""
    try:
        return _parse(data, path)
    except ImageError as error:
        raise ImageError(f"could not load {what} '{path}': {error}") from None
    except _Wrong as error:
        raise ImageError(f"could not load {what} '{path}': {error}") from None


def _parse(data: bytes, path: str) -> Program:
    if data[:4] != b"\x7fELF":
        raise _Wrong("not an ELF file")
    if len(data) < 52:
        raise _Wrong("the file is truncated")
    bits, order = data[4], data[5]
    machine = int.from_bytes(data[18:20], "little" if order != 2 else "big")
    if machine not in ELF_MACHINES:
        raise _Wrong(f"it is for machine {machine}, not for e2k")
    if order != 1:
        raise _Wrong("it is big endian; programs for e2k are little endian" if order == 2
                     else f"its byte order is {order}, neither little nor big endian")
    if bits not in (1, 2):
        raise _Wrong(f"its class is {bits}, neither 32 nor 64 bits")
    wide = bits == 2
    form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    if len(data) < 16 + struct.calcsize(form):
        raise _Wrong("the file is truncated")
    kind, _, _, entry, phoff, _, flags, _, phent, phnum, *_ = struct.unpack_from(form, data, 16)
    if kind not in (ET_EXEC, ET_DYN):
        raise _Wrong("it is not an executable" + (" but an object file: link it" if kind == 1 else ""))
    if flags & Flag.PM:
        raise _Wrong("it is for protected mode, which is not emulated")
    if flags & Flag.X86APP:
        raise _Wrong("it is for the binary compiler of x86 programs")
    header = struct.Struct("<IIQQQQQQ" if wide else "<IIIIIIII")
    if phent != header.size or not 0 < phnum <= MAX_SEGMENTS:
        raise _Wrong("it has no usable program headers")
    if phoff + phnum * phent > len(data):
        raise _Wrong("the file is truncated: its program headers lie behind its end")
    segments: list[Segment] = []
    interpreter, phdr, executable = "", 0, False
    for index in range(phnum):
        fields = header.unpack_from(data, phoff + index * phent)
        if wide:
            p_type, p_flags, offset, address, _, filesz, memsz, align = fields
        else:
            p_type, offset, address, _, filesz, memsz, p_flags, align = fields
        if p_type == PT_INTERP:
            raw = data[offset : offset + min(filesz, LONGEST_INTERPRETER)]
            interpreter = raw.split(b"\0")[0].decode("utf-8", "surrogateescape")
            if not interpreter or len(raw) < min(filesz, LONGEST_INTERPRETER):
                raise _Wrong("the name of its interpreter is damaged")
        elif p_type == PT_PHDR:
            phdr = address
        elif p_type == PT_GNU_STACK:
            executable = bool(p_flags & PF_X)
        elif p_type == PT_LOAD and memsz:
            if offset + filesz > len(data):
                raise _Wrong(f"the file is truncated: segment {index} ends at byte {offset + filesz} of {len(data)}")
            if filesz > memsz:
                raise _Wrong(f"segment {index} has more bytes in the file than in memory")
            if address + memsz > (ADDRESS_LIMIT if wide else 1 << 32):
                raise _Wrong(f"segment {index} lies outside of the address space")
            if (address - offset) & PAGE_MASK and align > 1:
                raise _Wrong(f"segment {index} is not aligned to its place in the file")
            segments.append(Segment(address, memsz, data[offset : offset + filesz], p_flags, offset))
    if not segments:
        raise _Wrong("it has no loadable segment")
    if not phdr:
        phdr = next((s.address + phoff - s.offset for s in segments
                     if s.offset <= phoff and phoff + phnum * phent <= s.offset + len(s.data)), 0)
    program = Program(path, 8 if wide else 4, kind == ET_EXEC, entry, flags, machine, tuple(segments), phdr, phent,
                      phnum, interpreter, executable)
    model_of_flags(flags, machine)
    if not any(s.address <= entry < s.address + s.size for s in segments):
        raise _Wrong(f"its entry point {entry:#x} is in no segment")
    return program
