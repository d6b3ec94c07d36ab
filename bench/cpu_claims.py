"""What is wanted of the CPU besides speed on programs: the rows of ``cpu.py --claims``, for each native tier.

    start-up    from the process's start to the first byte that its guest writes, with and without a cache on disk
    exit        from a request to stop until ``run`` has returned, in a hot loop
    memory      the most that a process held over its guest's RAM
    cold code   different wide instructions in line: all of a first pass, and of one over decoded code
    company     speed of a guest in a hot loop while the monitor is used, and while it migrates, in per cent of alone

Start-up and cold code are CPU time, which a busy machine does not change much. The speed of a guest in company is
that by the clock without the time in which its thread was ready and the host ran others.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from claims import Claim
from cpu_inside import DISTINCT, LOAD_AT, RAM
from emulators import MIB, Ours, write_contents

from e2kemu.cpu.asm import assemble

INSIDE = Path(__file__).parent / "cpu_inside.py"
COUNTER = 0x00FF8000
"""Where LOOP counts: the firmware has nothing there."""

LOOP = f"""
        addd,0 0, {COUNTER}, %r1
        addd,1 0, 0, %r2
        addd,2 0, 0, %r3
        disp %ctpr1, turn
turn:
    {{
        addd,0 %r2, 1, %r2
        xord,1 %r3, %r2, %r3
    }}
    {{
        shld,0 %r3, 1, %r4
        ldd,3 [ %r1 + 8 ], %r5
    }}
    {{
        addd,0 %r4, %r3, %r3
        std,2 %r2, [ %r1 + 0 ]
    }}
        ibranch turn
"""
"""Never ends; a store each turn says how far it is."""

TEMPLATES = (
    "addd,0 %r1, 0x12345678, %r2",
    "{ addd,0 %r1, 0x12345678, %r2\n xord,1 %r2, %r3, %r4\n subd,3 %r5, %r1, %r6 }",
    "{ ldw,0 [ %r7 + 8 ], %r8\n ord,1 %r4, 0x12345678, %r9 }",
    "{ stw,2 %r1, [ %r7 + 16 ]\n shld,0 %r4, 3, %r10\n andd,1 %r6, 0x12345678, %r11 }",
    "cmpedb,0 %r1, 0x12345678, %pred1",
    "{ adds,0 %r1, 0x12345678, %r12\n adds,1 %r2, %r3, %r13\n adds,3 %r4, %r5, %r14\n adds,4 %r6, %r8, %r15 }",
)
"""Each becomes many different wide instructions, by its literal. %r7 stays what it is."""

ROUNDS = 5
SLICE = 0.6
"""Seconds in which a guest's speed is looked at."""
COMMANDS = 50
"""Commands a second: a monitor in use."""


class Measured(Protocol):
    """A result of ``cpu.py``."""

    program: str
    tier: str
    inside: dict[str, Any]


def inside(what: str, tier: str, path: Path) -> dict[str, Any]:
    """One measurement of ``cpu_inside.py``."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, str(INSIDE), what, tier, str(path), report.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"cpu.py: {what} in {tier}: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(Path(report.name).read_bytes())
        return found


def first_byte(tier: str, elf: Path, cache: Path | None) -> tuple[float, float]:
    """Start a program that prints: seconds by the clock and of CPU time until it does."""
    environment = dict(os.environ) if cache is None else {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "e2kemu.run_cli", "-accel", tier, str(elf)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=environment) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        clock = time.perf_counter() - began
        spent = sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    return clock, spent / 1e9


def start_up(tier: str, elf: Path, folder: Path) -> Iterator[Claim]:
    """Cold and warm."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        clock, spent = first_byte(tier, elf, Path(cache))
        yield Claim(f"start-up cold, {tier}", f"{spent:.2f} s CPU, {clock:.2f} s by the clock", "< 60 s", spent < 60)
        runs = [first_byte(tier, elf, Path(cache)) for _ in range(2 * ROUNDS)]
    spent, clock = (statistics.median(run[item] for run in runs) for item in (1, 0))
    yield Claim(f"start-up warm, {tier}", f"{spent:.2f} s CPU, {clock:.2f} s by the clock", "< 0.5 s", spent < 0.5)


