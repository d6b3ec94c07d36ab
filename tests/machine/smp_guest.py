"""Guests with several CPUs for tests: one program in the boot ROM, every CPU starts in a page of its own there.

CPU N begins with N in %dr0 and the number of CPUs in %dr1, at the label ``main``. The first one comes from reset, the
others are started by the test, as an interrupt controller would. A CPU that is done adds 1 to the word at DONE.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2kemu.api import Machine
from e2kemu.cpu.asm import assemble

ROM = 0x1_0000_0000
DATA = 0x10_0000
"""RAM for the programs' variables; zero at the start."""
DONE = DATA + 0x800
VERSION = {"e8c": 4, "e8c2": 5, "e16c": 6}

END = """
        disp %ctpr1, finish
        ct %ctpr1
"""
"""Jump to the end, from anywhere."""

_FINISH = f"""
finish:
        addd,0 0, {DONE:#x}, %dr2
again:
        ldd,0 [ %dr2 + 0 ], %dr3, mas=7
        addd,0 %dr3, 1, %dr3
        {{
          std,2 %dr3, [ %dr2 + 0 ], mas=2
          ibranch again ? %MLOCK
        }}
stay:
        addd,0 0, 0, %dr4
        stw,2 %r4, [ %dr2 + 8 ]
        ibranch stay
"""


def source(program: str, cpus: int) -> str:
    """The whole ROM."""
    stubs = ""
    for number in range(cpus):
        stubs += f"""
        .org {number * 4096:#x}
        setwd wsz = 16, nfx = 1
        {{
          addd,0 0, {number}, %dr0
          addd,1 0, {cpus}, %dr1
        }}
        ibranch main
"""
    return f"{stubs}\n        .org {cpus * 4096:#x}\nmain:\n{program}\n{END}\n{_FINISH}\n"


class SmpGuest:
    """A machine that runs ``program`` on all its CPUs."""

    def __init__(self, directory: Path, program: str, cpus: int, *, accel: str = "jit", cpu: str = "e8c",
                 eager: bool = False, **options: Any) -> None:
        rom = directory / f"smp-{time.monotonic_ns()}.bin"
        rom.write_bytes(assemble(source(program, cpus), version=VERSION[cpu], base=ROM).data)
        self.machine = Machine.build(ram="32M", bios=str(rom), smp=cpus, accel=accel, cpu=cpu, **options)
        self.cpus = cpus
        if eager:
            for one in self.machine.cpus:
                one.translator.eager = True
        for number in range(1, cpus):
            self.machine.cpus[number].interrupts.startup((ROM >> 12) + number)

    def word(self, offset: int, size: int = 8) -> int:
        """A variable of the program, at DATA + ``offset``."""
        return int.from_bytes(self.machine.read_mem(DATA + offset, size), "little")

    def run(self, timeout: float = 60) -> None:
        """Until all CPUs are done."""
        ended = self.machine.run(timeout=timeout, until=lambda machine: self.done == self.cpus)
        assert ended == "until", (ended, self.done, [hex(cpu.state.pc) for cpu in self.machine.cpus])

    @property
    def done(self) -> int:
        """How many CPUs have ended."""
        return self.word(DONE - DATA)


@contextmanager
def smp(*arguments: Any, **options: Any) -> Iterator[SmpGuest]:
    """A guest that is closed at the end."""
    guest = SmpGuest(*arguments, **options)
    try:
        yield guest
    finally:
        guest.machine.close()
