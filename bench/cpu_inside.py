"""Measurements from inside of an emulator, each in a process of its own: ``cpu_inside.py WHAT TIER FILE REPORT``.

WHAT:

    program   run a Linux program: wide instructions, CPU time of the compiling thread, memory over the guest's RAM
    latency   FILE is a guest that loops: times from ``request_exit`` to the return of ``run``
    cold      FILE has DISTINCT different wide instructions in line: CPU time of the first, second and third pass

REPORT gets the answer as JSON. Times are in seconds.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from e2kemu.api import Machine

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


def main() -> int:
    """Do one of them."""
    what, tier, path, report = sys.argv[1:]
    found = {"program": program, "latency": latency, "cold": cold}[what](tier, path)
    Path(report).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
