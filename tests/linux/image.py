"""ELF files of any kind, made by hand: what the loader must take and what it must refuse."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from e2kemu.cpu.asm import assemble
from tests.linux.program import RUNTIME, Code

PT_LOAD, PT_INTERP, PT_GNU_STACK = 1, 3, 0x6474E551
ET_EXEC, ET_DYN = 2, 3


@dataclass
class Image:
    """One segment of code and data at ``base``, other program headers before it."""

    code: bytes
    base: int = 0x20000
    entry: int | None = None
    bits: int = 64
    kind: int = ET_EXEC
    machine: int = 175
    flags: int = 19 << 24 | 16
    interpreter: str = ""
    extra: list[tuple[int, int]] = field(default_factory=list)
    """(type, flags) of further, empty program headers."""

    def build(self) -> bytes:
        """The bytes of the file."""
        wide = self.bits == 64
        headers: list[tuple[int, int, int, int, int]] = []       # type, flags, offset, address, size
        data, at = b"", 0x1000
        if self.interpreter:
            text = self.interpreter.encode() + b"\0"
            headers.append((PT_INTERP, 4, 0x800, self.base + 0x800, len(text)))
            data = text
        headers += [(kind, flags, 0, 0, 0) for kind, flags in self.extra]
        headers.append((PT_LOAD, 7, at, self.base, len(self.code)))
        form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
        size = 16 + struct.calcsize(form)
        entry = self.base if self.entry is None else self.entry
        phent = 56 if wide else 32
        head = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9) + struct.pack(
            form, self.kind, self.machine, 1, entry, size, 0, self.flags, size, phent, len(headers), 0, 0, 0)
        for kind, flags, offset, address, length in headers:
            if wide:
                head += struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, length, length, 0x1000)
            else:
                head += struct.pack("<IIIIIIII", kind, offset, address, address, length, length, flags, 0x1000)
        return head.ljust(0x800, b"\0") + data.ljust(at - 0x800, b"\0") + self.code

    def write(self, directory: Path, name: str = "prog") -> Path:
        """The file, executable."""
        path = directory / name
        path.write_bytes(self.build())
        path.chmod(0o755)
        return path


def machine_code(code: Code, base: int = 0x20000) -> bytes:
    """The program as flat bytes for ``base``, with its data behind the code."""
    data = "\n".join(line for line in (*RUNTIME.splitlines(), *code.data) if line.strip() not in (".data", ".text"))
    text = "\n".join(line for line in code.lines if ".global" not in line)
    return bytes(assemble(f"{text}\n    .align 16\n{data}\n", version=4, base=base).data)
