"""virtio-console: a line of text to and from the guest. Source: the virtio specification 1.2, "Console Device".

One port. Queue 0 receives, queue 1 transmits; buffers hold nothing but the bytes. What comes in waits until the driver
gives buffers, and travels; it never touches the memory of a machine that stands. Configuration: no size
(F_SIZE is not offered), one port, and a register that prints a byte without any queue (F_EMERG_WRITE).
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu.chardev import Chardev
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.virtio_mmio import TRANSPORT_STATE, VirtioMmio, queues_state
from e2kemu.devices.virtqueue import Chain
from e2kemu.memory.space import AddressSpace

F_EMERG_WRITE = 1 << 2
RECEIVE, TRANSMIT = 0, 1
MAX_REQUEST = 1 << 16
"""Bytes of one buffer that are printed: bounds how long the guest's CPU stands in it."""

BACKLOG_LIMIT = 1 << 20
"""Input bytes kept while the guest does not read; more is dropped, as on a real line."""


class VirtioConsole(VirtioMmio):
    """virtio console device"""

    name = "virtconsole"
    device_type = 3
    queue_count = 2

    cols = Reg("u16", 0x100, readonly=True, doc="columns; not told")
    rows = Reg("u16", 0x102, readonly=True, doc="rows; not told")
    max_nr_ports = Reg("u32", 0x104, reset=1, readonly=True, doc="ports, 1")
    emerg_wr = Reg("u32", 0x108, read="_nothing", write="_write_emergency", doc="prints the low byte")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "virtio-console", 1,
        [*TRANSPORT_STATE, queues_state(2), vm.u32("backlog_count"),
         vm.vbuffer("backlog", "backlog_count", BACKLOG_LIMIT)],
        pre_save="_pre_save", post_load="_post_load",
    )  # fmt: skip

    def __init__(self, space: AddressSpace, clock: VirtualClock, chardev: Chardev | None = None) -> None:
        """``clock`` says whether the machine runs; ``chardev`` is the other end, None: nothing is connected."""
        super().__init__(space)
        self._clock, self._chardev = clock, chardev
        self.backlog = bytearray()
        self.backlog_count = 0
        if chardev is not None:
            chardev.open_frontend(self.receive)

    def offered(self) -> int:
        return F_EMERG_WRITE

    def properties(self) -> dict[str, str]:
        return {"chardev": f'"{self._chardev.label if self._chardev else ""}"'}

    # -- from the guest

    def handle(self, queue: int, chain: Chain) -> int:
        self._print(chain.read(0, min(chain.readable_size, MAX_REQUEST)))
        return 0

    def _write_emergency(self, value: int) -> None:
        self._print(bytes((value & 0xFF,)))

    def _print(self, data: bytes) -> None:
        if self._chardev is not None and data:
            self._chardev.write(data)

    # -- to the guest

    def serve(self, number: int) -> None:
        if number == RECEIVE:
            self._deliver()
        else:
            super().serve(number)

    def receive(self, data: bytes) -> None:
        """Bytes from the other end."""
        self.backlog += data[: BACKLOG_LIMIT - len(self.backlog)]
        self._deliver()

    def resumed(self) -> None:
        """The machine runs (again)."""
        self._deliver()

    def _deliver(self) -> None:
        while self.backlog and self._clock.running and self.accepts(RECEIVE):
            count = self.give_part(RECEIVE, self.backlog)
            if not count:
                break
            del self.backlog[:count]

    # -- migration

    def _pre_save(self) -> None:
        self.backlog_count = len(self.backlog)

    def _post_load(self, version: int) -> None:
        self.check_loaded()
