"""One image of the small operating system, in every tier and with several CPUs: the same run, or the same verdict.

    python -m tests.kernel.tiers [--append traps] [--smp 1 2 4] [--image kernel-v4.elf kernel-v6.elf] [--twice]

With ``-icount`` all tiers must print the same, and execute the same number of wide instructions on each CPU until the
end; ``--twice``: each of them twice. Without it every tier must come to the same verdict with the same checks. A line
for each run; exit status 0 when everything held.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from e2kemu import Machine
from e2kemu.kernel_disk import kernel_image
from tests.kernel.verdict import PASSED, checks, make_disk

TIERS = ("jit", "interp", "reference")
CPU_OF = {"kernel-v4.elf": "e8c", "kernel-v6.elf": "e16c"}
COUNTED = "shift=10,sleep=off"
"""A microsecond for each wide instruction: the processes that work for a while have not much to execute then."""


class Run(NamedTuple):
    """What a run was: all that must be the same with ``-icount``."""

    text: str
    executed: tuple[int, ...]
    """Wide instructions of each CPU."""
    time: int
    """Virtual time in ns."""

    @property
    def verdict(self) -> tuple[int, list[str]]:
        """The number of checks that passed, and their names."""
        match = PASSED.search(self.text)
        assert match is not None, self.text[-2000:]
        return int(match[1]), checks(self.text.splitlines())


def run(accel: str, smp: int, append: str, disk: Path, *, image: str = "kernel-v4.elf", icount: str = "",
        timeout: float = 600) -> Run:
    """The kernel to its end. Raises AssertionError when it does not pass."""
    with Machine.build(machine="elbrus-2.0", ram="64M", cpu=CPU_OF[image], smp=smp, accel=accel, append=append,
                       drives=[f"file={disk},format=raw"], kernel=str(kernel_image(image)), icount=icount) as machine:
        end = machine.run(timeout=timeout)
        text = machine.console.text
        assert end == "exit", f"{end}: {text[-2000:]}"
        assert machine.exit_status == 0, text[-2000:]
        assert "BAD" not in text, text
        return Run(text, tuple(cpu.executed for cpu in machine.cpus), machine.clock.now())


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--append", default="traps")
    parser.add_argument("--smp", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--image", nargs="+", choices=list(CPU_OF), default=list(CPU_OF))
    parser.add_argument("--tiers", nargs="+", choices=TIERS, default=list(TIERS))
    parser.add_argument("--twice", action="store_true")
    given = parser.parse_args()
    differ = 0
    with tempfile.TemporaryDirectory() as name:
        disk = make_disk(Path(name) / "disk")
        for image in given.image:
            for smp in given.smp:
                for icount in (COUNTED, ""):
                    first: Run | None = None
                    for accel in given.tiers * (2 if given.twice and icount else 1):
                        began = time.monotonic()
                        one = run(accel, smp, given.append, disk, image=image, icount=icount)
                        first = first or one
                        same = one == first if icount else one.verdict == first.verdict
                        differ += not same
                        print(f"{image} -smp {smp} {'-icount ' + icount if icount else '':25} {accel:9} "
                              f"{one.verdict[0]} checks, {one.executed}, {one.time} ns: "
                              f"{'the same' if same else 'DIFFERS'}, {time.monotonic() - began:.1f} s", flush=True)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
