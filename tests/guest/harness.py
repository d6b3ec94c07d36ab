"""Self-checking guest programs: building and running them, and the values they compare with.

A program is ``programs/check.inc`` (which says what registers it uses), a file of its own, and data from here. The
macros whose names start with ``T`` or are ``IS`` or ``ISP`` make one check each; the area's module tells what must come
out. Between ``loop:`` and ``NEXT`` the checks are made for every row of inputs.

The values are computed by Python integers, numpy, fractions: nothing in an area's module asks the emulator.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS
from tests.cpu.guest import Guest

PROGRAMS = Path(__file__).parent / "programs"
POISON = 0x5A5A_A5A5_C3C3_3C3C
"""What result registers hold before an operation."""
M64 = (1 << 64) - 1
M32 = (1 << 32) - 1

Row = tuple[int, ...]
Values = Callable[[str, Row], int | Sequence[int]]
_CHECK = re.compile(r"^\s*(T\w*|IS|ISP)\s+(.+?)\s*(?://.*)?$")
_NEXT = re.compile(r"^\s*NEXT\b")
_MACRO = re.compile(r"^\s*\.(macro|endm)\b")


@dataclass(frozen=True)
class Area:
    """One program: ``values(check, row)`` gives what the check of that text compares with, one or several doubles.

    ``models``: the CPU models that run it. ``data`` is further assembler text. ``linux``: needs no privilege.
    """

    name: str
    values: Values
    rows: Sequence[Row] = ((),)
    models: tuple[str, ...] = ("e8c",)
    data: str = ""
    linux: bool = True
    per_part: int = 20

    @property
    def text(self) -> str:
        """The program without what it shares with others."""
        return (PROGRAMS / f"{self.name}.s").read_text()

    def parts(self) -> list[Part]:
        """The program, or several that make some of the checks of the loop each: long loops take an executor that
        compiles them long to compile."""
        lines = self.text.splitlines()
        inside = [number for number, line in _checks(lines, "loop")]
        if not inside:
            return [Part(self, self.text)]
        found = []
        for start in range(0, len(inside), self.per_part):
            dropped = set(inside) - set(inside[start : start + self.per_part])
            found.append(Part(self, "\n".join(line for i, line in enumerate(lines) if i not in dropped)))
        return found


def _checks(lines: Sequence[str], wanted: str = "") -> Iterator[tuple[int, str]]:
    """Number and text of the lines that make checks: those before, in or after the loop, or all."""
    place, inside_macro = "before", False
    for number, line in enumerate(lines):
        if found := _MACRO.match(line):
            inside_macro = found[1] == "macro"
        if inside_macro:
            continue
        if line.startswith("loop:"):
            place = "loop"
        elif _NEXT.match(line):
            place = "after"
        elif (check := _CHECK.match(line)) and wanted in ("", place):
            yield number, f"{check[1]} {check[2]}"


@dataclass(frozen=True)
class Part:
    """A program to run."""

    area: Area
    text: str

    def checks(self) -> list[tuple[str, Row]]:
        """(text of the check, row), in the order they are made."""
        lines, rows = self.text.splitlines(), self.area.rows
        before, loop, after = ([text for _, text in _checks(lines, place)] for place in ("before", "loop", "after"))
        return [*((check, rows[0]) for check in before), *((check, row) for row in rows for check in loop),
                *((check, rows[0]) for check in after)]

    def expected(self) -> list[tuple[str, int]]:
        """(what is checked, the double it must be), for every comparison."""
        found = []
        for check, row in self.checks():
            values = self.area.values(check, row)
            for value in (values,) if isinstance(values, int) else values:
                assert 0 <= value <= M64, (check, row, value)
                found.append((f"{check} on {[hex(n) for n in row]}", value))
        return found

    def source(self) -> str:
        """The whole program."""
        def doubles(numbers: Sequence[int]) -> str:
            return "\n".join("    .quad " + ", ".join(map(hex, numbers[i : i + 8])) for i in range(0, len(numbers), 8))

        return "\n".join([
            (PROGRAMS / "check.inc").read_text(), self.text, "    .data", "    .align 16", "rows:",
            doubles([n for row in self.area.rows for n in row]), "rows_end:", "expected:",
            doubles([value for _, value in self.expected()]), self.area.data])


@cache
def _executable(name: str, source: str, model: str) -> bytes:
    return executable([assemble_object(source, cpu=model, filename=f"{name}.s")])


def build(part: Part, model: str) -> bytes:
    """A program as a static Linux executable."""
    return _executable(part.area.name, part.source(), model)


def chain(parts: Sequence[Part], model: str) -> bytes:
    """One static Linux executable of many programs: each starts the next one when it has printed ok."""
    objects = []
    for number, part in enumerate(parts):
        defines = {"START": f"program{number}" if number else "_start"}
        if number + 1 < len(parts):
            defines["FOLLOWING"] = f"program{number + 1}"
        objects.append(assemble_object(part.source(), cpu=model, filename=f"{part.area.name}.s", defines=defines))
    return executable(objects)


class Runner(Guest):
    """A guest with an executor of its choice; the one that translates translates everything."""

    def __init__(self, model: str, accel: str) -> None:
        super().__init__(model=model)
        self.cpu = Cpu(0, MODELS[model], self.space, accel=accel)
        self.space.listeners.append(self.cpu.invalidate)
        self.state = self.cpu.state
        self.give_stacks()
        if self.cpu.translator is not None:
            self.cpu.translator.eager, self.cpu.translator.level = accel == "jit", 0

    def load_bytes(self, elf: bytes) -> dict[str, int]:
        """Load an executable and point pc at its start; its symbols."""
        file = ELFFile(io.BytesIO(elf))
        for segment in file.iter_segments("PT_LOAD"):
            self.space.write_bytes(segment["p_paddr"], segment.data())
        self.state.pc = file.header["e_entry"]
        self.cpu.core.syscall_hook = self._system_call
        table = file.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


LIMIT = 300_000
"""Wide instructions that no program needs."""


def run(area: Area, model: str, accel: str) -> str:
    """"ok", or how it went wrong."""
    for part in area.parts():
        result = run_part(part, model, accel)
        if result != "ok":
            return result
    return "ok"


def run_part(part: Part, model: str, accel: str) -> str:
    """What the program printed; with more words when that is the number of a check, or it did not get so far."""
    guest = Runner(model, accel)
    guest.load_bytes(build(part, model))
    end = guest.cpu.run(LIMIT)
    number, expected = guest.state["g17"], part.expected()
    if end != "exit":
        check, _ = expected[min(number, len(expected) - 1)]
        return f"{guest.cpu.fatal_message or end}; before check {number + 1}: {check}"
    if guest.output != b"ok\n":
        check, value = expected[int(guest.output) - 1]
        return f"check {int(guest.output)}: {check}: {guest.state['g20'] ^ value:#x} instead of {value:#x}"
    assert (guest.status, number) == (0, len(expected)), (guest.status, number, len(expected))
    return "ok"
