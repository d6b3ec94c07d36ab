"""Several CPUs: how much more they do, what a lock costs, how fast they all stand still.

    python bench/smp.py [--cpus 2] [--seconds 2] [--rounds 5] [--accel jit]

Prints, as medians of rounds in which the compared runs come in turn:

    independent   work of N CPUs in a time against that of one, each in a loop and memory of its own
    locked        the same where each turn of the loop takes a spin lock that all share: turns with N CPUs against one
    kernel        the same of the bundled kernel: laps of its four processes, with timers, task changes, system calls
    stop          milliseconds from the request until all CPUs stand still (4 CPUs), median, 99th of a hundred, worst

Work is turns of the loops. A host with fewer idle cores than CPUs shows what it has: compare with ``host``, the same
measure of two processes that only compute. Beside each ratio stands what it would be on cores of their own: the
time in which a CPU's thread was ready to run and other programs ran (``schedstat``) counts as if it had run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from e2kemu.api import Machine
from e2kemu.demo_kernel import STEP
from e2kemu.kernel_disk import kernel_image
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


class Work(NamedTuple):
    """Turns a second of all CPUs together: as it was, and on cores of their own."""

    rate: float
    alone: float


def scheduled(machine: Machine) -> list[tuple[int, int]]:
    """Nanoseconds that the thread of each CPU has executed, and waited for a core."""
    parts = [Path(f"/proc/self/task/{machine.thread_id(cpu.index)}/schedstat").read_text().split()
             for cpu in machine.cpus]
    return [(int(executed), int(waited)) for executed, waited, _ in parts]


def measure(machine: Machine, count: Callable[[], int], seconds: float) -> Work:
    """Let it run for a while."""
    before, times, began = count(), scheduled(machine), time.monotonic()
    machine.run(timeout=seconds)
    done, wall = count() - before, time.monotonic() - began
    executed, waited = (sum(pair[number] for pair in scheduled(machine)) - sum(pair[number] for pair in times)
                        for number in (0, 1))
    return Work(done / wall, done / wall * (executed + waited) / executed)


def work(directory: Path, program: str, cpus: int, accel: str, seconds: float) -> Work:
    """Of a program, once everything is translated."""
    guest = SmpGuest(directory, program, cpus, accel=accel)
    try:
        guest.machine.run(timeout=1.5 if accel == "jit" else 0.2)
        return measure(guest.machine, lambda: turns(guest.machine, cpus), seconds)
    finally:
        guest.machine.close()


def kernel(cpus: int, accel: str, seconds: float) -> Work:
    """Of the bundled kernel: laps."""
    with Machine.build(ram="64M", cpu="e8c", smp=cpus, accel=accel, append="loop",
                       kernel=str(kernel_image())) as machine:
        machine.run(timeout=6 if accel == "jit" else 1)
        # reports are rare, and rarer in a slow tier
        seconds *= 1 if accel == "jit" else 5
        return measure(machine, lambda: STEP * machine.console.output.count(b" lap "), seconds)


def host(count: int, seconds: float) -> float:
    """Work of ``count`` processes that only compute."""
    text = f"import time\nend=time.monotonic()+{seconds}\nn=0\nwhile time.monotonic()<end:\n n+=1\nprint(n)"
    processes = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) for _ in range(count)]
    return float(sum(int(process.communicate()[0]) for process in processes))


def waited_here() -> int:
    """Nanoseconds that this thread has waited for a core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


def stops(directory: Path, accel: str) -> tuple[list[float], list[float]]:
    """Milliseconds until four CPUs stand still, sorted; the same less what this thread, and the slowest of theirs, has
    waited for a core."""
    guest = SmpGuest(directory, INDEPENDENT, 4, accel=accel)
    machine, times, alone = guest.machine, [], []
    try:
        machine.run(timeout=1.5 if accel == "jit" else 0.2)
        machine.cont()
        for _ in range(STOPS):
            time.sleep(0.003)
            before, own, began = scheduled(machine), waited_here(), time.perf_counter()
            with machine.quiesced():
                took = 1000 * (time.perf_counter() - began)
                waited = waited_here() - own + max(
                    after[1] - earlier[1] for after, earlier in zip(scheduled(machine), before, strict=True))
            times.append(took)
            alone.append(took - min(waited / 1e6, took))
        machine.stop()
    finally:
        machine.close()
    return sorted(times), sorted(alone)


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
        rows: dict[str, Callable[[int], Work]] = {
            "independent": lambda cpus: work(directory, INDEPENDENT, cpus, given.accel, given.seconds),
            "locked": lambda cpus: work(directory, LOCKED, cpus, given.accel, given.seconds),
            "kernel": lambda cpus: kernel(cpus, given.accel, given.seconds),
        }
        for what, run in rows.items():
            pairs = [(run(1), run(given.cpus)) for _ in range(given.rounds)]
            ratios = [several.rate / one.rate for one, several in pairs]
            alone = [several.alone / one.alone for one, several in pairs]
            print(f"{what:12} {statistics.median(ratios):5.2f} x one CPU  ({min(ratios):.2f} to {max(ratios):.2f}), "
                  f"{statistics.median(alone):5.2f} on cores of their own ({min(alone):.2f} to {max(alone):.2f})  "
                  f"{statistics.median(several.rate for _, several in pairs) / 1e6:9.3f} M turns/s", flush=True)
        ratios = [host(given.cpus, given.seconds) / host(1, given.seconds) for _ in range(given.rounds)]
        print(f"{'host':12} {statistics.median(ratios):5.2f} x one process  ({min(ratios):.2f} to {max(ratios):.2f})")
        for what, times in zip(("stop", "  on cores of their own"), stops(directory, given.accel), strict=True):
            print(f"{what:12} {statistics.median(times):5.2f} ms  99 of 100: {times[len(times) * 99 // 100]:.2f} ms  "
                  f"worst: {times[-1]:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
