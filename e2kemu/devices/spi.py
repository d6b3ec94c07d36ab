"""The SPI master of the IOHUB's I2C/SPI controller: registers, buffer, chip selects.

A transaction is one opcode byte, up to four address bytes, and up to 64 data bytes in one direction. Writing
CONTROL.start makes it; it is done when the store is. Source: the public Linux driver for e2k.

| offset | register | bits                                                                                     |
|--------|----------|------------------------------------------------------------------------------------------|
| 0x00   | CONTROL  | 1:0 chip, 3:2 address bytes - 1, 10:4 data bytes (0: 64), 11 address, 12 data phase,     |
|        |          | 13 write, 14 start, 15 kill                                                              |
| 0x04   | STATUS   | 0 busy (never), 1 done, 2 failed; a write clears 1 and 2                                 |
| 0x08   | OPCODE   | 7:0                                                                                      |
| 0x0c   | ADDRESS  | sent highest byte first; with four bytes: 23:16, 15:8, 7:0, 31:24                        |
| 0x10   | MODE     | 0 SPI mode 3, 1 frequency changed (write clears), 3:2 divider, 4 no interrupt            |

The buffer is a window of its own. A transaction with a chip that is not there fails, and reads ones. The I2C half of
the controller (0x14 on) has no devices and is not modelled: it reads as zero, ``-d guest_errors`` shows it.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from e2kemu import trace
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg

BUFFER = 64
ADDRESS_PHASE, DATA_PHASE, WRITE, START = 1 << 11, 1 << 12, 1 << 13, 1 << 14
DONE, FAILED = 1 << 1, 1 << 2
FREQUENCY_CHANGED, DIVIDER, NO_INTERRUPT = 1 << 1, 3 << 2, 1 << 4
ADDRESS_ORDER = (lambda a: (a,), lambda a: (a >> 8, a), lambda a: (a >> 16, a >> 8, a),
                 lambda a: (a >> 16, a >> 8, a, a >> 24))


class SpiChip(Protocol):
    """A chip at a chip select."""

    def transfer(self, command: bytes, data: bytes, read: int) -> bytes:
        """One selection: ``command`` (opcode and address) and ``data`` go in, ``read`` bytes come out."""


class SpiMaster(Device):
    """IOHUB SPI master"""

    name = "iohub-spi"
    size = 0x40

    control = Reg("u32", 0x00, write="_write_control", doc="the transaction; 14 starts it")
    status = Reg("u32", 0x04, write="_write_status", doc="1 done, 2 failed")
    opcode = Reg("u32", 0x08, mask=0xFF, doc="first byte sent")
    address = Reg("u32", 0x0C, doc="address bytes")
    mode = Reg("u32", 0x10, write="_write_mode", doc="0 mode 3, 1 frequency changed, 3:2 divider, 4 no interrupt")

    irq = Irq("a transaction is done")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "iohub-spi", 1, [control, status, opcode, address, mode, vm.buffer("buffer", BUFFER)], post_load="_post_load"
    )

    def __init__(self) -> None:
        super().__init__()
        self.chips: dict[int, SpiChip] = {}
        self.buffer = bytearray(BUFFER)

    def reset(self) -> None:
        super().reset()
        self.buffer[:] = bytes(BUFFER)

    def _write_control(self, value: int) -> None:
        self.control = value & 0x3FFF
        if not value & START:
            return
        command = bytearray((self.opcode & 0xFF,))
        if value & ADDRESS_PHASE:
            command += bytes(byte & 0xFF for byte in ADDRESS_ORDER[value >> 2 & 3](self.address))
        count = min(value >> 4 & 0x7F or BUFFER, BUFFER) if value & DATA_PHASE else 0
        chip = self.chips.get(value & 3)
        self.status |= DONE
        if chip is None:
            trace.guest_error(f"{self.name}: chip {value & 3} is selected, and is not there")
            self.status |= FAILED
        if value & WRITE:
            if chip is not None:
                chip.transfer(bytes(command), bytes(self.buffer[:count]), 0)
        else:
            answer = b"" if chip is None else chip.transfer(bytes(command), b"", count)
            self.buffer[:count] = answer[:count].ljust(count, b"\xff")
        self._update()

    def _write_status(self, value: int) -> None:
        self.status &= ~(value & (DONE | FAILED))
        self._update()

    def _write_mode(self, value: int) -> None:
        changed = (value ^ self.mode) & DIVIDER
        kept = self.mode & FREQUENCY_CHANGED & ~value
        self.mode = value & (1 | DIVIDER | NO_INTERRUPT) | (FREQUENCY_CHANGED if changed else kept)
        self._update()

    def _update(self) -> None:
        self.irq.set(bool(self.status & (DONE | FAILED)) and not self.mode & NO_INTERRUPT)

    def _post_load(self, version: int) -> None:
        self._update()


class SpiBuffer(Device):
    """IOHUB SPI data buffer"""

    name = "iohub-spi-buffer"
    size = BUFFER
    max_access = 8

    def __init__(self, master: SpiMaster) -> None:
        super().__init__()
        self._master = master

    def mmio_read(self, offset: int, size: int) -> int:
        """Bytes of the buffer."""
        return int.from_bytes(self._master.buffer[offset : offset + size], "little")

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change bytes of the buffer."""
        self._master.buffer[offset : offset + size] = value.to_bytes(size, "little")
