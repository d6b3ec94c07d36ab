"""Am85C30: the serial controller (ESCC) of Elbrus boards, two channels.

| offset | what              |
|--------|-------------------|
| 0      | channel A control |
| 1      | channel A data    |
| 2      | channel B control |
| 3      | channel B data    |

A write to a control register goes to WR0, whose bits 2:0 (with the command "point high": plus 8) select the
register of the next access there; after that access it is WR0/RR0 again. Sources: the Am8530H/Am85C30 technical
manual; the order of the channels is that of Linux's driver for e2k, which reads RR3 (channel A's) at offset 0.

Modelled is the asynchronous side. A written byte goes to the character device at once, so RR0.TxEmpty is always set.
RR1.AllSent is 0 at the first look after a byte was written, then 1: there is software that waits for the end of a byte
(Linux), and some that waits for its beginning (Embox, when it has just printed). Received bytes wait in ``backlog``
until there is place in the receive FIFO (3 bytes) and the receiver is enabled, so there is no overrun. The line's
speed and format have no effect. The modem inputs
(DCD, CTS, and SYNC, which is DSR on these boards) are always on. There are no interrupt acknowledge cycles
on the board, so no interrupt is ever "under service". SDLC and synchronous modes, the DPLL and the counters are
registers that can be written and do nothing. After power-on the channels are as a boot loader leaves them, on and
set up; WR9's hardware reset gives what the manual says (local loopback, everything off).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from e2kemu import trace
from e2kemu.chardev import Chardev
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg

CLOCK = 2_457_600
"""Hz at RTxC; only printed."""

FIFO_SIZE = 3
BACKLOG_LIMIT = 1 << 20
"""Input bytes kept while the guest does not read; more is dropped, as on a real line."""

POINT_HIGH, RESET_EXT, SEND_ABORT, NEXT_RX, RESET_TX, RESET_ERROR, RESET_IUS = range(1, 8)
"""Commands: bits 5:3 of WR0."""

RR0_RX, RR0_TX_EMPTY, RR0_DCD, RR0_SYNC, RR0_CTS, RR0_UNDERRUN, RR0_BREAK = 0x01, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
RR1_ALL_SENT, RR1_RESIDUE_8 = 0x01, 0x06
WR1_EXT, WR1_TX, WR1_RX = 0x01, 0x02, 0x18
RX_FIRST, RX_ALL = 0x08, 0x10
WR3_RX_ENABLE = 0x01
WR5_TX_ENABLE = 0x08
WR7P_EXTENDED_READ = 0x40
WR9_MIE, WR9_STATUS_HIGH = 0x08, 0x10
WR9_RESET_B, WR9_RESET_A, WR9_HARDWARE_RESET = 0x40, 0x80, 0xC0
WR14_ECHO, WR14_LOOP = 0x08, 0x10
WR15_PRIME, WR15_BREAK = 0x01, 0x80
WR15_KEPT = 0xFA
"""What RR15 shows: bits 0 and 2 read as zero."""

IP_EXT, IP_TX, IP_RX = 1, 2, 4
"""A channel's interrupts pending, as in RR3 (channel B; channel A's are three bits higher)."""

WR7P = 16
"""Where WR7' is kept, behind the sixteen others."""

RESET_VALUES = {4: 0x04, 11: 0x08, 14: 0x30, 15: 0xF8}
"""Write registers that are not zero after a hardware reset."""

CHANNEL_RESET = {1: (0x24, 0), 3: (0xFE, 0), 4: (0xFF, 4), 5: (0x61, 0), 10: (0x60, 0), 14: (0xC3, 0x20), 15: (0, 0xF8),
                 WR7P: (0, 0)}
"""What a channel reset keeps and sets of the registers that it changes."""

FIRMWARE_VALUES = {3: 0xC1, 4: 0x44, 5: 0xEA, 11: 0x50, 14: 0x01}
"""What a boot loader leaves: software for these boards prints without setting the line up."""

IMAGES = {4: 0, 5: 1, 6: 2, 7: 3, 9: 13, 11: 15, 14: 10}
"""Read registers that do not exist, and which one is read there."""

