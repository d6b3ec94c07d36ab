"""What the benches of migration start and look at: emulators of both kinds, contents of guest RAM, resident memory."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

import numpy as np

from e2kemu.cpu.asm import assemble
from e2kemu.process import Emulator

MIB = 1 << 20
LOAD_AT = 16 * MIB
"""Guest-physical address of the contents."""

SLEEPER = """
        addd,0 0, 0x1010000f8, %r1
        addd,0 0, 1000000, %r2
1:
        stw,2 %r2, [ %r1 + 0 ]
        ibranch 1b
"""
"""A guest that sleeps: seconds, one after the other."""

QEMU = "qemu-system-x86_64"


class Qemu(Emulator):
    """A QEMU process instead of ours: the same monitor protocol."""

    def __init__(self, name: str, directory: Path, *args: str) -> None:
        self.name, self.directory = name, directory
        self.console_path, self.stderr_path = directory / f"{name}.console", directory / f"{name}.stderr"
        self._socket, self._qmp = directory / f"{name}.qmp", None
        self.command = [
            QEMU, "-nodefaults", "-display", "none", "-accel", "tcg", "-M", "pc",
            "-qmp", f"unix:{self._socket},server=on,wait=off", *args,
        ]  # fmt: skip
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)


class Ours(Emulator):
    """e2kemu."""

    def __init__(self, name: str, directory: Path, *args: str) -> None:
        super().__init__(name, directory, "-M", "elbrus", "-cpu", "e8c", *args)


def write_contents(path: Path, size: int, guest: str = SLEEPER) -> None:
    """An ELF file of ``size`` bytes for a guest: its code, then random bytes. QEMU gets it as it is."""
    code = assemble(guest, version=3, base=LOAD_AT).data
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes(9), 2, 175, 1, LOAD_AT, 64, 0, 0,
                         64, 56, 1, 0, 0, 0)  # fmt: skip
    program = struct.pack("<IIQQQQQQ", 1, 7, 4096, LOAD_AT, LOAD_AT, size, size, 4096)
    generator = np.random.default_rng(20161)
    with open(path, "wb") as file:
        file.write((header + program).ljust(4096, b"\0") + code.ljust(4096, b"\0"))
        left = size - 4096
        while left:
            piece = generator.bytes(min(left, 64 * MIB))
            file.write(piece)
            left -= len(piece)


def resident(emulator: Emulator, *, peak: bool) -> int:
    """Resident memory of a process in bytes; ``peak``: its maximum since the last look at the present one."""
    process = Path(f"/proc/{emulator.process.pid}")
    if not peak:
        (process / "clear_refs").write_text("5")
    name = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


def cpu_seconds(emulator: Emulator) -> float:
    """What a process has used of the processors until now, user and system, to the hundredth."""
    fields = Path(f"/proc/{emulator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stamp(emulator: Emulator, event: str) -> float:
    """When an event came, in seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for one in emulator.monitor.get_events():
            if one["event"] == event:
                when: dict[str, int] = one["timestamp"]
                return when["seconds"] + when["microseconds"] / 1e6
        time.sleep(0.01)
    raise SystemExit(f"{emulator.name}: no event {event}")
