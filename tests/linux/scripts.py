"""Lists of system calls that a guest program makes: the program is ``script.s``, its input is made here.

    script = Script()
    fd = script.call("openat", AT_FDCWD, "/etc/motd", 0)
    buffer = script.space(100)
    count = script.call("read", fd, buffer, 100)
    outcome = script.run("--root", root)
    outcome.result(count), outcome.memory(buffer, 100)

An argument is a number, text (its address, with a NUL), bytes (their address), or what ``call`` gave (that result).
The whole memory comes back on descriptor 1, which a script therefore leaves alone.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from e2kemu.linux.numbers import NUMBERS
from tests.framework import forked

HERE = Path(__file__).parent
AREA = 0x20000
LINES = 0x8000
"""Bytes of the lines at the start of the area."""
LINE = 64


@functools.cache
def program(bits: int = 64) -> tuple[str, int]:
    """(path of script.s, assembled, address of its area). A 32-bit program has entry 1 for its calls and is a 32-bit
    file."""
    folder = tempfile.mkdtemp(prefix="e2kemu-script-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, f"script{bits}")
    entry = 3 if bits == 64 else 1
    forked.run([sys.executable, "-m", "e2kemu.cpu.asm_cli", "-I", str(HERE), "-D", f"ENTRY={entry}", "-o", path,
                    str(HERE / "script.s")], check=True)
    with open(path, "rb") as stream:
        elf = ELFFile(stream)
        (area,) = elf.get_section_by_name(".symtab").get_symbol_by_name("area")
        segments = [(dict(s.header), s.data()) for s in elf.iter_segments("PT_LOAD")]
        start, flags = elf.header["e_entry"], elf.header["e_flags"]
    if bits == 32:
        Path(path).write_bytes(narrow(segments, start, flags))
        os.chmod(path, 0o755)
    return path, int(area["st_value"])


def narrow(segments: list[tuple[dict[str, Any], bytes]], entry: int, flags: int) -> bytes:
    """A 32-bit executable with the segments of a 64-bit one."""
    head = b"\x7fELF\1\1\1" + bytes(9) + struct.pack(
        "<HHIIIIIHHHHHH", 2, 175, 1, entry, 52, 0, flags, 52, 32, len(segments), 40, 0, 0)
    offset = 0x1000
    table, image = b"", b""
    for header, data in segments:
        image = image.ljust(offset - 0x1000 + header["p_vaddr"] % 0x1000, b"\0")
        table += struct.pack("<8I", 1, 0x1000 + len(image), header["p_vaddr"], 0, len(data), header["p_memsz"],
                             header["p_flags"], 0x1000)
        image += data
        offset += len(image) + -len(image) % 0x1000
    return (head + table).ljust(0x1000, b"\0") + image


@dataclass(frozen=True)
class Result:
    """The result of a call: usable as an argument of later ones."""

    address: int


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    area: int
    memory_bytes: bytes
    stderr: str
    status: int

    def result(self, of: Result) -> int:
        """The result of a call, -errno when it failed."""
        return int.from_bytes(self.memory(of.address, 8), "little", signed=True)

    def results(self, *of: Result) -> list[int]:
        """Those of several calls."""
        return [self.result(one) for one in of]

    def memory(self, address: int, size: int) -> bytes:
        """Guest memory after the last call."""
        start = address - self.area
        return self.memory_bytes[start:start + size]

    def text(self, address: int) -> str:
        """The string there."""
        return self.memory(address, 4096).partition(b"\0")[0].decode()


class Script:
    """Calls to be made in order."""

    def __init__(self, bits: int = 64) -> None:
        self.path, self.area = program(bits)
        self.data = bytearray()
        self.lines: list[list[int]] = []

    def put(self, data: bytes) -> int:
        """The address of ``data``."""
        address = self.area + LINES + len(self.data)
        self.data += data + bytes(-len(data) % 16)
        assert LINES + len(self.data) <= AREA
        return address

    def space(self, size: int) -> int:
        """The address of ``size`` zeros."""
        return self.put(bytes(size))

    def _word(self, value: int | str | bytes | Result) -> int:
        if isinstance(value, Result):
            return value.address
        if isinstance(value, str):
            value = self.put(os.fsencode(value) + b"\0")
        elif isinstance(value, bytes):
            value = self.put(value)
        return self.put((value & (1 << 64) - 1).to_bytes(8, "little"))

    def call(self, name: str | int, *arguments: int | str | bytes | Result) -> Result:
        """Add a call, by name or number; its result."""
        number = NUMBERS[name] if isinstance(name, str) else name
        assert len(arguments) <= 6
        padded = list(arguments) + [0] * (6 - len(arguments))
        result = Result(self.put(bytes(8)))
        self.lines.append([self._word(number), *map(self._word, padded), result.address])
        return result

    def run(self, *options: str, more_input: bytes = b"", timeout: float = 60, cwd: str | None = None,
            environment: dict[str, str] | None = None) -> Outcome:
        """Run it with ``e2kemu-run`` and these options. ``more_input`` is what descriptor 0 then still has."""
        self.call("write", 1, self.area, AREA)
        self.call("exit_group", 0)
        assert len(self.lines) * LINE <= LINES
        image = b"".join(word.to_bytes(8, "little") for line in self.lines for word in line).ljust(LINES, b"\0")
        done = forked.run(
            [sys.executable, "-m", "e2kemu.run_cli", *options, self.path],
            input=(image + self.data).ljust(AREA, b"\0") + more_input, capture_output=True, timeout=timeout, cwd=cwd,
            check=False, env=os.environ | (environment or {}))
        assert len(done.stdout) == AREA, f"status {done.returncode}\n{done.stderr.decode()}"
        return Outcome(self.area, done.stdout, done.stderr.decode(), done.returncode)
