"""Several CPUs: how much more they do, what a lock costs, how fast they all stand still.

    python bench/smp.py [--cpus 2] [--seconds 2] [--rounds 5] [--accel jit]

Prints, as medians of rounds in which the compared runs come in turn:

    independent   work of N CPUs in a time against that of one, each in a loop and memory of its own
    locked        the same where each turn of the loop takes a spin lock that all share: turns with N CPUs against one
    stop          milliseconds from the request until all CPUs stand still (4 CPUs), median, 99th of a hundred, worst

Work is wide instructions for the first, turns for the second. A host with fewer idle cores than CPUs shows what it has:
compare with ``host``, the same measure of two processes that only compute.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from e2kemu.api import Machine
from tests.machine.smp_guest import DATA, SmpGuest

STOPS = 300

INDEPENDENT = f"""
        shld,0 %dr0, 16, %dr8
        addd,0 %dr8, {DATA + 0x1000:#x}, %dr8
        addd,0 0, 0, %dr9
        addd,0 0, 1, %dr10
        disp %ctpr2, turn
turn:
        ldd,0 [ %dr8 + 0 ], %dr11
        addd,0 %dr9, 1, %dr9
        xord,0 %dr11, %dr9, %dr11
        shld,0 %dr10, 5, %dr12
        addd,0 %dr12, %dr11, %dr10
        std,2 %dr10, [ %dr8 + 0 ]
        std,2 %dr9, [ %dr8 + 8 ]
        cmpesb,0 %r9, 0, %pred0
        ct %ctpr2 ? ~%pred0
"""

LOCKED = f"""
        addd,0 0, {DATA:#x}, %dr8
        shld,0 %dr0, 16, %dr13
        addd,0 %dr13, {DATA + 0x1000:#x}, %dr13
        addd,0 0, 0, %dr12
        addd,0 0, 1, %dr11
        addd,0 0, 0, %dr9
        disp %ctpr2, turn
turn:
take:
        ldw,0 [ %dr8 + 0 ], %dr14, mas=7
        cmpesb,0 %r14, 0, %pred1
        {{
          stw,2 %r11, [ %dr8 + 0 ], mas=2 ? %pred1
          ibranch take ? %MLOCK
        }}
        ibranch take ? ~%pred1
        ldd,0 [ %dr8 + 0x100 ], %dr15
        addd,0 %dr15, 1, %dr15
        std,2 %dr15, [ %dr8 + 0x100 ]
        wait st_c = 1, ld_c = 1
        stw,2 %r12, [ %dr8 + 0 ]
        addd,0 0, 60, %dr16
        disp %ctpr3, work
work:
        muld,0 %dr16, %dr16, %dr17
        subd,0 %dr16, 1, %dr16
        cmpesb,0 %r16, 0, %pred2
        ct %ctpr3 ? ~%pred2
        addd,0 %dr9, 1, %dr9
        std,2 %dr9, [ %dr13 + 8 ]
        cmpesb,0 %r9, 0, %pred0
        ct %ctpr2 ? ~%pred0
"""


def turns(machine: Machine, cpus: int) -> int:
    """How often the CPUs went through their loops."""
    return sum(int.from_bytes(machine.read_mem(DATA + 0x1008 + 0x10000 * cpu, 8), "little") for cpu in range(cpus))


def work(directory: Path, program: str, cpus: int, accel: str, seconds: float) -> float:
    """Turns a second of all CPUs together, once everything is translated."""
    guest = SmpGuest(directory, program, cpus, accel=accel)
    try:
        guest.machine.run(timeout=1.5 if accel == "jit" else 0.2)
        before, began = turns(guest.machine, cpus), time.monotonic()
        guest.machine.run(timeout=seconds)
        return (turns(guest.machine, cpus) - before) / (time.monotonic() - began)
    finally:
        guest.machine.close()


def host(count: int, seconds: float) -> float:
    """Work of ``count`` processes that only compute."""
    text = f"import time\nend=time.monotonic()+{seconds}\nn=0\nwhile time.monotonic()<end:\n n+=1\nprint(n)"
    processes = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) for _ in range(count)]
    return float(sum(int(process.communicate()[0]) for process in processes))


def stops(directory: Path, accel: str) -> list[float]:
    """Milliseconds until four CPUs stand still, sorted."""
    guest = SmpGuest(directory, INDEPENDENT, 4, accel=accel)
    machine, times = guest.machine, []
    try:
        machine.run(timeout=1.5 if accel == "jit" else 0.2)
        machine.cont()
        for _ in range(STOPS):
            time.sleep(0.003)
            began = time.perf_counter()
            with machine.quiesced():
                times.append(1000 * (time.perf_counter() - began))
        machine.stop()
    finally:
        machine.close()
    return sorted(times)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accel", default="jit")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for what, program in (("independent", INDEPENDENT), ("locked", LOCKED)):
            ratios, rates = [], []
            for _ in range(given.rounds):
                one = work(directory, program, 1, given.accel, given.seconds)
                several = work(directory, program, given.cpus, given.accel, given.seconds)
                ratios.append(several / one)
                rates.append(several / 1e6)
            print(f"{what:12} {statistics.median(ratios):5.2f} x one CPU  ({min(ratios):.2f} to {max(ratios):.2f})"
                  f"   {statistics.median(rates):8.2f} M turns/s", flush=True)
        ratios = [host(given.cpus, given.seconds) / host(1, given.seconds) for _ in range(given.rounds)]
        print(f"{'host':12} {statistics.median(ratios):5.2f} x one process  ({min(ratios):.2f} to {max(ratios):.2f})")
        times = stops(directory, given.accel)
        print(f"{'stop':12} {statistics.median(times):5.2f} ms  99 of 100: {times[len(times) * 99 // 100]:.2f} ms  "
              f"worst: {times[-1]:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
