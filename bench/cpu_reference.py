"""Speed of the reference tier: wide instructions a second on four loops. Run: python bench/cpu_reference.py"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.cpu.guest import Guest

PROGRAMS = ("alu-small", "mem-small", "call-small", "sieve-small")
SECONDS = 2.0


def measure(name: str) -> float:
    """Run the program again and again for a while, translated once; the best rate seen."""
    guest = Guest()
    guest.load_elf(name)
    entry = guest.state.pc
    best, end = 0.0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        guest.state.reset()
        guest.give_stacks()
        guest.state.pc, before = entry, guest.cpu.executed
        started = time.perf_counter()
        guest.cpu.run()
        best = max(best, (guest.cpu.executed - before) / (time.perf_counter() - started))
    return best


def main() -> None:
    """Print a line per program."""
    for name in PROGRAMS:
        print(f"{name:12s} {measure(name) / 1e6:6.2f} million wide instructions/s")


if __name__ == "__main__":
    main()
