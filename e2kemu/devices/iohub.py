"""IOHUB: the PCI host bridge, and the functions of the south bridge that are its own.

Configuration space is memory: bus << 20 | device << 15 | function << 12 | register, 256 MiB from the window's
base on (Linux for machines with a full SIC). The ports 0xcf8 (address: 31 enable, 23:16 bus, 15:11 device, 10:8
function, 7:2 register) and 0xcfc (data), configuration mechanism 1, reach the same registers for software that
has no other way. A register of a function that is not there reads as ones.

Bus 0 has the virtual bridge 00:00.0; the functions are on the bus behind it. Memory accesses of the PCI gap
that no other device takes go through the bridge's window to the functions' base address registers.

Device numbers are those of IOHUB2 in the public Linux headers for e2k. That device 2 of the second bus has them,
serial as its function 2, is the boot loader's map; the order of the others, and the addresses that firmware gave
to the windows, are chosen (docs/machine.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from e2kemu import trace
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg
from e2kemu.devices.pci import ENDPOINT_STATE, PciBridge, PciEndpoint, PciFunction

ADDRESS_PORT, DATA_PORT = 0xCF8, 0xCFC
ADDRESS_ENABLE = 1 << 31

# -- reset (configuration registers 0x60.. of the I2C/SPI function)

SOFTWARE_TO_HARD, WATCHDOG_TO_HARD, SOFTWARE_TO_SOFT, WATCHDOG_TO_SOFT = 0x04, 0x08, 0x10, 0x20
LED = 0x8000_0080
SOFTWARE_RESET, SOFTWARE_RESET_DONE = 1, 2
LAST_RESET_SHIFT = 2
RESET_POWER, RESET_SOFTWARE, RESET_WATCHDOG = 0, 1, 2
"""What "last reset" says: power-on or the system's button, software, watchdog."""

# -- power management

PM_TIMER_HZ = 3_579_545
SCI_ENABLE, SLEEP_ENABLE = 1 << 0, 1 << 13
SLEEP_TYPE_SHIFT = 10
TIMER_STATUS, BUTTON_STATUS, WAKE_STATUS = 1 << 0, 1 << 8, 1 << 15
AC_POWER = 1 << 1
TIMER_ENABLE, TIMER_32, BUTTON_ENABLE = 1 << 0, 1 << 1, 1 << 8
S3, S4, S5 = 3, 4, 5


