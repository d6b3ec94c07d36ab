"""What every device is made of: registers, interrupt lines, properties, reset.

A device class declares its registers once, as ``Reg``; the dispatch of MMIO accesses, reset, the
state in a migration stream and the documentation are read from the declarations::

    class Lamp(Device):
        \"\"\"One lamp.\"\"\"
        name = "lamp"
        level = Reg("u8", 0x00, write="_set_level", doc="brightness")
        ...

A register without offset is state the guest does not see. docs/writing-a-device.md has the whole story.

Threads: a device's methods run with the machine lock held (MMIO accesses take it in the address
space, chardev and timer callbacks in the main loop).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, overload

from e2kemu import trace
from e2kemu.devices.vmstate import Field, VMState, VMStateSection
from e2kemu.devices.vmstate_codecs import INTS


class _Who(threading.local):
    """Of each thread: the CPU it executes, and the one it speaks for."""

    executes: int | None = None
    speaks_for: int = 0
    exact: bool = False     # it executes a single wide instruction, and what was executed before is counted


who = _Who()
"""``Cpu.run`` sets ``executes`` and ``exact``, nobody else does."""


def current_cpu() -> int:
    """Number of the CPU whose access to a device this is: the one this thread executes, the one that a monitor
    has selected (``speaking_for``), or 0."""
    return who.speaks_for if who.executes is None else who.executes


@contextmanager
def speaking_for(cpu: int) -> Iterator[None]:
    """Accesses by this thread are those of CPU ``cpu``, where it executes none."""
    before, who.speaks_for = who.speaks_for, cpu
    try:
        yield
    finally:
        who.speaks_for = before


class Reg:
    """One register of a device class.

    ``width`` is "u8", "u16", "u32", "u64" (or "i8" ...: state only). ``offset`` is its byte offset in
    the device's window; None: not visible to the guest. ``read`` and ``write`` name methods that make
    its value (no argument) or take it (one argument); without ``read`` the stored value is read,
    without ``write`` the bits of ``mask`` are stored. ``readonly`` registers ignore writes.
    """

    def __init__(
        self,
        width: str,
        offset: int | None = None,
        *,
        read: str | None = None,
        write: str | None = None,
        mask: int | None = None,
        reset: int = 0,
        readonly: bool = False,
        doc: str = "",
    ) -> None:
        self.width, self.offset, self.doc = width, offset, doc
        self.read, self.write, self.readonly, self.reset = read, write, readonly, reset
        self.codec = INTS[width]
        self.size = self.codec.size
        self.mask = (1 << 8 * self.size) - 1 if mask is None else mask
        self.name = ""

    def __set_name__(self, owner: type[Device], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type[Device]) -> Reg: ...
    @overload
    def __get__(self, device: Device, owner: type[Device]) -> int: ...
    def __get__(self, device: Device | None, owner: type[Device]) -> Reg | int:
        return self if device is None else device.values[self.name]

    def __set__(self, device: Device, value: int) -> None:
        if not self.codec.signed:
            value &= (1 << 8 * self.size) - 1
        device.values[self.name] = value

    def vm_field(self) -> Field:
        """The register as a field of a VMState."""
        return Field(self.name, self.codec)

    def since(self, version: int) -> _LaterReg:
        """The register as a field that came with ``version`` of the VMState."""
        return _LaterReg(self, version)


class _LaterReg:
    """A Reg in a list of fields with its version; its name is known only once the class is made."""

    def __init__(self, reg: Reg, version: int) -> None:
        self._reg, self._version = reg, version

    def vm_field(self) -> Field:
        return self._reg.vm_field().since(self._version)


class Irq:
    """An interrupt line of a device class; in a device, an ``IrqLine``."""

    def __init__(self, doc: str = "") -> None:
        self.doc = doc
        self.name = ""

    def __set_name__(self, owner: type[Device], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type[Device]) -> Irq: ...
    @overload
    def __get__(self, device: Device, owner: type[Device]) -> IrqLine: ...
    def __get__(self, device: Device | None, owner: type[Device]) -> Irq | IrqLine:
        return self if device is None else device.lines[self.name]


class IrqLine:
    """A line: ``set`` tells ``sink`` when the level changes. Not connected: nothing happens."""

    def __init__(self) -> None:
        self.level = False
        self.sink: Callable[[bool], None] | None = None

    def set(self, level: bool) -> None:
        """Drive the line."""
        if level != self.level:
            self.level = level
            if self.sink is not None:
                self.sink(level)


class Device:
    """Base of all devices. A class gives ``name``, registers, and its ``vmstate`` (None: no state).

    ``size`` is the number of bytes of its window, ``max_access`` the widest access it takes whole.
    """

    name: ClassVar[str] = ""
    size: ClassVar[int] = 0
    max_access: ClassVar[int] = 4
    vmstate: ClassVar[VMState | None] = None
    registers: ClassVar[dict[str, Reg]] = {}
    irqs: ClassVar[dict[str, Irq]] = {}
    _at: ClassVar[dict[int, Reg]] = {}

    def __init_subclass__(cls) -> None:
        registers: dict[str, Reg] = {}
        irqs: dict[str, Irq] = {}
        for base in reversed(cls.__mro__):
            for key, item in vars(base).items():
                if isinstance(item, Reg):
                    registers[key] = item
                elif isinstance(item, Irq):
                    irqs[key] = item
        cls.registers, cls.irqs = registers, irqs
        cls._at = {}
        for reg in registers.values():
            if reg.offset is None:
                continue
            for at in range(reg.offset, reg.offset + reg.size):
                if at in cls._at or at >= cls.size:
                    raise TypeError(f"{cls.__name__}.{reg.name} overlaps or leaves the window at {at:#x}")
                cls._at[at] = reg

    def __init__(self) -> None:
        self.values: dict[str, int] = {name: reg.reset for name, reg in self.registers.items()}
        """The stored value of each register."""
        self.lines: dict[str, IrqLine] = {name: IrqLine() for name in self.irqs}
        self.base: int | None = None
        """Physical address of the window, for printing; set by the builder."""
        self.instance_id = 0
        self.migration_blocker = ""
        """Why a machine with this device cannot be migrated now (state that no section holds); empty: it can."""

    # -- what a device overrides

    def reset(self) -> None:
        """Back to the state after power-on."""
        for name, reg in self.registers.items():
            self.values[name] = reg.reset
        for line in self.lines.values():
            line.set(False)

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows of it."""
        return {}

    # -- MMIO, from the registers' offsets

    def mmio_read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes at ``offset``; bytes that belong to no register read as zero."""
        whole_reg = self._at.get(offset)
        if whole_reg is not None and whole_reg.offset == offset and whole_reg.size == size:
            return self.read_register(whole_reg)
        value = 0
        for start, reg, low, count in self._parts(offset, size, "read"):
            whole = self.read_register(reg)
            value |= (whole >> 8 * low & ((1 << 8 * count) - 1)) << 8 * (start - offset)
        return value

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes at ``offset``; a part of a register keeps the stored rest."""
        for start, reg, low, count in self._parts(offset, size, "write"):
            bits = (1 << 8 * count) - 1
            new = (value >> 8 * (start - offset) & bits) << 8 * low
            if count < reg.size:
                new |= self.values[reg.name] & ~(bits << 8 * low)
            self.write_register(reg, new)

    def _parts(self, offset: int, size: int, what: str) -> Iterator[tuple[int, Reg, int, int]]:
        """The pieces (start, register, first byte in it, bytes) of an access."""
        at, end = offset, offset + size
        while at < end:
            reg = self._at.get(at)
            if reg is None or reg.offset is None:
                trace.guest_error(f"{self.name}: {what} of {size} bytes at offset {offset:#x}: no register")
                return
            low = at - reg.offset
            count = min(end - at, reg.size - low)
            yield at, reg, low, count
            at += count

    def read_register(self, reg: Reg) -> int:
        """The value of a register as the guest reads it."""
        return int(getattr(self, reg.read)()) if reg.read else self.values[reg.name]

    def write_register(self, reg: Reg, value: int) -> None:
        """Store to a register as the guest does."""
        if reg.write:
            getattr(self, reg.write)(value)
        elif reg.readonly:
            trace.guest_error(f"{self.name}: write of {value:#x} to read-only register {reg.name}")
        else:
            self.values[reg.name] = value & reg.mask

    # -- migration and printing

    def section(self) -> VMStateSection | None:
        """Its section in a migration stream, None without state."""
        return None if self.vmstate is None else VMStateSection(self, self.vmstate, self.instance_id)

    def qtree(self) -> str:
        """Its lines in ``info qtree``."""
        lines = [f'dev: {self.name}, id ""']
        lines += [f"  {key} = {value}" for key, value in self.properties().items()]
        lines += [f"  irq {key} = {int(line.level)}" for key, line in self.lines.items()]
        if self.base is not None:
            lines.append(f"  mmio {self.base:016x}/{self.size:016x}")
        return "\n".join(lines) + "\n"
