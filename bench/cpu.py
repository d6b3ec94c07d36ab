"""How fast is the CPU? Whole processes; user CPU time, start-up and compilation included.

    python bench/cpu.py [--programs DIR] [--only NAME ...] [--tiers jit,interp,reference] [--rounds N]
                        [--versus 'CMD {elf}'] [--claims] [--history FILE | --no-history] [--plot FILE]

Every program (``*.elf`` or ``*.elf.xz``) of a folder is run by ``e2kemu-run -accel TIER``, those that end with
``-small`` in the reference tier too. ``--versus`` is a yardstick, another emulator: it runs in turn with ours, round
by round, and the ratio is that of the user CPU times of a pair, the median of the rounds. Without a word that contains
``{elf}`` the program is the command's last argument.

columns:

    wide        wide instructions that the program executes, in millions: counted in a run of its own
    user        user CPU time of the whole process, median
    M wide/s    the quotient
    start-up    user CPU time of the program that prints one line, in that tier
    compile     CPU time of the compiling thread, in the run that counts

What is wanted of the ratio, and of small programs (half a second or less: the translator is no slower than the
interpreter), is told as met or not met. ``--claims`` measures what is wanted besides (``cpu_claims.py``). Each
invocation adds its rows to the history, of which ``--plot`` draws a picture (``cpu_history.py``).
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cpu_claims
import cpu_history
from claims import verdict
from rich.console import Console
from rich.table import Table

from e2kemu.machine.config import ACCELERATORS

HERE = Path(__file__).parent
DATA = HERE.parent / "tests" / "data"
HISTORY = HERE / "history" / "cpu.csv"
INSIDE = HERE / "cpu_inside.py"

WANTED = {"alu": (3, 8), "mem": (2, 4), "call": (4, 10), "sieve": (2, 3), "matmul": (2, 4)}
"""Program -> ratio to the yardstick at least, and aimed at."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Of the processes measured: a package in use has its bytecode on disk."""

SMALL = "-small"
SHORT = 0.5
"""Seconds, over the start-up, up to which a program is short: there the translator shall not be slower than the
interpreter."""
SLACK = 1.05
"""What of that is noise."""


@dataclass
class Run:
    """One process."""

    user: float
    status: int
    output: bytes


@dataclass
class Result:
    """A program in a tier."""

    program: str
    tier: str
    runs: list[Run] = field(default_factory=list)
    inside: dict[str, Any] = field(default_factory=dict)
    versus: list[Run] = field(default_factory=list)

    @property
    def user(self) -> float:
        return statistics.median(run.user for run in self.runs)

    @property
    def wide(self) -> int:
        return int(self.inside.get("executed", 0))

    @property
    def rate(self) -> float:
        """Million wide instructions a second."""
        return self.wide / max(self.user, 1e-3) / 1e6

    @property
    def ratio(self) -> float | None:
        """How many times faster than the yardstick."""
        if not self.versus:
            return None
        return statistics.median(theirs.user / max(ours.user, 1e-3)
                                 for ours, theirs in zip(self.runs, self.versus, strict=True))


def timed(command: list[str]) -> Run:
    """Run a command to its end. Raises SystemExit when there is no such command."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL,
                                       env=ENVIRONMENT)
        except OSError as error:
            raise SystemExit(f"cpu.py: {command[0]}: {error.strerror}") from error
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return Run(usage.ru_utime, process.returncode, output.read())


def ours(tier: str, elf: Path) -> list[str]:
    """The command that runs a program in a tier."""
    return [sys.executable, "-m", "e2kemu.run_cli", "-accel", tier, str(elf)]


def theirs(versus: str, elf: Path) -> list[str]:
    """The yardstick's command for a program."""
    words = shlex.split(versus)
    named = [word.replace("{elf}", str(elf)) for word in words]
    return named if named != words else [*words, str(elf)]