class PciHost(Device):
    """IOHUB PCI host bridge: configuration space"""

    name = "iohub-pcihost"
    size = 0x1000_0000

    address = Reg("u32", doc="configuration address (port 0xcf8)")

    vmstate: ClassVar[vm.VMState] = vm.VMState("iohub-pcihost", 1, [address])

    def __init__(self) -> None:
        super().__init__()
        self.bridge = PciBridge()

    def function(self, bus: int, devfn: int) -> PciFunction | None:
        """The function there now: the bridge says which bus is behind it."""
        if bus == 0:
            return self.bridge if devfn == 0 else None
        return self.bridge.functions.get(devfn) if bus == self.bridge.secondary else None

    def add(self, devfn: int, function: PciFunction) -> None:
        """Put a function on the bus behind the bridge."""
        function.place = (1, devfn)
        others = [other for at, other in self.bridge.functions.items() if at >> 3 == devfn >> 3]
        self.bridge.functions[devfn] = function
        for other in (*others, function):
            other.multifunction = bool(others)

    def mmio_read(self, offset: int, size: int) -> int:
        """A configuration register."""
        function = self.function(offset >> 20, offset >> 12 & 0xFF)
        return (1 << 8 * size) - 1 if function is None else function.mmio_read(offset & 0xFFF, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change a configuration register."""
        function = self.function(offset >> 20, offset >> 12 & 0xFF)
        if function is not None:
            function.mmio_write(offset & 0xFFF, size, value)


class PciPorts:
    """The ports 0xcf8 to 0xcff: configuration mechanism 1."""

    size = 8

    def __init__(self, host: PciHost) -> None:
        self._host = host

    def _target(self, offset: int) -> int | None:
        """Where in configuration space the data port leads; None: it is off."""
        address = self._host.address
        if not address & ADDRESS_ENABLE:
            return None
        return (address >> 8 & 0xFFFF) << 12 | address & 0xFC | offset & 3

    def mmio_read(self, offset: int, size: int) -> int:
        """The address, or the register it names."""
        if offset < 4:
            return self._host.address >> 8 * offset & ((1 << 8 * size) - 1)
        target = self._target(offset)
        return (1 << 8 * size) - 1 if target is None else self._host.mmio_read(target, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change the address (only as a whole), or the register it names."""
        if offset < 4:
            if size == 4:
                self._host.address = value & 0x80FF_FFFC
            else:
                trace.guest_error(f"{PciHost.name}: write of {size} bytes to the configuration address")
            return
        target = self._target(offset)
        if target is not None:
            self._host.mmio_write(target, size, value)


class PciMemory:
    """The PCI gap of physical memory, where functions answer to their base address registers."""

    def __init__(self, host: PciHost, base: int) -> None:
        self._host, self._base = host, base

    def _find(self, offset: int, size: int, what: str) -> tuple[Device, int] | None:
        address = self._base + offset
        if self._host.bridge.forwards(address):
            for function in self._host.bridge.functions.values():
                found = function.decode(address)
                if found is not None:
                    window, at = found
                    if at + size <= window.handler_size:
                        assert isinstance(window.handler, Device)
                        return window.handler, at
        trace.guest_error(f"{PciHost.name}: {what} of {size} bytes at {address:#x}: no function answers there")
        return None

    def mmio_read(self, offset: int, size: int) -> int:
        """A register of a function; ones where nobody answers."""
        found = self._find(offset, size, "read")
        return (1 << 8 * size) - 1 if found is None else _split_read(found[0], found[1], size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change a register of a function."""
        found = self._find(offset, size, "write")
        if found is not None:
            _split_write(found[0], found[1], size, value)


def _split_read(device: Device, offset: int, size: int) -> int:
    """A read in pieces of at most ``max_access`` bytes."""
    step = min(size, device.max_access)
    return sum(device.mmio_read(offset + at, step) << 8 * at for at in range(0, size, step))


def _split_write(device: Device, offset: int, size: int, value: int) -> None:
    """A write in pieces of at most ``max_access`` bytes."""
    step = min(size, device.max_access)
    for at in range(0, size, step):
        device.mmio_write(offset + at, step, value >> 8 * at & ((1 << 8 * step) - 1))


class ParallelSerial(PciEndpoint):
    """IOHUB parallel and serial ports (window 1: Am85C30)"""

    name = "iohub-parallel-serial"
    device_number = 0x8019
    class_code = 0x070002

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "iohub-parallel-serial", 1, [*ENDPOINT_STATE], post_load="check_loaded"
    )


class I2cSpi(PciEndpoint):
    """IOHUB I2C/SPI controller and reset (windows 0, 1: registers and buffer)"""

    name = "iohub-i2c-spi"
    device_number = 0x8018
    class_code = 0x088000

    reset_control = Reg("u32", 0x60, mask=SOFTWARE_TO_HARD | WATCHDOG_TO_HARD | SOFTWARE_TO_SOFT
                        | WATCHDOG_TO_SOFT | LED, doc="2, 4 software reset is hard, soft; 3, 5 the watchdog's")
    software_reset = Reg("u32", 0x64, read="_software_reset", write="_write_software_reset",
                         doc="0 reset, 1 done, 7:2 the last reset: 0 power, 1 software, 2 watchdog")
    reset_duration = Reg("u32", 0x68, mask=0xFF_FFFF, doc="length of a software reset; no effect")

    last_reset = Reg("u8", doc="the last reset: 0 power, 1 software, 2 watchdog")
    done = Reg("u8", doc="1: a software reset has been made")
    wanted = Reg("u8", doc="the reset that has been asked for and is not made yet: 1 software, 2 watchdog")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "iohub-i2c-spi", 1, [*ENDPOINT_STATE, reset_control, reset_duration, last_reset, done, wanted],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, on_reset: Callable[[], None]) -> None:
        """``on_reset()`` resets the machine soon; ``wanted`` is not zero until it has."""
        super().__init__()
        self._on_reset = on_reset

    def reset(self) -> None:
        why = self.wanted
        super().reset()
        self.last_reset = why
        self.done = int(self.last_reset == RESET_SOFTWARE)

    def _software_reset(self) -> int:
        return self.last_reset << LAST_RESET_SHIFT | (SOFTWARE_RESET_DONE if self.done else 0)

    def _write_software_reset(self, value: int) -> None:
        if value & SOFTWARE_RESET_DONE:
            self.done = 0
        if value & SOFTWARE_RESET:
            self._want(RESET_SOFTWARE)

    def _want(self, why: int) -> None:
        # once: a guest that asks again before it is stopped is not reset twice
        if not self.wanted:
            self.wanted = why
            self._on_reset()

    def watchdog(self) -> bool:
        """The watchdog has run out: reset, unless the control register does not let it. Returns whether it does."""
        if self.reset_control & (WATCHDOG_TO_HARD | WATCHDOG_TO_SOFT):
            self._want(RESET_WATCHDOG)
            return True
        trace.guest_error(f"{self.name}: the watchdog has run out, and may not reset the machine")
        return False

    def _post_load(self, version: int) -> None:
        self.check_loaded(version)
        if max(self.last_reset, self.wanted) > RESET_WATCHDOG or self.done > 1:
            raise ValueError(f"last reset {self.last_reset}, done {self.done}, wanted {self.wanted}")


class Spmc(PciEndpoint):
    """IOHUB power management controller (SPMC): timer, button, sleep states"""

    name = "iohub-spmc"
    device_number = 0x800E
    class_code = 0x088000

    pm_timer = Reg("u32", 0x40, read="_pm_timer", readonly=True, doc="3.579545 MHz, 24 or 32 bits")
    pm1_status = Reg("u32", 0x44, read="_pm1_status", write="_write_pm1_status",
                     doc="0 timer, 8 button, 15 wake (write 1 clears); 1 mains power")
    pm1_enable = Reg("u32", 0x48, mask=TIMER_ENABLE | TIMER_32 | BUTTON_ENABLE, write="_write_pm1_enable",
                     doc="0 timer, 8 button interrupt; 1: the timer has 32 bits")
    pm1_control = Reg("u32", 0x4C, read="_pm1_control", write="_write_pm1_control",
                      doc="0 SCI, 12:10 sleep type, 13 sleep")
    suspend_counter = Reg("u32", 0x50, doc="attention suspend counter; no effect")
    reset_counter = Reg("u32", 0x54, reset=0x4000, doc="power-up reset counter; no effect")
    usb_control = Reg("u32", 0x58, doc="USB control; no effect")

    events = Reg("u32", doc="the events of PM1_STS")
    control = Reg("u32", doc="the stored bits of PM1_CNT")

    sci = Irq("system control interrupt")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "iohub-spmc", 1,
        [*ENDPOINT_STATE, pm1_enable, suspend_counter, reset_counter, usb_control, events, control],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, clock: VirtualClock, on_off: Callable[[], None]) -> None:
        """``on_off()`` switches the machine off soon."""
        super().__init__()
        self._clock, self._on_off = clock, on_off
        self.overflow = clock.timer(self._overflowed)

    def reset(self) -> None:
        super().reset()
        self.overflow.cancel()
        self._update()

    def press_button(self) -> bool:
        """The power button is pressed. Whether the guest has asked to be told."""
        self.events |= BUTTON_STATUS
        self._update()
        return bool(self.pm1_enable & BUTTON_ENABLE and self.control & SCI_ENABLE)

    def _update(self) -> None:
        wanted = self.events & self.pm1_enable & (TIMER_STATUS | BUTTON_STATUS)
        self.sci.set(bool(wanted and self.control & SCI_ENABLE))

    def _ticks(self) -> int:
        return self._clock.now() * PM_TIMER_HZ // 1_000_000_000

    def _bits(self) -> int:
        return 32 if self.pm1_enable & TIMER_32 else 24

    def _pm_timer(self) -> int:
        return self._ticks() & ((1 << self._bits()) - 1)

    def _overflowed(self) -> None:
        self.events |= TIMER_STATUS
        self._update()
        self._arm()

    def _arm(self) -> None:
        """The timer's event is its highest bit changing."""
        if self.pm1_enable & TIMER_ENABLE:
            half = 1 << self._bits() - 1
            due = (self._ticks() // half + 1) * half
            self.overflow.arm(-(-due * 1_000_000_000 // PM_TIMER_HZ))
        else:
            self.overflow.cancel()

    def _pm1_status(self) -> int:
        return self.events | AC_POWER

    def _write_pm1_status(self, value: int) -> None:
        self.events &= ~(value & (TIMER_STATUS | BUTTON_STATUS | WAKE_STATUS))
        self._update()

    def _write_pm1_enable(self, value: int) -> None:
        self.pm1_enable = value & type(self).pm1_enable.mask
        self._arm()
        self._update()

    def _pm1_control(self) -> int:
        return self.control

    def _write_pm1_control(self, value: int) -> None:
        self.control = value & (SCI_ENABLE | 7 << SLEEP_TYPE_SHIFT)
        self._update()
        if value & SLEEP_ENABLE:
            state = value >> SLEEP_TYPE_SHIFT & 7
            if state in (S4, S5):
                self._on_off()
            else:
                trace.guest_error(f"{self.name}: sleep state {state} is not modelled, only 4 and 5 (off)")

    def _post_load(self, version: int) -> None:
        self.check_loaded(version)
        self._arm()
        self._update()
