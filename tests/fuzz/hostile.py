"""A hostile guest: random privileged code, random accesses to devices: python -m tests.fuzz.hostile --seconds 3600

Each case is a machine with one or two CPUs, a disk and a network card, whose memory holds code of three kinds, mixed:
bytes, wide instructions of random syllables, and lines that mean harm: stores of anything to registers of devices, to
state registers and to those of the MMU, page tables of noise, trap tables in the middle of it. Its CPUs run in turn, or
in threads of their own. Whatever it does, the emulator must come back, raise nothing but its own end of the guest,
and be able to be looked at, saved and reset.
"""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path

from e2kemu.api import Machine
from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.cpu.info import format_registers
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.registers import STATE_REGISTERS
from e2kemu.cpu.mmu.info import mem_lines, tlb_lines
from e2kemu.cpu.state import CTPR1, OSCUD_HI, OSCUD_LO, PSR, CpuState
from e2kemu.errors import ImageError
from e2kemu.machine.config import ACCELERATORS
from tests.fuzz.code import random_bundle
from tests.fuzz.loop import main

RAM = 32 << 20
CODE, SIZE = 0x10_0000, 0x4000
TABLES = 0x20_0000
BUDGET, ROUNDS = 3000, 12
"""Wide instructions of each CPU in a round; rounds of a case: code and tables of one are good for several."""
HANG = 60.0
"""Seconds of CPU time after which a case, which takes a fraction of one, is called a hang and ends the fuzzer; so is
one that takes so many seconds and uses hardly any CPU time, however busy the host is, and one that takes ten times as
many."""
STARVED = 0.005
"""Part of a CPU that a process gets on the busiest host."""
THREADS = 0.05
"""Seconds that the CPUs run in threads of their own, where they do."""
DISK = 1 << 20

PLAIN = ("e2s", "e8c", "e8c2", "e16c")
"""A CPU model of each kind of MMU and interrupt controller."""


@cache
def machine_of(model: str, accel: str, cpus: int) -> Machine:
    """The machine of many cases: each begins with a reset. Its network reaches nothing."""
    disk = _folder() / f"{model}-{accel}-{cpus}"
    disk.write_bytes(bytes(DISK))
    return Machine.build(ram=RAM, cpu=model, accel=accel, smp=cpus, drives=[f"file={disk},format=raw,if=virtio"],
                         nics=["user,restrict=on"])


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp())


LINES = (
    "{ setsft }", "{ done }", "{ flushr }", "{ flushc }", "{ wait all_e=1 }", "{ wait trap=1 }", "{ ct %ctpr1 }",
    "{ setwd wsz=8, nfx=1 }", "{ setbn rbs=1, rsz=3, rcur=0 }", "{ return %ctpr3 }", "{ ct %ctpr3 }",
    "{ sdisp %ctpr1, 3 }", "{ call %ctpr1, wbs=4 }",
)


def address(choose: random.Random, machine: Machine) -> int:
    """Somewhere: a device's register, RAM, the page tables, the code itself, nowhere."""
    kind = choose.randrange(8)
    if kind < 4:
        place = choose.choice([piece for piece in machine.space.ranges if piece.block is None])
        return place.start + choose.randrange(min(place.end - place.start, 0x4000))
    if kind == 4:
        return choose.choice((CODE, TABLES)) + choose.randrange(SIZE)
    if kind == 5:
        return choose.randrange(RAM)
    return choose.getrandbits(choose.choice((32, 48, 64)))


def value(choose: random.Random, machine: Machine) -> int:
    """What is stored: small, all ones, a bit, an address, anything."""
    kind = choose.randrange(6)
    if kind == 0:
        return choose.randrange(64)
    if kind == 1:
        return (1 << 64) - 1
    if kind == 2:
        return 1 << choose.randrange(64)
    if kind == 3:
        return address(choose, machine)
    return choose.getrandbits(choose.choice((16, 32, 64)))


def harm(choose: random.Random, machine: Machine) -> str:
    """One line of assembly that a good kernel would not write."""
    kind = choose.randrange(10)
    low, high = f"0x{value(choose, machine):x}", f"0x{address(choose, machine):x}"
    if kind < 3:
        size, channel = choose.choice("bhwd"), choose.choice((2, 5))
        return (f"{{ addd,0 0, {low}, %dr4 ; addd,1 0, {high}, %dr5 }}\n"
                f"{{ st{size},{channel} %{'d' * (size == 'd')}r4, [ %dr5 + 0 ] }}")
    if kind < 5:
        size, channel = choose.choice("bhwd"), choose.choice((0, 2, 3, 5))
        return f"{{ addd,1 0, {high}, %dr5 }}\n{{ ld{size},{channel} [ %dr5 + 0 ], %{'d' * (size == 'd')}r6 }}"
    if kind < 7:
        register = choose.choice(STATE_REGISTERS).name
        return f"{{ addd,0 0, {low}, %dr4 }}\n{{ rwd,0 %dr4, %{register} }}"
    if kind == 7:
        mas = choose.choice((0x07, 0x0F, 0x17, 0x1F, 0x27, 0x47, 0x4F, 0x57, 0x5F, 0x67, 0x6F, 0x01, 0x06))
        number = choose.randrange(0x50) << 4 | choose.choice((0, 0, 0, choose.randrange(16)))
        return (f"{{ addd,0 0, {low}, %dr4 ; addd,1 0, 0x{number:x}, %dr5 }}\n"
                f"{{ std,2 %dr4, [ %dr5 + 0 ], mas=0x{mas:x} }}")
    if kind == 8:
        mas = choose.choice((0x2F, 0x37, 0x47, 0x4F, 0x5F, 0x6F, 0x01, 0x06))
        return f"{{ addd,1 0, {high}, %dr5 }}\n{{ ldd,2 [ %dr5 + 0 ], %dr6, mas=0x{mas:x} }}"
    return choose.choice(LINES)


