"""16550A serial port (8250 with FIFOs), eight byte-wide registers.

| offset | read             | write            | with LCR.DLAB      |
|--------|------------------|------------------|--------------------|
| 0      | RBR received     | THR to send      | DLL divisor low    |
| 1      | IER              | IER              | DLM divisor high   |
| 2      | IIR              | FCR              |                    |
| 3      | LCR              | LCR              |                    |
| 4      | MCR              | MCR              |                    |
| 5      | LSR              | -                |                    |
| 6      | MSR              | -                |                    |
| 7      | SCR              | SCR              |                    |

A written byte goes to the character device at once, so THR is always empty; a byte is never lost.
Received bytes wait in ``backlog`` until there is place in the FIFO (16 bytes, or 1 with the FIFO off),
so the guest never sees an overrun; the backlog travels with a migration. The line state (baud rate,
parity) has no effect but on the time after which a FIFO below its trigger level interrupts.
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu.chardev import Chardev
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg

IER_RDI, IER_THRI, IER_RLSI, IER_MSI = 1, 2, 4, 8
IIR_NO_INT, IIR_THRI, IIR_RDI, IIR_RLSI, IIR_CTI, IIR_MSI = 0x01, 0x02, 0x04, 0x06, 0x0C, 0x00
IIR_FIFO = 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_DR, LSR_OE, LSR_BI, LSR_THRE, LSR_TEMT = 0x01, 0x02, 0x10, 0x20, 0x40
LSR_ERRORS = 0x1E
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_DELTAS = 0x0F

FIFO_SIZE = 16
TRIGGER_LEVELS = (1, 4, 8, 14)
"""Bytes in the FIFO that interrupt, by FCR bits 7:6."""

BAUD_BASE = 115200
LONGEST_TIMEOUT_NS = 40 * 1_000_000_000 * 0xFFFF // BAUD_BASE
"""Four characters at the lowest baud rate."""

BACKLOG_LIMIT = 1 << 20
"""Input bytes kept while the guest does not read; more is dropped, as on a real line."""


class Serial8250(Device):
    """16550A UART"""

    name = "serial"
    size = 8
    max_access = 1

    data = Reg("u8", 0, read="_read_data", write="_write_data", doc="RBR, THR; with DLAB divisor low")
    enable = Reg("u8", 1, read="_read_ier", write="_write_ier", doc="IER; with DLAB divisor high")
    ident = Reg("u8", 2, read="_read_iir", write="_write_fcr", doc="IIR; FCR")
    lcr = Reg("u8", 3, doc="line control")
    mcr = Reg("u8", 4, mask=0x1F, write="_write_mcr", reset=MCR_OUT2, doc="modem control")
    lsr = Reg("u8", 5, read="_read_lsr", readonly=True, reset=LSR_THRE | LSR_TEMT, doc="line status")
    msr = Reg("u8", 6, read="_read_msr", readonly=True, reset=MSR_DCD | MSR_DSR | MSR_CTS, doc="modem status")
    scr = Reg("u8", 7, doc="scratch")

    divider = Reg("u16", reset=12, doc="divisor of the baud rate")
    rbr = Reg("u8", doc="byte read last")
    ier = Reg("u8", doc="interrupt enable")
    iir = Reg("u8", reset=IIR_NO_INT, doc="interrupt identification")
    fcr = Reg("u8", doc="FIFO control")
    thr_ipending = Reg("u8", doc="1: THR has become empty and IIR has not been read since")
    timeout_ipending = Reg("u8", doc="1: bytes wait in the FIFO below its trigger level")

    irq = Irq("interrupt request")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "serial", 3,
        [divider, rbr, ier, iir, lcr, mcr, lsr, msr, scr, fcr],
        subsections=[
            vm.VMState(
                "serial/thr_ipending", 1, [thr_ipending], needed=lambda dev: dev.thr_ipending
            ),
            vm.VMState(
                "serial/recv_fifo", 1,
                [
                    vm.u32("fifo_count"), vm.vbuffer("fifo", "fifo_count", FIFO_SIZE),
                    timeout_ipending, vm.timer("fifo_timeout"),
                ],
                needed=lambda dev: len(dev.fifo) > 0,
            ),
            vm.VMState(
                "serial/backlog", 1,
                [vm.u32("backlog_count"), vm.vbuffer("backlog", "backlog_count", BACKLOG_LIMIT)],
                needed=lambda dev: len(dev.backlog) > 0,
            ),
        ],
        pre_save="_pre_save", pre_load="_pre_load", post_load="_post_load",
    )  # fmt: skip

    def __init__(self, clock: VirtualClock, chardev: Chardev | None = None) -> None:
        """``chardev`` is the other end of the line; None: nothing is connected."""
        super().__init__()
        self._clock, self._chardev = clock, chardev
        self.fifo = bytearray()
        self.backlog = bytearray()
        self.fifo_count = self.backlog_count = 0
        self.fifo_timeout = clock.timer(self._timed_out)
        if chardev is not None:
            chardev.open_frontend(self.receive, self.event)

    def reset(self) -> None:
        """Registers and FIFO are cleared; what has not been delivered yet stays in the backlog."""
        super().reset()
        self.fifo.clear()
        self.fifo_timeout.cancel()
        self._fill()

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows."""
        return {"chardev": f'"{self._chardev.label}"' if self._chardev else '""'}

    # -- from the outside

    def receive(self, data: bytes) -> None:
        """Bytes from the line."""
        room = BACKLOG_LIMIT - len(self.backlog)
        self.backlog += data[:room]
        self._fill()

    def event(self, what: str) -> None:
        """Something happened to the line; a break is received as a zero byte with LSR.BI."""
        if what == "break":
            self.lsr |= LSR_BI
            self.receive(b"\0")
            self._update()

    def _fill(self) -> None:
        """Move bytes from the backlog into the FIFO."""
        depth = FIFO_SIZE if self.fcr & FCR_ENABLE else 1
        room = 0 if self.mcr & MCR_LOOP else depth - len(self.fifo)
        if room > 0 and self.backlog:
            self.fifo += self.backlog[:room]
            del self.backlog[:room]
            self._arm_timeout()
        self._update()

    def _arm_timeout(self) -> None:
        self.timeout_ipending = 0
        if self.fcr & FCR_ENABLE and self.fifo:
            bits_ns = 1_000_000_000 * max(1, self.divider) // BAUD_BASE
            self.fifo_timeout.arm(self._clock.now() + 4 * 10 * bits_ns)
        else:
            self.fifo_timeout.cancel()

    def _timed_out(self) -> None:
        if self.fifo:
            self.timeout_ipending = 1
            self._update()

    def _update(self) -> None:
        """Recompute LSR.DR, IIR and the line."""
        self.lsr = self.lsr | LSR_DR if self.fifo else self.lsr & ~LSR_DR
        trigger = TRIGGER_LEVELS[self.fcr >> 6] if self.fcr & FCR_ENABLE else 1
        if self.ier & IER_RLSI and self.lsr & LSR_ERRORS:
            source = IIR_RLSI
        elif self.ier & IER_RDI and self.timeout_ipending:
            source = IIR_CTI
        elif self.ier & IER_RDI and len(self.fifo) >= trigger:
            source = IIR_RDI
        elif self.ier & IER_THRI and self.thr_ipending:
            source = IIR_THRI
        elif self.ier & IER_MSI and self.msr & MSR_DELTAS:
            source = IIR_MSI
        else:
            source = IIR_NO_INT
        self.iir = source | (IIR_FIFO if self.fcr & FCR_ENABLE else 0)
        self.irq.set(source != IIR_NO_INT)

    # -- registers

    def _read_data(self) -> int:
        if self.lcr & LCR_DLAB:
            return self.divider & 0xFF
        if self.fifo:
            self.rbr = self.fifo.pop(0)
            self._arm_timeout()
            self._fill()
        return self.rbr

    def _write_data(self, value: int) -> None:
        if self.lcr & LCR_DLAB:
            self.divider = self.divider & 0xFF00 | value
            return
        if self.mcr & MCR_LOOP:
            if len(self.fifo) < (FIFO_SIZE if self.fcr & FCR_ENABLE else 1):
                self.fifo.append(value)
                self._arm_timeout()
            else:
                self.lsr |= LSR_OE
        elif self._chardev is not None:
            self._chardev.write(bytes((value,)))
        self.thr_ipending = 1
        self._update()

    def _read_ier(self) -> int:
        return self.divider >> 8 if self.lcr & LCR_DLAB else self.ier

    def _write_ier(self, value: int) -> None:
        if self.lcr & LCR_DLAB:
            self.divider = self.divider & 0xFF | value << 8
            return
        if value & IER_THRI and not self.ier & IER_THRI:
            self.thr_ipending = 1      # THR is empty: enabling its interrupt raises it
        self.ier = value & 0x0F
        self._update()

    def _read_iir(self) -> int:
        value = self.iir
        if value & 0x0F == IIR_THRI:
            self.thr_ipending = 0
            self._update()
        return value

    def _write_fcr(self, value: int) -> None:
        if (value ^ self.fcr) & FCR_ENABLE:
            value |= FCR_CLEAR_RX | FCR_CLEAR_TX
        if value & FCR_CLEAR_RX:
            self.fifo.clear()
            self.timeout_ipending = 0
            self.fifo_timeout.cancel()
        self.fcr = value & 0xC9 if value & FCR_ENABLE else 0
        self._fill()

    def _write_mcr(self, value: int) -> None:
        self.mcr = value & 0x1F
        self._fill()

    def _read_lsr(self) -> int:
        value = self.lsr
        if value & LSR_ERRORS:
            self.lsr &= ~LSR_ERRORS
            self._update()
        return value

    def _read_msr(self) -> int:
        if self.mcr & MCR_LOOP:
            pairs = ((MCR_DTR, MSR_DSR), (MCR_RTS, MSR_CTS), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
            return sum(status for control, status in pairs if self.mcr & control)
        value = self.msr
        if value & MSR_DELTAS:
            self.msr &= ~MSR_DELTAS
            self._update()
        return value

    # -- migration

    def _pre_save(self) -> None:
        self.fifo_count, self.backlog_count = len(self.fifo), len(self.backlog)

    def _pre_load(self) -> None:
        # what a subsection brings is absent in most streams
        self.fifo.clear()
        self.backlog.clear()
        self.thr_ipending = self.timeout_ipending = 0
        self.fifo_timeout.cancel()

    def _post_load(self, version: int) -> None:
        expire = self.fifo_timeout.expire
        if expire is not None and expire > self._clock.now() + LONGEST_TIMEOUT_NS:
            self.fifo_timeout.cancel()
            raise ValueError(f"fifo_timeout {expire} is too far in the future")
        self._update()