EXTENDED = {4: 4, 5: 5, 9: 3, 11: 10, 14: WR7P}
"""What is read instead with WR7' bit 6: write registers."""


class Channel:
    """One of the two serial channels. ``changed`` is called when its pending interrupts may have changed."""

    def __init__(self, name: str, chardev: Chardev | None, changed: Callable[[], None]) -> None:
        self.name, self.chardev, self._changed = name, chardev, changed
        self.wr = bytearray(17)
        self.pointer = 0
        self.pending = 0
        self.first = 0
        """1: the next received byte is the first one, which interrupts in mode "first character"."""
        self.broken = 0
        """1: a break has been seen and not been acknowledged by "reset external/status"."""
        self.sending = 0
        """1: a byte was written, and nobody has looked at RR1 since."""
        self.fifo = bytearray()
        self.backlog = bytearray()
        self.fifo_count = self.backlog_count = 0

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "escc-channel", 1,
        [
            vm.buffer("wr", 17), vm.u8("pointer"), vm.u8("pending"), vm.u8("first"), vm.u8("broken"),
            vm.u32("fifo_count"), vm.vbuffer("fifo", "fifo_count", FIFO_SIZE),
            vm.u32("backlog_count"), vm.vbuffer("backlog", "backlog_count", BACKLOG_LIMIT),
        ],
        pre_save="_pre_save", post_load="_post_load",
    )  # fmt: skip

    def _pre_save(self) -> None:
        self.fifo_count, self.backlog_count = len(self.fifo), len(self.backlog)

    def _post_load(self, version: int) -> None:
        if self.pointer > 15 or self.pending > 7 or self.first > 1 or self.broken > 1:
            raise ValueError(f"channel {self.name}: pointer {self.pointer}, pending {self.pending:#x},"
                             f" first {self.first}, break {self.broken}")

    def reset(self) -> None:
        """A hardware reset; what has not been delivered yet stays in the backlog."""
        self.wr[:] = bytes(RESET_VALUES.get(number, 0) for number in range(17))
        self._clear()

    def set_up(self) -> None:
        """As firmware leaves it: both directions on, 8 bits, 115200 baud."""
        for number, value in FIRMWARE_VALUES.items():
            self.wr[number] = value

    def channel_reset(self) -> None:
        """A reset of the channel alone: the clocks and time constants stay."""
        for number, (keep, value) in CHANNEL_RESET.items():
            self.wr[number] = self.wr[number] & keep | value
        self._clear()

    def _clear(self) -> None:
        self.pointer = self.pending = self.broken = self.sending = 0
        self.first = 1
        self.fifo.clear()

    # -- the line

    def connect(self) -> None:
        """Hear what comes from the character device."""
        if self.chardev is not None:
            self.chardev.open_frontend(self.receive, self.event)

    def receive(self, data: bytes) -> None:
        """Bytes from the line."""
        self.backlog += data[: BACKLOG_LIMIT - len(self.backlog)]
        self.fill()

    def event(self, what: str) -> None:
        """A break is an external/status interrupt, and is received as a zero byte."""
        if what == "break":
            self.broken = 1
            if self.wr[15] & WR15_BREAK and self.wr[1] & WR1_EXT:
                self.pending |= IP_EXT
            self.receive(b"\0")

    def fill(self) -> None:
        """Move bytes from the backlog into the FIFO."""
        room = FIFO_SIZE - len(self.fifo)
        if self.wr[3] & WR3_RX_ENABLE and not self.wr[14] & WR14_LOOP and room > 0 and self.backlog:
            data = self.backlog[:room]
            del self.backlog[:room]
            if self.wr[14] & WR14_ECHO and self.chardev is not None:
                self.chardev.write(bytes(data))
            self._into_fifo(data)
        self.update()

    def _into_fifo(self, data: bytes | bytearray) -> None:
        self.fifo += data
        mode = self.wr[1] & WR1_RX
        if mode == RX_ALL or (mode == RX_FIRST and self.first):
            self.pending |= IP_RX
            self.first = 0

    def update(self) -> None:
        """The receive interrupt is pending as long as there are bytes, in the mode that wants all."""
        if not self.fifo:
            self.pending &= ~IP_RX
        elif self.wr[1] & WR1_RX == RX_ALL:
            self.pending |= IP_RX
        self._changed()

    # -- data

    def read_data(self) -> int:
        """The oldest byte of the FIFO (RR8); zero when it is empty."""
        value = self.fifo.pop(0) if self.fifo else 0
        if self.wr[1] & WR1_RX == RX_FIRST:
            self.pending &= ~IP_RX
        self.fill()
        return value

    def write_data(self, value: int) -> None:
        """Send a byte (WR8)."""
        if self.wr[14] & WR14_LOOP:
            if len(self.fifo) < FIFO_SIZE:
                self._into_fifo(bytes((value,)))
        elif not self.wr[5] & WR5_TX_ENABLE:
            trace.guest_error(f"{Escc.name}: {value:#x} is sent by channel {self.name}, whose transmitter is off")
        else:
            self.sending = 1
            if self.chardev is not None:
                self.chardev.write(bytes((value,)))
        if self.wr[1] & WR1_TX:
            self.pending |= IP_TX           # it has become empty again
        self.update()

    # -- registers

    def rr0(self) -> int:
        """Buffer and line status."""
        value = RR0_TX_EMPTY | RR0_DCD | RR0_SYNC | RR0_CTS | RR0_UNDERRUN
        return value | (RR0_RX if self.fifo else 0) | (RR0_BREAK if self.broken else 0)

    def command(self, value: int) -> None:
        """A write to WR0."""
        what = value >> 3 & 7
        self.pointer = value & 7 | (8 if what == POINT_HIGH else 0)
        if what == RESET_EXT:
            self.pending &= ~IP_EXT
            if self.broken:
                self.broken = 0             # its end is another change of the status
                if self.wr[15] & WR15_BREAK and self.wr[1] & WR1_EXT:
                    self.pending |= IP_EXT
        elif what == NEXT_RX:
            self.first = 1
        elif what == RESET_TX:
            self.pending &= ~IP_TX
        self.update()

    def write(self, number: int, value: int) -> None:
        """A write to WR ``number`` that belongs to this channel alone."""
        if number == 7 and self.wr[15] & WR15_PRIME:
            number = WR7P
        self.wr[number] = value
        if number == 1:
            enabled = (IP_EXT if value & WR1_EXT else 0) | (IP_TX if value & WR1_TX else 0)
            self.pending &= enabled | (IP_RX if value & WR1_RX in (RX_FIRST, RX_ALL) else 0)
        self.fill()

    def read(self, number: int) -> int:
        """RR ``number``, other than RR2 and RR3."""
        if number == 0:
            return self.rr0()
        if number == 1:
            sending, self.sending = self.sending, 0
            return RR1_RESIDUE_8 | (0 if sending else RR1_ALL_SENT)
        if number == 15:
            return self.wr[15] & WR15_KEPT
        return self.wr[number] if number in (12, 13) else 0


