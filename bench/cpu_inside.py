"""Measurements from inside of an emulator, each in a process of its own: ``cpu_inside.py WHAT TIER FILE REPORT``.

WHAT:

    program   run a Linux program: wide instructions, CPU time of the compiling thread, memory over the guest's RAM
    latency   FILE is a guest that loops: times from ``request_exit`` to the return of ``run``
    off, small, large   run a program as a bare image on a computer: MMU off, or with tables of 4 KiB or 2 MiB pages
    cold      FILE has DISTINCT different wide instructions in line: CPU time of the first, second and third pass

REPORT gets the answer as JSON. Times are in seconds.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from e2kemu.api import Machine
from e2kemu.cpu.mmu.unit import MMU_CR, TLB_EN, U_PPTB
from e2kemu.loader import read_elf

DISTINCT = 100_000
STOPS = 3000
LOAD_AT = 16 << 20
RAM = 64 << 20


def program(tier: str, path: str) -> dict[str, Any]:
    """Run a Linux program to its end."""
    with Machine.build(machine="linux-user", kernel=path, accel=tier) as machine:
        machine.run()
        compiling = sum(time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
                        for thread in threading.enumerate() if thread.name == "translator")
        guest = sum(_resident(block.view.ctypes.data, block.size) for block in machine.ram_blocks)
        return {"executed": machine.cpus[0].executed, "compile": compiling, "memory": _high_water() - guest}


def _high_water() -> int:
    """The most memory that this process had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _resident(start: int, size: int) -> int:
    """Bytes of a mapping that are in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first:
            low, high = (int(word, 16) for word in first.split("-"))
            inside = low < start + size and start < high
        elif inside and first == "Rss:":
            total += int(rest.split()[0]) << 10
    return total


def _computer(tier: str, path: str) -> Machine:
    """A machine whose CPU is about to execute what is in the file."""
    machine = Machine.build(machine="elbrus", cpu="e8c", ram=RAM, kernel=path, accel=tier)
    machine.breakpoints.add(LOAD_AT)
    machine.cpus[0].run()
    machine.breakpoints.clear()
    if machine.read_reg("pc") != LOAD_AT:
        raise SystemExit(f"the firmware does not come to {LOAD_AT:#x}")
    return machine


def latency(tier: str, path: str) -> dict[str, Any]:
    """Stop a hot loop again and again."""
    with _computer(tier, path) as machine:
        cpu = machine.cpus[0]
        cpu.run(5_000_000 if tier == "reference" else 500_000_000)
        returned, go, done = 0.0, threading.Semaphore(0), threading.Semaphore(0)

        def run() -> None:
            nonlocal returned
            for _ in range(STOPS):
                go.acquire()
                cpu.run()
                returned = time.perf_counter()
                done.release()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        choose, times = random.Random(4), []
        for _ in range(STOPS):
            go.release()
            time.sleep(choose.uniform(0.0001, 0.001))
            asked = time.perf_counter()
            cpu.request_exit()
            done.acquire()
            times.append(returned - asked)
        thread.join()
        return {"times": times}


def cold(tier: str, path: str) -> dict[str, Any]:
    """Go through code that does not repeat."""
    with _computer(tier, path) as machine:
        cpu, passes = machine.cpus[0], []
        for _ in range(3):
            machine.write_reg("pc", LOAD_AT)
            before = time.thread_time()
            reason = cpu.run(DISTINCT)
            passes.append(time.thread_time() - before)
            if reason != "limit":
                raise SystemExit(f"cold code ended with {reason} at {machine.read_reg('pc'):#x}: {cpu.fatal_message}")
        return {"passes": passes, "count": DISTINCT}


TABLES, STACKS, BARE_RAM = 48 << 20, 56 << 20, 64 << 20
"""Where a bare image finds its page tables and stacks, at the end of its RAM."""


def bare(tier: str, path: str, pages: str) -> dict[str, Any]:
    """Run a program that writes and exits, without firmware or kernel: CPU time of the CPU's thread."""
    status, output = None, b""
    with Machine.build(cpu="e8c", ram=BARE_RAM, accel=tier) as machine:
        cpu = machine.cpus[0]

        def call(entry: int, wbs: int) -> None:
            nonlocal status, output
            number, first, second, third = (machine.read_reg(f"r{2 * wbs + i}") for i in range(4))
            if number == 4:
                output += machine.read_mem(second, third)
                machine.write_reg(f"r{2 * wbs}", third)
            else:
                status = first
                cpu.request_exit()

        image = read_elf(path)
        for segment in image.segments:
            machine.write_mem(segment.address, segment.data)
        machine.write_reg("pc", image.entry)
        cpu.core.syscall_hook = call
        for name, value in (("psp.lo", STACKS), ("psp.hi", 1 << 52), ("pcsp.lo", STACKS + (1 << 20)),
                            ("pcsp.hi", 1 << 52), ("sbr", STACKS + (3 << 20)), ("usd.lo", STACKS + (3 << 20)),
                            ("usd.hi", 1 << 52)):
            machine.write_reg(name, value)
        if pages != "off":
            _identity(machine, large=pages == "large")
        began = time.thread_time()
        reason = cpu.run()
        spent = time.thread_time() - began
        if reason != "exit" or status is None:
            raise SystemExit(f"{path} with the MMU {pages}: {reason} {cpu.fatal_message}")
        return {"seconds": spent, "executed": cpu.executed, "status": status, "output": output.decode()}


def _identity(machine: Machine, *, large: bool) -> None:
    """Page tables that map the RAM to itself; the MMU uses them."""
    mmu = machine.cpus[0].core.mmu
    f = mmu.format
    leaf = f.present | f.valid | f.write
    table = f.present | f.valid
    for level in (0, 1):
        machine.write_mem(TABLES + 4096 * level, (TABLES + 4096 * (level + 1) | table).to_bytes(8, "little"))
    for number in range(BARE_RAM >> 21):
        start, below = number << 21, TABLES + 4096 * (3 + number)
        entry = start | leaf | f.huge if large else below | table
        machine.write_mem(TABLES + 8192 + 8 * number, entry.to_bytes(8, "little"))
        machine.write_mem(below, b"".join((start + (page << 12) | leaf).to_bytes(8, "little") for page in range(512)))
    mmu.write_register(U_PPTB, TABLES)
    mmu.write_register(MMU_CR, TLB_EN)


def main() -> int:
    """Do one of them."""
    what, tier, path, report = sys.argv[1:]
    ways: dict[str, Callable[[str, str], dict[str, Any]]] = {
        "program": program, "latency": latency, "cold": cold,
        **{pages: partial(bare, pages=pages) for pages in ("off", "small", "large")}}
    found = ways[what](tier, path)
    Path(report).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