def code(choose: random.Random, machine: Machine, version: int) -> bytes:
    """SIZE bytes of it."""
    made = bytearray()
    while len(made) < SIZE:
        kind = choose.random()
        if kind < 0.1:
            made += choose.randbytes(8 * choose.randrange(1, 9))
        elif kind < 0.5:
            try:
                made += random_bundle(choose, version)
            except ImageError:
                continue
        else:
            try:
                made += assemble(harm(choose, machine), version=version, base=CODE + len(made)).data
            except AsmError:
                continue
    return bytes(made[:SIZE])


def entries(choose: random.Random) -> bytes:
    """Page tables: entries that lead somewhere, and noise."""
    made = []
    for _ in range(4 * 512):
        flags = choose.choice((0x1_0000_0000_63, 0x100_0000_0063, 0x30_0000_0063, 0x6B, choose.getrandbits(64)))
        frame = choose.choice((TABLES, TABLES + 0x1000, TABLES + 0x2000, CODE, choose.randrange(RAM))) & ~0xFFF
        entry = (flags | frame | 0x100_0000_0001) & (1 << 64) - 1
        made.append(entry if choose.random() < 0.9 else choose.getrandbits(64))
    return b"".join(entry.to_bytes(8, "little") for entry in made)


def prepare(choose: random.Random, machine: Machine, state: CpuState) -> None:
    """Registers as a kernel may have them, or not; somewhere in the code."""
    state.pc = CODE + 8 * choose.randrange(SIZE >> 3)
    for number in range(16):
        state.set(f"r{number}", value(choose, machine))
    state.S[PSR] = choose.getrandbits(7) | 1
    for name in ("psp.lo", "pcsp.lo", "usd.lo", "sbr"):
        state[name] = value(choose, machine) if choose.random() < 0.1 else 0x40_0000 + choose.randrange(64) * 0x1000
    for name in ("psp.hi", "pcsp.hi", "usd.hi"):
        state[name] = value(choose, machine) if choose.random() < 0.1 else 0x4000 << 32
    for number in range(3):
        state.S[CTPR1 + number] = CODE + 8 * choose.randrange(SIZE >> 3) | 3 << 54
    if choose.random() < 0.8:
        state.S[OSCUD_LO], state.S[OSCUD_HI] = CODE + 0x800 * choose.randrange(4), 0x10_0000 << 32


def _run_in_turn(choose: random.Random, machine: Machine, seen: Counter[str]) -> None:
    for _ in range(ROUNDS):
        for cpu in machine.cpus:
            if choose.random() < 0.7:
                prepare(choose, machine, cpu.state)
            before = cpu.executed
            reason = cpu.run(BUDGET)
            seen[reason] += 1
            seen["executed"] += cpu.executed - before
        machine.loop.run_once(0)
        if machine.exit_status is not None:
            seen["ended itself"] += 1
            break


def _run_in_threads(choose: random.Random, machine: Machine, seen: Counter[str]) -> None:
    for cpu in machine.cpus:
        prepare(choose, machine, cpu.state)
    before = sum(cpu.executed for cpu in machine.cpus)
    seen[f"in threads: {machine.run(timeout=THREADS)}"] += 1
    seen["executed"] += sum(cpu.executed for cpu in machine.cpus) - before


def case(choose: random.Random, seen: Counter[str]) -> None:
    """One guest."""
    model, accel = choose.choice(PLAIN), choose.choice(ACCELERATORS)
    machine = machine_of(model, accel, choose.choice((1, 2)))
    version = MODELS[model].version
    machine.reset()
    machine.space.write_bytes(CODE, code(choose, machine, version))
    machine.space.write_bytes(TABLES, entries(choose))
    for cpu in machine.cpus:
        if cpu.index and choose.random() < 0.7:
            cpu.interrupts.startup(CODE >> 12)
    if choose.random() < 0.15:
        _run_in_threads(choose, machine, seen)
    else:
        _run_in_turn(choose, machine, seen)
    if choose.random() < 0.2:
        for cpu in machine.cpus:
            format_registers(cpu)
            list(tlb_lines(cpu.mmu))
            list(mem_lines(cpu.mmu))
        seen["looked at"] += 1
    if choose.random() < 0.1:
        machine.save("/dev/null")
        seen["saved"] += 1


class Watch:
    """Ends the process when a case hangs: status 1 and where every thread is."""

    def __init__(self) -> None:
        self._begun = time.monotonic(), time.process_time()
        threading.Thread(target=self._look, daemon=True).start()

    def case(self, choose: random.Random, seen: Counter[str]) -> None:
        """One case, watched."""
        self._begun = time.monotonic(), time.process_time()
        case(choose, seen)

    def _look(self) -> None:
        while True:
            time.sleep(1)
            wall, used = self._begun
            wall, used = time.monotonic() - wall, time.process_time() - used
            if used > HANG or wall > 10 * HANG or (wall > HANG and used < STARVED * wall):
                print(f"a case hangs: {wall:.0f} s, {used:.1f} s of CPU time", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Watch().case, __doc__ or "", at_end=lambda: shutil.rmtree(_folder())))