def look(elf: Path, tier: str) -> dict[str, Any]:
    """Counts of a run in a process of its own: see ``cpu_inside.py``."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, str(INSIDE), "program", tier, str(elf), report.name]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"cpu.py: {elf.name} in {tier}: {done.stderr.decode(errors='replace').strip()}")
        found: dict[str, Any] = json.loads(Path(report.name).read_bytes())
        return found


def programs(folder: Path, unpacked: Path, only: list[str] | None) -> dict[str, Path]:
    """Name -> file; what is compressed is unpacked. Raises SystemExit when nothing is left to run."""
    found = {path.name.removesuffix(".elf"): path for path in sorted(folder.glob("*.elf"))}
    for path in sorted(folder.glob("*.elf.xz")):
        plain = unpacked / path.name.removesuffix(".xz")
        plain.write_bytes(lzma.decompress(path.read_bytes()))
        found[plain.stem] = plain
    for name in only or ():
        if name not in found:
            raise SystemExit(f"cpu.py: no program '{name}' in {folder}; there are: {', '.join(found) or 'none'}")
    chosen = {name: path for name, path in found.items() if not only or name in only}
    if not chosen:
        raise SystemExit(f"cpu.py: no program (*.elf, *.elf.xz) in {folder}")
    return chosen


def measure(name: str, elf: Path, tier: str, rounds: int, versus: str | None) -> Result:
    """All rounds of a program in a tier."""
    result = Result(name, tier, inside=look(elf, tier))
    for _ in range(rounds):
        result.runs.append(timed(ours(tier, elf)))
        if versus is not None:
            result.versus.append(timed(theirs(versus, elf)))
    return result


def agree(results: list[Result]) -> list[str]:
    """What runs of a program do not agree upon, a line each."""
    lines = []
    first: dict[str, Result] = {}
    for result in results:
        other = first.setdefault(result.program, result)
        expected = other.runs[0]
        for run in result.runs:
            for what, mine, yours in (("status", run.status, expected.status), ("output", run.output, expected.output),
                                      ("wide instructions", result.wide, other.wide)):
                if mine != yours:
                    lines.append(f"{result.program}: {what} {mine!r} in {result.tier}, {yours!r} in {other.tier}")
    return list(dict.fromkeys(lines))


def judged(result: Result, interpreter: dict[str, Result], started: dict[str, float]) -> tuple[str, bool | None]:
    """What is wanted of a row, and whether it is met."""
    if result.tier != "jit":
        return "", None
    if result.program in WANTED and result.ratio is not None:
        least, aim = WANTED[result.program]
        return f">= {least} x, aim {aim} x", result.ratio >= least
    other = interpreter.get(result.program)
    if other is not None and other.user - started["interp"] <= SHORT:
        return f"<= {other.user:.2f} s (interp)", result.user <= other.user * SLACK
    return "", None


def table(results: list[Result], started: dict[str, float], versus: str | None) -> Table:
    """The rows as they are printed."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("program", "tier"):
        made.add_column(head)
    numbers = ["wide M", "user s", "M wide/s", "start-up s", "compile s"]
    if versus is not None:
        numbers += ["yardstick s", "ratio"]
    for head in numbers:
        made.add_column(head, justify="right")
    for head in ("wanted", ""):
        made.add_column(head)
    interpreter = {result.program: result for result in results if result.tier == "interp"}
    for result in results:
        cells = [result.program, result.tier, f"{result.wide / 1e6:.6g}", f"{result.user:.3f}", f"{result.rate:.4g}",
                 f"{started[result.tier]:.3f}", f"{result.inside.get('compile', 0.0):.3f}"]
        if versus is not None:
            cells += [f"{statistics.median(run.user for run in result.versus):.3f}", f"{result.ratio:.2f}"]
        wanted, met = judged(result, interpreter, started)
        made.add_row(*cells, wanted, "" if met is None else verdict(met),
                     style=None if met is None else "green" if met else "red")
    return made


def main() -> int:
    """Measure, print, keep; the status is 1 when tiers disagree."""
    parser = argparse.ArgumentParser(description="Speed of the CPU on whole programs.")
    parser.add_argument("--programs", type=Path, default=DATA, metavar="DIR", help="folder of *.elf or *.elf.xz")
    parser.add_argument("--only", action="append", metavar="NAME", help="this program (may be repeated)")
    parser.add_argument("--tiers", default="jit,interp,reference", help="those of: " + ", ".join(ACCELERATORS))
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--versus", metavar="'CMD {elf}'", help="a yardstick")
    parser.add_argument("--claims", action="store_true", help="start-up, exit latency, memory, cold code, company")
    parser.add_argument("--history", type=Path, default=HISTORY, metavar="FILE")
    parser.add_argument("--no-history", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="PNG of the history")
    options = parser.parse_args()
    tiers = options.tiers.split(",")
    for tier in tiers:
        if tier not in ("jit", "interp", "reference"):
            parser.error(f"no tier '{tier}'")
    tiers = [tier for tier in tiers if tier in ACCELERATORS]
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(cpu_history.conditions())
    with tempfile.TemporaryDirectory() as folder:
        chosen = programs(options.programs, Path(folder), options.only)
        hello = programs(DATA, Path(folder), ["hello"])["hello"]
        for tier in tiers:
            timed(ours(tier, hello))            # bytecode and the interpreter's code are there from now on
        started = {tier: statistics.median(timed(ours(tier, hello)).user for _ in range(options.rounds))
                   for tier in tiers}
        results = [
            measure(name, elf, tier, options.rounds, options.versus)
            for name, elf in chosen.items() for tier in tiers
            if tier != "reference" or name.endswith(SMALL) or name == "hello"
        ]
        console.print(table(results, started, options.versus))
        wrong = agree(results)
        if options.claims:
            rows = cpu_claims.measure([tier for tier in tiers if tier != "reference"], hello, Path(folder), results)
            for claim in rows:
                console.print(claim.line(), soft_wrap=True)
    for line in wrong:
        console.print(f"not alike: {line}")
    if not options.no_history:
        cpu_history.append(options.history, [
            cpu_history.Row(result.program, result.tier, result.wide, result.user, started[result.tier],
                            result.inside.get("compile", 0.0), options.versus or "",
                            statistics.median(run.user for run in result.versus) if result.versus else None,
                            result.ratio)
            for result in results])
    if options.plot is not None:
        cpu_history.plot(options.history, options.plot)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
