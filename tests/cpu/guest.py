"""A CPU with some RAM for tests, with programs from text or from an ELF file of tests/data."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

from elftools.elf.elffile import ELFFile

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, RAMRegion

DATA = Path(__file__).parent.parent / "data"
CODE, STACKS = 0x10000, 0x800000
RAM = 64 << 20


class Guest:
    """A CPU on 64 MiB of RAM at 0. ``stacks``: procedure and chain stack of 1 MiB each, a user stack."""

    def __init__(self, text: str = "", model: str = "e8c", *, stacks: bool = True, accel: str = "jit") -> None:
        self.space = AddressSpace()
        self.ram = RAMBlock("ram", RAM)
        self.space.map(0, RAMRegion(self.ram), "ram")
        self.cpu = Cpu(0, MODELS[model], self.space, accel=accel)
        self.space.listeners.append(self.cpu.invalidate)
        self.state = self.cpu.state
        self.output = b""
        self.status: int | None = None
        if stacks:
            self.give_stacks()
        self.symbols: dict[str, int] = {}
        if text:
            self.load(text)

    def give_stacks(self) -> None:
        """Areas for the hardware stacks and the user stack."""
        s = self.state
        s["psp.lo"], s["psp.hi"] = STACKS, 0x100000 << 32
        s["pcsp.lo"], s["pcsp.hi"] = STACKS + 0x100000, 0x100000 << 32
        s["sbr"] = s["usd.lo"] = STACKS + 0x300000
        s["usd.hi"] = 0x100000 << 32

    def load(self, text: str, base: int = CODE) -> None:
        """Assemble ``text`` at ``base`` and point pc there."""
        image = assemble(text, version=self.cpu.model.version, base=base)
        self.space.write_bytes(base, image.data)
        self.symbols.update(image.symbols)
        self.state.pc = base

    def load_elf(self, name: str) -> None:
        """A static Linux program of tests/data; system calls write (4) and exit (1) are there."""
        elf = ELFFile(io.BytesIO(lzma.decompress((DATA / f"{name}.elf.xz").read_bytes())))
        for segment in elf.iter_segments("PT_LOAD"):
            self.space.write_bytes(segment["p_paddr"], segment.data())
        self.state.pc = elf.header["e_entry"]
        self.cpu.core.syscall_hook = self._system_call

    def _system_call(self, entry: int, wbs: int) -> None:
        number, first, second, third = (self.state[f"r{2 * wbs + i}"] for i in range(4))
        if number == 4 and first == 1:
            self.output += self.space.read_bytes(second, third)
            self.state[f"r{2 * wbs}"] = third
        elif number == 1:
            self.status = first
            self.cpu.request_exit()
        else:
            raise AssertionError(f"system call {number} through entry {entry}")
