"""A folder of Linux/e2k programs with what they must print, in every tier: ``python -m tests.linux.all_programs DIR``.

DIR is laid out as their makers left it: ``expected.csv`` (program, status, wide_instructions, stdout), ``random/`` and
``faults/`` with an ``index.json`` each. With ``--long`` those of ``expected.csv`` that execute millions of wide
instructions run, too, in the native tiers. A line for each that ends otherwise; those whose expectation is marked as
suspect are only told. Status 1 when an expectation without a mark is not met, or when there are no programs.
"""

from __future__ import annotations

import csv
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.framework.forked import run

TIERS = ("reference", "interp", "jit")


@dataclass(frozen=True)
class Expected:
    """A program, its status (-N: signal N) and output; why they are doubted; whether it runs long."""

    path: Path
    status: int
    output: str
    doubt: str = ""
    long: bool = False


def programs(folder: Path) -> Iterator[Expected]:
    """All of them."""
    with open(folder / "expected.csv", newline="") as table:
        for row in csv.DictReader(table):
            yield Expected(folder / f"{row['program']}.elf", int(row["status"]), row["stdout"] + "\n",
                           long=bool(row["wide_instructions"]))
    for item in json.loads((folder / "random" / "index.json").read_text()):
        path = folder / "random" / item["name"]
        yield Expected(path.with_suffix(".elf"), item["exit"], path.with_suffix(".expected").read_text())
    for item in json.loads((folder / "faults" / "index.json").read_text()):
        result = item["result_tags_on"]
        status = result if isinstance(result, int) else -signal.Signals[result]
        yield Expected(folder / "faults" / f"{item['name']}.elf", status, item["stdout"], item.get("why", ""))


def main(arguments: list[str]) -> int:
    """See the module."""
    folder, long = Path(arguments[0]), "--long" in arguments
    everything = list(programs(folder))
    bad = not everything
    for tier in TIERS:
        met = doubted = 0
        chosen = [one for one in everything if not one.long or (long and tier != "reference")]
        for one in chosen:
            command = [sys.executable, "-m", "e2kemu.run_cli", "-accel", tier, str(one.path)]
            done = run(command, capture_output=True, text=True)
            status = -(done.returncode - 128) if done.returncode > 128 else done.returncode
            if (status, done.stdout) == (one.status, one.output):
                met += 1
                continue
            ours = done.stderr.split("\n")[0] or f"status {status}, {done.stdout[-60:]!r}"
            print(f"{tier}: {one.path.name}: expected status {one.status}: {ours}"
                  + (f" (doubted: {one.doubt})" if one.doubt else ""))
            doubted += bool(one.doubt)
            bad |= not one.doubt
        print(f"{tier}: {met} of {len(chosen)} programs end as expected, {doubted} otherwise where the expectation is "
              "doubted")
        sys.stdout.flush()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