class Escc(Device):
    """Am85C30 serial controller (ESCC), two channels"""

    name = "escc"
    size = 4
    max_access = 1

    control_a = Reg("u8", 0, read="_read_control_a", write="_write_control_a", doc="channel A: WR0.. RR0..")
    data_a = Reg("u8", 1, read="_read_data_a", write="_write_data_a", doc="channel A: data")
    control_b = Reg("u8", 2, read="_read_control_b", write="_write_control_b", doc="channel B: WR0.. RR0..")
    data_b = Reg("u8", 3, read="_read_data_b", write="_write_data_b", doc="channel B: data")

    vector = Reg("u8", doc="WR2, of both channels")
    master = Reg("u8", doc="WR9, of both channels: 3 master interrupt enable, 4 status high")

    irq = Irq("interrupt request (INT)")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "escc", 1, [vector, master, vm.struct("a", Channel.vmstate), vm.struct("b", Channel.vmstate)],
        subsections=[vm.VMState("escc/sending", 1, [vm.u8("sending")], needed=lambda dev: dev.sending > 0)],
        pre_load="_pre_load", post_load="_post_load",
    )  # fmt: skip

    def __init__(self, chardev_a: Chardev | None = None, chardev_b: Chardev | None = None) -> None:
        """The other ends of the lines; None: nothing is connected."""
        super().__init__()
        self.a = Channel("A", chardev_a, self._update)
        self.b = Channel("B", chardev_b, self._update)
        self.reset()
        self.a.connect()
        self.b.connect()

    def reset(self) -> None:
        super().reset()
        for channel in (self.a, self.b):
            channel.reset()
            channel.set_up()
            channel.fill()

    def properties(self) -> dict[str, str]:
        names = {channel.name: channel.chardev.label if channel.chardev else "" for channel in (self.a, self.b)}
        return {"frequency": str(CLOCK)} | {f"chn{name}": f'"{label}"' for name, label in names.items()}

    def _pending(self) -> int:
        """RR3."""
        return (self.a.pending & 7) << 3 | self.b.pending & 7

    def _update(self) -> None:
        self.irq.set(bool(self.master & WR9_MIE and self._pending()))

    @property
    def sending(self) -> int:
        """``Channel.sending`` of channel A (bit 0) and B (bit 1)."""
        return self.a.sending | self.b.sending << 1

    @sending.setter
    def sending(self, value: int) -> None:
        self.a.sending, self.b.sending = value & 1, value >> 1 & 1

    def _pre_load(self) -> None:
        self.sending = 0

    def _post_load(self, version: int) -> None:
        self._update()

    def _vector(self) -> int:
        """RR2 of channel B: the vector with the status of the most urgent interrupt in it."""
        status = 3                          # none is pending: "special condition" of channel B
        for base, channel in ((0, self.b), (4, self.a)):
            for code, bit in ((1, IP_EXT), (0, IP_TX), (2, IP_RX)):
                if channel.pending & bit:
                    status = base | code
        if self.master & WR9_STATUS_HIGH:
            reverse = (status & 1) << 2 | status & 2 | status >> 2
            return self.vector & ~0x70 | reverse << 4
        return self.vector & ~0x0E | status << 1

    def _read_control(self, channel: Channel) -> int:
        number, channel.pointer = channel.pointer & 15, 0
        if channel.wr[WR7P] & WR7P_EXTENDED_READ and number in EXTENDED:
            return channel.wr[EXTENDED[number]]
        number = IMAGES.get(number, number)
        if number == 2:
            return self.vector if channel is self.a else self._vector()
        if number == 3:
            return self._pending() if channel is self.a else 0
        return channel.read_data() if number == 8 else channel.read(number)

    def _write_control(self, channel: Channel, value: int) -> None:
        number, channel.pointer = channel.pointer & 15, 0
        if number == 0:
            channel.command(value)
        elif number == 2:
            self.vector = value
        elif number == 8:
            channel.write_data(value)
        elif number == 9:
            self._write_master(value)
        else:
            channel.write(number, value)

    def _write_master(self, value: int) -> None:
        what = value & WR9_HARDWARE_RESET
        self.master = value & 0x3F
        if what == WR9_RESET_A:
            self.a.channel_reset()
        elif what == WR9_RESET_B:
            self.b.channel_reset()
        elif what == WR9_HARDWARE_RESET:
            self.a.reset()
            self.b.reset()
            self.master &= 0x03
        self._update()

    def _read_control_a(self) -> int:
        return self._read_control(self.a)

    def _write_control_a(self, value: int) -> None:
        self._write_control(self.a, value)

    def _read_control_b(self) -> int:
        return self._read_control(self.b)

    def _write_control_b(self, value: int) -> None:
        self._write_control(self.b, value)

    def _read_data_a(self) -> int:
        return self.a.read_data()

    def _write_data_a(self, value: int) -> None:
        self.a.write_data(value)

    def _read_data_b(self) -> int:
        return self.b.read_data()

    def _write_data_b(self, value: int) -> None:
        self.b.write_data(value)
