"""What a person reads when a program dies of a fault: where, why, the registers, the code, who called whom."""

from __future__ import annotations

import bisect
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.disasm import disassemble_at
from e2kemu.cpu.info import format_registers
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.linux import frames, hwstacks
from e2kemu.linux.siginfo import SigInfo, signal_name

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel
    from e2kemu.linux.task import Task

DEEPEST = 32
"""Callers that are shown."""

DESCRIPTIONS = {"SIGSEGV": "Segmentation fault", "SIGILL": "Illegal instruction", "SIGFPE": "Arithmetic exception",
                "SIGBUS": "Bus error", "SIGTRAP": "Trap"}


class Symbols:
    """Functions of the files of a process, by address; read when they are first wanted."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._names: list[str] = []

    def add(self, stream: Any, base: int) -> None:
        """The symbols of an ELF file loaded ``base`` above its addresses; none when they cannot be read."""
        from elftools.elf.elffile import ELFFile

        found = dict(zip(self._starts, self._names, strict=True))
        with suppress(Exception):          # a program without usable symbols is a program
            table: Any = ELFFile(stream).get_section_by_name(".symtab")
            for symbol in table.iter_symbols() if table is not None else ():
                kind, value = symbol["st_info"]["type"], symbol["st_value"]
                defined = value and symbol["st_shndx"] != "SHN_UNDEF"
                if symbol.name and defined and kind in ("STT_FUNC", "STT_NOTYPE"):
                    found.setdefault(value + base, symbol.name)
        self._starts = sorted(found)
        self._names = [found[start] for start in self._starts]

    def add_file(self, path: str, base: int, *places: str | None) -> None:
        """``add`` for the file with this guest path, looked for in ``places`` first."""
        for place in (*filter(None, places), ""):
            with suppress(OSError):
                with open(place + path, "rb") as stream:
                    self.add(stream, base)
                return

    def name(self, address: int) -> str:
        """``<main+0x10>``, "" where nothing is known."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address - self._starts[index] > 1 << 24:
            return ""
        offset = address - self._starts[index]
        return f" <{self._names[index]}{f'+{offset:#x}' if offset else ''}>"


def fault_report(kernel: Kernel, task: Task, info: SigInfo, detail: str, exc: int | None) -> str:
    """Several lines; the first says it all."""
    state, process = kernel.state, kernel.process
    name = signal_name(info.signo)
    what = DESCRIPTIONS.get(name, "Killed")
    cause = BY_BIT[exc].name if exc is not None else ""
    reason = ": ".join(filter(None, (cause, detail)))
    symbols = kernel.symbols()
    thread = f" thread {task.tid}" if len(process.tasks) > 1 else ""
    who = f"{os.path.basename(process.executable) or 'program'}[{process.pid}]{thread}"
    lines = [f"e2kemu: {who}: {what} ({name}) at {state.pc:#x}{symbols.name(state.pc)}"
             + (f": {reason}" if reason else "")]
    lines += ["Registers:", *format_registers(kernel.cpu).splitlines()]
    lines += ["Wide instruction:", *(f"  {line}" for line in _code(kernel, state.pc))]
    lines.append("Call chain:")
    lines.append(f"  #0  {state.pc:#x}{symbols.name(state.pc)}")
    for depth, (_, ip, _, _) in enumerate(hwstacks.chain(state, process.map), 1):
        address = ip & (1 << 48) - 1
        if not address or depth > DEEPEST:
            break
        where = " (signal handler called)" if address == frames.RETURN else symbols.name(address)
        lines.append(f"  #{depth:<2d} {address:#x}{where}")
    return "\n".join(lines) + "\n"


def _code(kernel: Kernel, pc: int) -> list[str]:
    area = kernel.process.map.find(pc)
    if area is None:
        return [f"{pc:#x}: nothing is mapped there"]
    data = kernel.process.map.load(pc, min(64, area.end - pc))
    try:
        size, text = disassemble_at(data, kernel.cpu.model.version, pc)
    except DecodeError as error:
        return [f"{pc:#x}: {data[:16].hex(' ')} ... ({error})"]
    return [f"{pc:#x}: {data[:size].hex(' ', 4)}", *(f"    {line}" for line in text)]
