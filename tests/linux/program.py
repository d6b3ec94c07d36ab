"""Guest programs in e2k assembler, with a little runtime; built by our assembler, run by ``e2kemu-run`` as a process.

A function of a test has a window of 24 quads: locals %r0..%r31, %b[0..15] at quad 16 for calls. ``call`` writes a
system call; its arguments are assembler operands. ``say`` prints a text, ``number`` a value as 16 hexadecimal digits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from e2kemu.cpu.asm_cli import main as assemble
from e2kemu.linux.numbers import NUMBERS
from tests.framework import forked

HEAD = """
{ setwd wsz=24, nfx=1; setbn rbs=16, rsz=7, rcur=0 }
"""

RUNTIME = """
    .align 8
print_number:                       // %dr0: printed in hexadecimal, with a newline
{ setwd wsz=24, nfx=1; setbn rbs=16, rsz=7, rcur=0; disp %ctpr1, .Ldigit }
{ getsp 0xffffffe0, %dr8 }
{ nop 4; addd,0 0, 0, %dr2; addd,1 0, %dr0, %dr3 }
.Ldigit:
{ shrd,0 %dr3, 60, %dr4; shld,1 %dr3, 4, %dr3 }
{ nop 4; ldb,0 %dr4, digits, %dr5 }
{ stb,2 %dr5, [ %dr8 + %dr2 ] }
{ addd,0 %dr2, 1, %dr2 }
{ nop 2; cmpedb,0 %dr2, 16, %pred0 }
{ ct %ctpr1 ? ~%pred0 }
{ addd,0 0, 10, %dr5 }
{ stb,2 %dr5, [ %dr8 + %dr2 ] }
{ nop 4; sdisp %ctpr1, 3 }
{ addd,0 0, 4, %db[0]; addd,1 0, 1, %db[1]; addd,2 0, %dr8, %db[2]; addd,3 0, 17, %db[3]; call %ctpr1, wbs=16 }
{ nop 5; return %ctpr3 }
{ ct %ctpr3 }
    .data
digits: .ascii "0123456789abcdef"
    .text
"""


class Code:
    """Text of a program being written."""

    def __init__(self, entry: int = 3) -> None:
        self.entry = entry
        self.lines: list[str] = ["    .text", "    .global _start", "    .align 8", "_start:", HEAD]
        self.data: list[str] = []
        self._labels = 0

    def __call__(self, text: str) -> Code:
        """Add lines of assembler; a line that does not begin with "{" or end with ":" becomes a wide instruction."""
        for line in text.strip().splitlines():
            line = line.strip()
            plain = line.startswith(("{", ".", "//")) or line.endswith(":") or not line
            self.lines.append(line if plain else f"{{ {line} }}")
        return self

    def label(self, stem: str = "L") -> str:
        """A fresh label."""
        self._labels += 1
        return f".{stem}{self._labels}"

    def function(self, name: str) -> Code:
        """Begin a function."""
        return self(f".align 8\n{name}:")(HEAD)

    def call(self, name: str, *arguments: str | int, result: str = "%dr16") -> Code:
        """A system call; the result goes to a register."""
        self(f"{{ nop 4; sdisp %ctpr1, {self.entry} }}")
        for index, argument in enumerate((NUMBERS[name], *arguments)):
            self(f"addd,0 0, {argument}, %db[{index}]")
        return self("{ call %ctpr1, wbs=16 }")(f"addd,0 0, %db[0], {result}")

    def invoke(self, function: str, *arguments: str | int, result: str = "%dr16") -> Code:
        """Call a function of the program."""
        self(f"{{ nop 4; disp %ctpr1, {function} }}")
        for index, argument in enumerate(arguments):
            self(f"addd,0 0, {argument}, %db[{index}]")
        return self("{ call %ctpr1, wbs=16 }")(f"addd,0 0, %db[0], {result}")

    def number(self, operand: str | int) -> Code:
        """Print a value."""
        return self.invoke("print_number", operand, result="%dr31")

    def text(self, text: str) -> str:
        """The label of a NUL-terminated string in the data."""
        label = self.label("Ltext").lstrip(".")
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self.data += [f'{label}: .asciz "{escaped}"']
        return label

    def space(self, name: str, size: int, *words: int) -> Code:
        """``size`` bytes of data called ``name``, the first of them 64-bit ``words``."""
        self.data += ["    .align 16", f"{name}:", *(f"    .dword {word:#x}" for word in words)]
        if size > 8 * len(words):
            self.data.append(f"    .skip {size - 8 * len(words)}")
        return self

    def say(self, text: str) -> Code:
        """Print a text."""
        return self.call("write", 1, self.text(text), len(text), result="%dr31")

    def load(self, address: str, register: str) -> Code:
        """Load 64 bits."""
        return self(f"{{ nop 4; ldd,0 0, {address}, {register} }}")

    def store(self, address: str, operand: str | int) -> Code:
        """Store 64 bits."""
        return self(f"addd,0 0, {operand}, %dr30")(f"std,2 %dr30, [ 0 + {address} ]")

    def branch(self, target: str, condition: str) -> Code:
        """Go to ``target`` if ``condition`` ("cmpedb %dr0, 1") holds."""
        operation, operands = condition.split(None, 1)
        self(f"disp %ctpr2, {target}")
        return self(f"{{ nop 4; {operation},0 {operands}, %pred0 }}")("{ ct %ctpr2 ? %pred0 }")

    def goto(self, target: str) -> Code:
        """Go to ``target``."""
        return self(f"{{ nop 4; disp %ctpr2, {target} }}")("{ ct %ctpr2 }")

    def leave(self, operand: str | int = 0) -> Code:
        """Return from a function."""
        return self(f"addd,0 0, {operand}, %dr0")("{ nop 5; return %ctpr3 }")("{ ct %ctpr3 }")

    def exit(self, operand: str | int = 0) -> Code:
        """End the program."""
        return self.call("exit_group", operand)

    @property
    def source(self) -> str:
        """The whole program."""
        return "\n".join([*self.lines, RUNTIME, "    .data", "    .align 16", *self.data]) + "\n"

    def build(self, directory: Path, name: str = "prog", cpu: str = "e8c") -> Path:
        """Assemble it; the executable."""
        source, program = directory / f"{name}.S", directory / name
        source.write_text(self.source)
        assert assemble(["-cpu", cpu, str(source), "-o", str(program)]) == 0
        program.chmod(0o755)
        return program


def run(program: Path, *arguments: str, options: tuple[str, ...] = (), stdin: bytes = b"",
        timeout: float = 60, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
    """Run a program by ``e2kemu-run``."""
    command = [sys.executable, "-m", "e2kemu.run_cli", *options, str(program), *arguments]
    return forked.run(command, input=stdin, capture_output=True, timeout=timeout, check=False, **kwargs)  # type: ignore[call-overload, no-any-return]


def environment(**more: str) -> dict[str, str]:
    """An environment for ``run``."""
    return {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **more}


def numbers(output: bytes) -> list[int]:
    """The values that ``number`` has printed."""
    return [int(line, 16) for line in output.split()]