def exit_latency(tier: str, folder: Path) -> Iterator[Claim]:
    """How long a stop takes."""
    path = folder / "loop.elf"
    write_contents(path, 1 * MIB, LOOP)
    times = sorted(inside("latency", tier, path)["times"])
    median, late = times[len(times) // 2], times[len(times) * 99 // 100]
    yield Claim(f"exit, {tier}", f"median {median * 1e6:.0f} us, 99 % below {late * 1e6:.0f} us, longest "
                f"{times[-1] * 1e6:.0f} us of {len(times)}", "99 % < 1 ms", late < 1e-3)


def memory(tier: str, results: Sequence[Measured]) -> Iterator[Claim]:
    """Of all programs run."""
    found = {result.program: int(result.inside["memory"]) for result in results if result.tier == tier}
    if found:
        name = max(found, key=lambda program: found[program])
        size = found[name] / MIB
        yield Claim(f"memory, {tier}", f"{size:.0f} MiB ({name})", "< 300 MB", size * MIB < 300e6)


def distinct() -> bytes:
    """DISTINCT different wide instructions."""
    marks = [(data, data.index(bytes.fromhex("78563412"))) for data in
             (assemble(text, version=3, base=0).data for text in TEMPLATES)]
    code = bytearray()
    for number in range(DISTINCT):
        data, at = marks[number % len(marks)]
        code += data[:at] + (number + 1).to_bytes(4, "little") + data[at + 4 :]
    return bytes(code)


def cold_code(tier: str, folder: Path) -> Iterator[Claim]:
    """Each wide instruction once."""
    path = folder / "cold.elf"
    code = distinct()
    write_contents(path, 4096 + len(code) + 4096, LOOP)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(code)
    assert LOAD_AT + len(code) < RAM
    found = inside("cold", tier, path)
    first, second, _ = found["passes"]
    count = found["count"]
    yield Claim(f"cold code, {tier}", f"{count / second / 1e6:.2f} million/s decoded before", ">= 5 million/s",
                count / second >= 5e6)
    decoding = count / max(first - second, 1e-9)
    yield Claim(f"decoding, {tier}",
                f"{decoding / 1e3:.0f} thousand/s (first pass {count / first / 1e3:.0f} thousand/s)",
                ">= 100 thousand/s", decoding >= 100e3)


class Looping(Ours):
    """A guest in LOOP, and how far it is."""

    def __init__(self, tier: str, folder: Path) -> None:
        path = folder / "big.elf"
        write_contents(path, 400 * MIB, LOOP)
        super().__init__(f"company-{tier}", folder, "-m", "512M", "-accel", tier, "-kernel", str(path))
        self.connect()
        self.set_parameters(max_bandwidth=64 * MIB)
        thread = self.qmp("query-cpus-fast")[0]["thread-id"]
        self._waiting = Path(f"/proc/{self.process.pid}/task/{thread}/schedstat")

    def __enter__(self) -> Looping:
        return self

    def at(self) -> tuple[int, float]:
        """Turns made, and the time in seconds, without that which the guest's thread has waited for a processor."""
        turns = int(self.hmp(f"xp /1gx {COUNTER:#x}").split()[-1], 16)
        return turns, time.monotonic() - int(self._waiting.read_text().split()[1]) / 1e9

    def speed(self, meanwhile: Callable[[], None]) -> float:
        """Turns a second while something is done."""
        before, began = self.at()
        end = time.monotonic() + SLICE
        while time.monotonic() < end:
            meanwhile()
        after, ended = self.at()
        return (after - before) / (ended - began)

    def ask(self) -> None:
        """A command as people and tools give them, then the pause until the next."""
        self.hmp("info registers")
        time.sleep(1 / COMMANDS)

    def ask_on(self) -> None:
        """Commands without a pause, none of which stops the guest."""
        self.status()

    def migrating(self) -> float:
        """Speed in the middle of a migration that does not come to its end."""
        self.qmp("migrate", uri="exec:cat > /dev/null")
        time.sleep(0.3)
        speed = self.speed(lambda: time.sleep(0.05))
        if self.migration()["status"] != "active":
            raise SystemExit("the migration was over too early to see the guest's speed")
        self.qmp("migrate_cancel")
        self.wait_migration("cancelled")
        return speed


def company(tier: str, folder: Path) -> Iterator[Claim]:
    """The guest with others in its process."""
    parts: dict[str, list[float]] = {"monitor": [], "busy monitor": [], "migration": []}
    with Looping(tier, folder) as guest:
        guest.speed(lambda: time.sleep(0.05))
        ways: dict[str, Callable[[], float]] = {
            "monitor": lambda: guest.speed(guest.ask), "busy monitor": lambda: guest.speed(guest.ask_on),
            "migration": guest.migrating,
        }  # fmt: skip
        for _ in range(ROUNDS):
            for name, measured in ways.items():
                alone = guest.speed(lambda: time.sleep(0.05))
                parts[name].append(measured() / alone)
    for name, ratios in parts.items():
        part = statistics.median(ratios)
        told = f"{100 * part:.0f} % of alone ({100 * min(ratios):.0f} to {100 * max(ratios):.0f} %)"
        if name == "busy monitor":
            yield Claim(f"{name}, {tier}", told)
        else:
            yield Claim(f"{name}, {tier}", told, ">= 90 %", part >= 0.9)


def measure(tiers: Sequence[str], hello: Path, folder: Path, results: Sequence[Measured]) -> Iterator[Claim]:
    """All rows."""
    for tier in tiers:
        yield from start_up(tier, hello, folder)
        yield from memory(tier, results)
        yield from cold_code(tier, folder)
        yield from exit_latency(tier, folder)
        yield from company(tier, folder)
