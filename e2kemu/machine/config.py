"""MachineConfig: what the user asked for, checked; the builder makes a Machine of it."""

from __future__ import annotations

import uuid as uuidlib
from dataclasses import dataclass, field
from typing import Any

from e2kemu.block.drive import Drive
from e2kemu.chardev import Chardev
from e2kemu.cpu.isa.models import MODELS
from e2kemu.errors import OptionError
from e2kemu.machine.boards import DEFAULT, MIB, Board, find_board
from e2kemu.machine.icount import Icount
from e2kemu.machine.smp import Topology
from e2kemu.memory.dirty import PAGE_SIZE
from e2kemu.net.config import NetdevConfig

ACCELERATORS = ("jit", "interp", "reference")
"""Executors of guest code: "jit" translates hot code to host code with LLVM and leaves the rest to "interp", an
interpreter in host code; "reference" runs the description of the ISA itself, in Python."""


@dataclass(frozen=True)
class DiskConfig:
    """One virtio disk: the drive behind it, the serial number that the guest reads, the device's id."""

    drive: Drive
    serial: str = ""
    id: str = ""


@dataclass(frozen=True)
class NicConfig:
    """One network card: the back end it is plugged into, its hardware address (None: by its number), its id."""

    netdev: NetdevConfig | None
    mac: bytes | None = None
    id: str = ""


@dataclass(frozen=True)
class MachineConfig:
    """One machine. Empty or None means the default of the machine type.

    ``ram_size`` is in bytes; ``smp`` the number of CPUs, ``grouping`` how they are grouped (None: cores of one socket);
    ``icount`` counts virtual time in wide instructions; ``paused`` is -S; ``incoming`` means that the state comes by
    migration;
    ``suppress_vmdesc`` leaves the vmdescription out of streams; ``serials`` are the character devices of the
    serial ports, in the order of the board; ``disks`` the virtio disks, in the order of their windows; ``nics`` the
    network cards, whose windows follow; ``consoles`` the other ends of virtio consoles, whose windows follow those.
    """

    machine: str = DEFAULT.name
    cpu: str = ""
    ram_size: int = 0
    smp: int = 1
    grouping: Topology | None = None
    icount: Icount | None = None
    accel: str = ACCELERATORS[0]
    bios: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    append: str = ""
    name: str = ""
    uuid: uuidlib.UUID | None = None
    paused: bool = False
    incoming: bool = False
    suppress_vmdesc: bool = False
    no_shutdown: bool = False
    no_reboot: bool = False
    process: Any = field(default=None, compare=False)
    """What a board that is a process is told beside: ``linux.options.ProcessOptions``."""
    serials: tuple[Chardev | None, ...] = field(default=(), compare=False)
    disks: tuple[DiskConfig, ...] = field(default=(), compare=False)
    nics: tuple[NicConfig, ...] = ()
    consoles: tuple[Chardev, ...] = field(default=(), compare=False)

    @property
    def board(self) -> Board:
        """The machine type. Raises OptionError when it does not exist."""
        return find_board(self.machine)

    @property
    def cpu_model(self) -> str:
        """The CPU model's name."""
        return self.cpu or self.board.default_cpu

    @property
    def topology(self) -> Topology:
        """How the CPUs are grouped."""
        return self.grouping or Topology(1, self.smp, 1)

    @property
    def ram(self) -> int:
        """Bytes of RAM."""
        return self.ram_size or self.board.default_ram

    def check(self) -> None:
        """Raises OptionError, one line, for the first thing that cannot be."""
        board = self.board
        if self.cpu_model not in MODELS:
            raise OptionError(f"unable to find CPU model '{self.cpu_model}'")
        if self.ram < board.min_ram:
            raise OptionError(
                f"{_mib(self.ram)} of RAM is too little: machine '{board.name}' needs {_mib(board.min_ram)}"
            )
        if self.ram > board.max_ram:
            raise OptionError(
                f"{_mib(self.ram)} of RAM is too much: machine '{board.name}' takes {_mib(board.max_ram)}"
            )
        if self.ram % PAGE_SIZE:
            raise OptionError(f"RAM size {self.ram} is not a multiple of the page size ({PAGE_SIZE} bytes)")
        if not 1 <= self.smp <= board.max_cpus or self.topology.places > board.max_cpus:
            raise OptionError(
                f"Invalid SMP CPUs {max(self.smp, self.topology.places)}. The max CPUs supported by machine "
                f"'{board.name}' is {board.max_cpus}"
            )
        if self.icount is not None and board.process:
            raise OptionError(f"machine '{board.name}' has real time only")
        if self.accel not in ACCELERATORS:
            raise OptionError(f"invalid accelerator {self.accel}")
        if len(self.serials) > len(board.serial_ports):
            raise OptionError(f"too many serial devices, max {len(board.serial_ports)}")
        if len(self.disks) + len(self.nics) + len(self.consoles) > board.virtio_slots:
            raise OptionError(f"too many virtio devices, max {board.virtio_slots}")


def _mib(size: int) -> str:
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size} bytes"
