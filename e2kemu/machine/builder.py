"""config -> Machine: the only place that knows all parts of a computer.

Memory, devices and their addresses come from the board's table; images are read and checked before
anything is made, so that a wrong file leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import TypeVar, cast

from e2kemu.cpu.codepages import CodePages
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS, CpuModel
from e2kemu.devices.core import Device
from e2kemu.devices.iohub import PciHost
from e2kemu.devices.ioport import IoPorts
from e2kemu.devices.lt_timer import LtTimer
from e2kemu.devices.serial8250 import Serial8250
from e2kemu.devices.sic import Sic
from e2kemu.devices.test_device import TestDevice
from e2kemu.devices.virtio_blk import VirtioBlk
from e2kemu.devices.virtio_console import VirtioConsole
from e2kemu.errors import ImageError, OptionError
from e2kemu.loader import read_rom
from e2kemu.loop import MainLoop
from e2kemu.machine.boards import ESCC_A, ESCC_B, MIB, Board
from e2kemu.machine.boot import prepare_boot
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.icount import IcountClock
from e2kemu.machine.interrupts import (
    PIN_VIRTIO,
    PINS_SERIAL,
    Connect,
    add_interrupts,
    attach_cpus,
    not_connected,
)
from e2kemu.machine.iohub import add_iohub
from e2kemu.machine.machine import Machine
from e2kemu.machine.nics import add_nics
from e2kemu.machine.watchdog import watchdog_expired
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, MmioRegion, RAMRegion

FIRMWARE = "boot.bin"
"""The bundled boot ROM, a file of the package ``e2kemu.firmware_images``."""

M = TypeVar("M", bound=Machine)


def ram_banks(board: Board, ram: int) -> list[tuple[int, int]]:
    """Address and size of each bank of ``ram`` bytes of memory."""
    low = min(ram, board.ram_low_size)
    return [(0, low)] + ([(board.ram_high_base, ram - low)] if ram > low else [])


def build(config: MachineConfig, loop: MainLoop | None = None, cls: type[M] = Machine) -> M:  # type: ignore[assignment]
    """Make the machine of ``config``, stopped, as after power-on. ``loop`` is the emulator's main loop.

    Raises OptionError for what cannot be built, ImageError for a firmware or kernel that cannot be used.
    """
    config.check()
    board = config.board
    if board.process:
        from e2kemu.linux.machine import build as build_process  # a computer does without

        return build_process(config, loop, cls)
    banks = ram_banks(board, config.ram)
    rom_image = read_rom(config.bios, board.rom_size) if config.bios else bundled_firmware()
    boot = prepare_boot(config, board, banks)

    lock = threading.RLock() if loop is None else cast("threading.RLock", loop.lock)
    machine = cls(config, MainLoop(lock) if loop is None else loop, lock)
    try:
        ram = RAMBlock(board.ram_name, config.ram)
    except OSError as error:
        raise OptionError(f"cannot set up guest memory '{board.ram_name}': {error.strerror}") from error
    rom = RAMBlock(board.rom_name, board.rom_size, readonly=True)
    machine.ram_blocks += [ram, rom]
    for name, (base, size), offset in zip(
        ("elbrus.ram", "elbrus.ram-high"), banks, (0, board.ram_low_size), strict=False
    ):
        machine.space.map(base, RAMRegion(ram, offset, size), name)
    machine.space.map(board.rom_base, RAMRegion(rom), board.rom_name)
    model = MODELS[config.cpu_model]
    _add_devices(machine, board, banks, model)
    code = CodePages()
    for index in range(config.smp):
        cpu = Cpu(index, model, machine.space, machine.clock.now, config.accel, code)
        machine.cpus.append(cpu)
        machine.sections.append(cpu.section())
        machine.space.listeners.append(cpu.memory_changed)
        if isinstance(machine.clock, IcountClock):
            cpu.clock = machine.clock.read
        cpu.interrupts.wake = partial(machine.wake_cpu, index)
    attach_cpus(machine)

    rom.write(0, rom_image)

    def load_images() -> None:
        # with an IOHUB it is a flash chip, which keeps what was programmed, unless memory was lost (a failed loadvm)
        if not board.iohub or not any(rom.read(0, len(rom_image))):
            rom.write(0, rom_image)
        if boot.bootinfo_base != board.bootinfo_base and not config.bios:
            rom.write(board.rom_size - 8, boot.bootinfo_base.to_bytes(8, "little"))
        for image in boot.images:
            machine.space.write_bytes(image.address, image.data)
            _clear(machine.space, image.address + len(image.data), image.address + image.size)

    machine.on_reset.append(load_images)
    load_images()
    return machine


def _clear(space: AddressSpace, address: int, end: int) -> None:
    """Zero what lies behind a segment's bytes (RAM may have been used before a reset), without
    touching memory that is zero already."""
    while address < end:
        size = min(MIB, end - address)
        if any(space.read_bytes(address, size)):
            space.write_bytes(address, bytes(size))
        address += size


def bundled_firmware() -> bytes:
    """The boot ROM image that comes with the package. Raises ImageError when it is missing."""
    try:
        return (resources.files("e2kemu") / "firmware_images" / FIRMWARE).read_bytes()
    except OSError as error:
        raise ImageError(f"could not load BIOS '{FIRMWARE}': {error.strerror}") from error


def _add_devices(machine: Machine, board: Board, banks: list[tuple[int, int]], model: CpuModel) -> None:
    """Make the devices in the order of the stream and map them."""
    clock, space, config = machine.clock, machine.space, machine.config

    def add(device: Device, base: int, priority: int = 0) -> None:
        device.base = base
        machine.devices.append(device)
        region = MmioRegion(device, device.size, device.max_access)
        space.map(base, region, device.name, priority)

    connect: Connect = not_connected
    if board.interrupts:        # first: when a stream is loaded, their pins are known before the devices assert them
        connect = add_interrupts(machine, board, model, add, lambda: watchdog_expired(machine))
    ports = board.ports_base
    high_base, high_size = banks[1] if len(banks) > 1 else (0, 0)
    add(IoPorts(), ports, priority=-1)
    add(Sic(banks[0][1], high_base, high_size, board.pci_config_base if board.iohub else 0), board.sic_base)
    # the console is there even when nothing is connected to it
    for index, chardev in enumerate(config.serials or (None,)):
        port = board.serial_ports[index]
        if port in (ESCC_A, ESCC_B):
            continue
        serial = Serial8250(clock, chardev)
        serial.instance_id = index
        add(serial, ports + port)
        connect(PINS_SERIAL[index], serial.irq, f"serial {index}")
    if not board.iohub:
        add(LtTimer(clock), board.timer_base)
    test = TestDevice(
        clock, lambda status: machine.shutdown(status, guest=True, reason="guest-shutdown"), machine.sleeper
    )
    test.base = ports + board.exit_port
    machine.devices.append(test)
    space.map(ports + board.exit_port, MmioRegion(test, 4, 4), "e2k-test-exit")
    space.map(ports + board.idle_port, MmioRegion(_IdleWindow(test), 4, 4), "e2k-test-idle")
    for index, disk in enumerate(config.disks):
        blk = VirtioBlk(space, disk.drive, disk.serial)
        blk.instance_id = index
        disk.drive.attached = disk.id or f"virtio-mmio.{index}"
        machine.disks.append(disk.drive)
        add(blk, board.virtio_base + index * blk.size)
        connect(PIN_VIRTIO + index, blk.irq, disk.drive.attached)
    add_nics(machine, board, add)
    for index, nic in enumerate(machine.nics, len(config.disks)):
        connect(PIN_VIRTIO + index, nic.irq, nic.id)
    _add_consoles(machine, board, add, connect)
    if board.iohub:
        add_iohub(machine, board, add, connect)
    if board.interrupts and config.cpu_model in board.legacy_models:
        for name, base, size, target in (("legacy-pci", board.legacy_config_base, PciHost.size, board.pci_config_base),
                                         ("legacy-ports", board.legacy_ports_base, IoPorts.size, ports)):
            space.map(base, MmioRegion(_Alias(space, target), size, 8), name)


def _add_consoles(machine: Machine, board: Board, add: Callable[[Device, int], None], connect: Connect) -> None:
    """virtio consoles: in the windows behind those of the network cards."""
    consoles = []
    for number, chardev in enumerate(machine.config.consoles):
        console = VirtioConsole(machine.space, machine.clock, chardev)
        console.instance_id = number
        slot = len(machine.config.disks) + len(machine.nics) + number
        add(console, board.virtio_base + slot * console.size)
        connect(PIN_VIRTIO + slot, console.irq, f"{console.name}.{number}")
        consoles.append(console)

    def resumed(event: str, data: object) -> None:
        if event == "RESUME":
            for console in consoles:
                console.resumed()

    if consoles:
        machine.listeners.append(resumed)


class _Alias:
    """Addresses at which is what is at others."""

    def __init__(self, space: AddressSpace, target: int) -> None:
        self._space, self._target = space, target

    def mmio_read(self, offset: int, size: int) -> int:
        return self._space.read(self._target + offset, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        self._space.write(self._target + offset, size, value)


class _IdleWindow:
    """The second register of the test device, which the board maps apart from the first."""

    def __init__(self, device: TestDevice) -> None:
        self._device = device

    def mmio_read(self, offset: int, size: int) -> int:
        return self._device.mmio_read(offset + 4, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        self._device.mmio_write(offset + 4, size, value)
