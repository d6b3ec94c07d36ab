"""A guest that takes interrupts and writes down which: the ROM that the tests of interrupt paths run.

Every CPU has a log of 64 KiB at ``LOG + number * 0x10000``: 16 bytes for each interrupt, TIR.hi and what the controller
said (VECT or VECT_INTA, NM or PNMIRR). ``%dg16`` is the end of the log, ``%dg17`` the local controller, ``%dg18`` that
of the devices, ``%dg19`` the CPU's number, ``%dg20`` what a handler may count with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2kemu.api import Machine
from e2kemu.cpu.asm import assemble

ROM, LOG, FLAGS = 0x1_0000_0000, 0x10_0000, 0x20_0000
LOCAL, IO = 0xFEE0_0000, 0xFEC0_0000
INTERRUPT, NON_MASKABLE = 1 << 32, 1 << 33
APIC, EPIC = "e8c", "e16c"
"""A CPU model with each kind of controller."""


def put(address: int | str, value: int | str, size: str = "w") -> str:
    """Store a constant or register at a constant address or one in a register."""
    where = f"    addd,0 0, {address:#x}, %dr14\n" if isinstance(address, int) else f"    addd,0 {address}, 0, %dr14\n"
    what = f"    addd,0 0, {value:#x}, %dr15\n" if isinstance(value, int) else f"    addd,0 {value}, 0, %dr15\n"
    return where + what + f"    st{size},2 %{'d' if size == 'd' else ''}r15, [ %dr14 + 0 ]\n"


def wait_flag(number: int) -> str:
    """Until the word FLAGS + 8 * number is not 0."""
    return f"""
