"""The bundled kernel on a machine of this process, and what its console says."""

from __future__ import annotations

import re
from pathlib import Path

from e2kemu import Machine
from e2kemu.kernel_disk import contents, kernel_image

PASSED = re.compile(r"KERNEL PASSED (\d+) checks\n$")


def make_disk(path: Path) -> Path:
    """A disk as the kernel wants it."""
    path.write_bytes(contents())
    return path


def run_kernel(append: str, *, accel: str, smp: int = 1, disk: Path | None = None, cpu: str = "e8c",
               image: str = "kernel-v4.elf", timeout: float = 120) -> tuple[int, list[str]]:
    """Run it to its end: how many checks passed, and the lines of its console. Raises AssertionError when it failed."""
    drives = [f"file={disk},format=raw"] if disk else []
    with Machine.build(machine="elbrus-2.0", ram="64M", cpu=cpu, smp=smp, accel=accel, append=append, drives=drives,
                       kernel=str(kernel_image(image))) as machine:
        end = machine.run(timeout=timeout)
        text, status = machine.console.text, machine.exit_status
    assert end == "exit", f"{end}: {text[-2000:]}"
    bad = [line for line in text.splitlines() if "BAD" in line or "PANIC" in line]
    assert not bad, text[-4000:]
    assert status == 0, text[-2000:]
    match = PASSED.search(text)
    assert match is not None, text[-2000:]
    lines = text.splitlines()
    assert sum(" ok " in line for line in lines) == int(match[1])
    return int(match[1]), lines


def checks(lines: list[str]) -> list[str]:
    """The names of the checks, in order of the alphabet: CPUs make them in any order."""
    return sorted(match[1] for line in lines if (match := re.search(r"\] ok \d+ (.*)$", line)))
