"""What does translation cost? Bare programs with the MMU off and on, in turn.

    python bench/mmu.py [--programs DIR] [--only NAME ...] [--tiers jit,interp] [--rounds N]

Every program (``*.elf`` or ``*.elf.xz``) of a folder runs as a bare image on the computer: no firmware, no kernel; its
two system calls are answered by the bench. Columns: CPU time of the CPU's thread with the MMU off, and how much more it
is with page tables of 4 KiB and of 2 MiB pages that map all RAM to itself (median of the rounds' quotients). Wanted:
less than 15 %. Programs that take less than SHORT seconds are told, not judged.
"""

from __future__ import annotations

import argparse
import lzma
import statistics
import sys
import tempfile
from pathlib import Path

from claims import Claim
from cpu_claims import inside

DATA = Path(__file__).parent.parent / "tests" / "data"
WANTED, SHORT = 1.15, 0.1


def measure(name: str, tier: str, path: Path, rounds: int) -> Claim:
    """A program in a tier."""
    off: list[float] = []
    more: dict[str, list[float]] = {"small": [], "large": []}
    for _ in range(rounds):
        base = inside("off", tier, path)
        off.append(base["seconds"])
        for pages, quotients in more.items():
            found = inside(pages, tier, path)
            if (found["executed"], found["output"]) != (base["executed"], base["output"]):
                raise SystemExit(f"mmu.py: {name} does not do the same with the MMU on")
            quotients.append(found["seconds"] / base["seconds"])
    small, large = (statistics.median(quotients) for quotients in more.values())
    told = f"{statistics.median(off):7.3f} s, 4 KiB {100 * small - 100:+5.1f} %, 2 MiB {100 * large - 100:+5.1f} %"
    judged = statistics.median(off) >= SHORT
    return Claim(f"{name}, {tier}", told, "< +15 %" if judged else "", max(small, large) < WANTED)


def main() -> int:
    """Measure and print; 1 when something is not met."""
    parser = argparse.ArgumentParser(description="What does translation cost?")
    parser.add_argument("--programs", type=Path, default=DATA, help="folder of bare programs (default: tests/data)")
    parser.add_argument("--only", nargs="*", default=(), help="names of programs")
    parser.add_argument("--tiers", default="jit,interp")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted([*options.programs.glob("*.elf"), *options.programs.glob("*.elf.xz")]):
            name = path.name.split(".")[0]
            if (options.only and name not in options.only) or name == "hello":
                continue
            if path.suffix == ".xz":
                plain = Path(folder) / name
                plain.write_bytes(lzma.decompress(path.read_bytes()))
                path = plain
            for tier in options.tiers.split(","):
                claim = measure(name, tier, path, options.rounds)
                print(claim.line(), flush=True)
                met = met and claim.met
    return not met


if __name__ == "__main__":
    sys.exit(main())