wait_flag{number}:
    addd,0 0, {FLAGS + 8 * number:#x}, %dr14
    {{ nop 4
       ldw,0 [ %dr14 + 0 ], %r15 }}
    {{ nop 2
       cmpesb,0 %r15, 0, %pred0 }}
    ibranch wait_flag{number} ? %pred0
"""


class Controller:
    """How a guest uses the controllers of one kind."""

    model = APIC
    who, enable_offset, enable_value = 0x20, 0xF0, 0x1FF
    inta, eoi, reasons = 0xFF0, 0xB0, 0xFE0
    timer_lvt, timer_initial, timer_divide = 0x320, 0x380, 0x3E0
    shift = 24
    """Of the number in the register ``who``."""
    finish = put("%dr3", 0)
    """The end of an interrupt; %dr2 what VECT said, %dr3 the address of EOI."""

    def io(self, pin: int, vector: int, *, level: bool, cpu: int = 0) -> str:
        """Let a pin interrupt a CPU."""
        return (put(IO, 0x11 + 2 * pin) + put(IO + 0x10, cpu << 24)
                + put(IO, 0x10 + 2 * pin) + put(IO + 0x10, vector | 0x8000 * level))

    def end_level(self, pin: int) -> str:
        """What a handler does beside for a level-triggered pin."""
        return ""

    def send(self, vector: int, cpu: int, mode: int = 0) -> str:
        """An interrupt for another CPU."""
        return put(LOCAL + 0x310, cpu << 24) + put(LOCAL + 0x300, vector | mode << 8)

    nmi, startup = 4, 6


class EpicController(Controller):
    """v6."""

    model = EPIC
    who, enable_offset, enable_value = 0x10, 0x00, 0x400
    inta, eoi, reasons = 0x2F0, 0xA0, 0x1E0
    timer_lvt, timer_initial, timer_divide = 0x220, 0x230, 0x250
    shift = 0
    finish = """
    { nop 2
      ands,0 %r2, 0x70000, %r4 }
    stw,2 %r4, [ %dr3 + 0 ]
"""

    def io(self, pin: int, vector: int, *, level: bool, cpu: int = 0) -> str:
        base = IO + 0x1000 * pin
        return put(base + 0x24, vector) + put(base + 0x2C, cpu << 6) + put(base + 0x20, 0x8000 * level)

    def end_level(self, pin: int) -> str:
        return put(IO + 0x1000 * pin + 0x20, 0x1000)

    def send(self, vector: int, cpu: int, mode: int = 0) -> str:
        return put(LOCAL + 0x200, vector | mode << 13 | cpu << 40, "d")


CONTROLLERS = {APIC: Controller(), EPIC: EpicController()}


def source(controller: Controller, body: str, handler: str = "", second: str = "", psr: int = 0x23) -> str:
    """The ROM: CPU 0 does ``body``, the others ``second``; ``handler`` is done for every maskable interrupt,
    before it ends, with its vector in %r2 (%dr4.. are free)."""
    return f"""
    .text
start:
    setwd wsz=16, nfx=1
    addd,0 0, {LOCAL:#x}, %dg17
    addd,0 0, {IO:#x}, %dg18
    addd,0 0, 0, %dg20
    addd,0 %dg17, {controller.who:#x}, %dr0
    {{ nop 4
       ldw,0 [ %dr0 + 0 ], %r1 }}
    shrs,0 %r1, {controller.shift}, %r1
    sxt,0 6, %r1, %dg19
    shld,0 %dg19, 16, %dr2
    addd,0 %dr2, {LOG:#x}, %dg16
    shld,0 %dg19, 16, %dr2
    addd,0 %dr2, 0x1800000000400000, %dr3
    rwd %dr3, %psp.lo
    rwd 0x8000 << 32, %psp.hi
    addd,0 %dr3, 0x8000, %dr3
    rwd %dr3, %pcsp.lo
    rwd 0x8000 << 32, %pcsp.hi
    rwd {ROM + 0x4000:#x}, %oscud.lo
    rwd 0x8000 << 32, %oscud.hi
    {put(LOCAL + controller.enable_offset, controller.enable_value)}
    {{ nop 2
       cmpedb,0 %dg19, 0, %pred0 }}
    ibranch other ? ~%pred0
    {body}
allow:
    adds,0 0, {psr:#x}, %r0
    {{ nop 4
       rws,0 %r0, %psr }}
spin:
    ibranch spin
other:
    {second}
    ibranch allow

    .org 0x4000
handle:
    setwd wsz=16, nfx=1
    rrd %tir.hi, %dr0
    rrd %tir.lo, %dr1
    std,2 %dr0, [ %dg16 + 0 ]
    {{ nop 2
       shrd,0 %dr0, 33, %dr1 }}
    {{ nop 2
       cmpandesb,0 %r1, 1, %pred0 }}
    ibranch maskable ? %pred0
    addd,0 %dg17, {controller.reasons:#x}, %dr3
    {{ nop 4
       ldw,0 [ %dr3 + 0 ], %r2 }}
    stw,2 %r2, [ %dr3 + 0 ]
    stw,2 %r2, [ %dg16 + 8 ]
    addd,0 %dg16, 16, %dg16
    ibranch return
maskable:
    addd,0 %dg17, {controller.inta:#x}, %dr3
    {{ nop 4
       ldw,0 [ %dr3 + 0 ], %r2 }}
    stw,2 %r2, [ %dg16 + 8 ]
    addd,0 %dg16, 16, %dg16
    {handler}
    addd,0 %dg17, {controller.eoi:#x}, %dr3
    {controller.finish}
return:
    {{ nop 3 }}
    done
"""


MakeGuest = Callable[..., Machine]


def make_guest(directory: Path, controller: Controller, body: str, handler: str = "", second: str = "",
               **options: Any) -> Machine:
    """A machine with that ROM, not started."""
    rom = directory / "rom"
    rom.write_bytes(assemble(source(controller, body, handler, second), version=4, base=ROM).data)
    return Machine.build(ram="32M", cpu=controller.model, bios=str(rom), **options)


def log(machine: Machine, cpu: int = 0) -> list[tuple[int, int]]:
    """(TIR.hi, what the controller said) of every interrupt of that CPU so far."""
    data = machine.read_mem(LOG + cpu * 0x10000, 0x10000)
    entries = [(tir, said) for tir, said, _ in struct.iter_unpack("<QII", data)]
    return [(tir, said) for tir, said in entries if tir]
