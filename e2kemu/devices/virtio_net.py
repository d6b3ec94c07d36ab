"""virtio-net: a network card. Source: the virtio specification 1.2, "Network Device".

Queue 0 receives, queue 1 transmits; a buffer is a header of 12 bytes {u8 flags, u8 gso_type, le16 hdr_len, gso_size,
csum_start, csum_offset, num_buffers} and an Ethernet frame. Checksums and segmentation are the driver's (none of the
features for them is offered), so the header is zero but for num_buffers, 1. Configuration: hardware address, link
status.

The frames come from and go to a back end (``e2kemu.net``). While the machine stands, and while the driver gives no
buffers, frames wait there; without a driver they are dropped.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.virtio_mmio import CONFIG_CHANGE, DRIVER_OK, TRANSPORT_STATE, VirtioMmio, queues_state
from e2kemu.devices.virtqueue import Chain, VirtioError
from e2kemu.memory.space import AddressSpace
from e2kemu.net.backend import FRAME_MAX, NetBackend

F_MAC, F_STATUS = 1 << 5, 1 << 16
LINK_UP = 1
RECEIVE, TRANSMIT = 0, 1
HEADER = struct.Struct("<BBHHHHH")
RECEIVED = HEADER.pack(0, 0, 0, 0, 0, 0, 1)


class VirtioNet(VirtioMmio):
    """virtio network device"""

    name = "virtio-net-device"
    device_type = 1
    queue_count = 2

    mac_low = Reg("u32", 0x100, read="_mac_low", readonly=True, doc="hardware address, first four bytes")
    mac_high = Reg("u16", 0x104, read="_mac_high", readonly=True, doc="hardware address, last two bytes")
    link_status = Reg("u16", 0x106, read="_link_status", readonly=True, doc="1: the link is up")

    mac = Reg("u64", doc="hardware address, first byte lowest; the guest keeps it in a migration")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "virtio-net", 1, [mac, *TRANSPORT_STATE, queues_state(2)], post_load="_post_load"
    )

    def __init__(self, space: AddressSpace, clock: VirtualClock, backend: NetBackend | None, mac: bytes) -> None:
        """``clock`` says whether the machine runs; without a back end the link is down."""
        super().__init__(space)
        self._clock = clock
        self._own_mac = int.from_bytes(mac, "little")
        self.backend = backend
        self.id = ""
        """``id=`` of its -device, or a name made up by the builder."""
        self.link_up = backend is not None
        self.mac = self._own_mac
        self._moved = False
        if backend is not None:
            backend.card = self

    def reset(self) -> None:
        super().reset()
        self.mac = self._own_mac

    def offered(self) -> int:
        return F_MAC | F_STATUS

    @property
    def mac_bytes(self) -> bytes:
        """The hardware address."""
        return (self.mac & 0xFFFF_FFFF_FFFF).to_bytes(6, "little")

    def properties(self) -> dict[str, str]:
        return {"mac": f'"{self.mac_bytes.hex(":")}"', "netdev": f'"{self.backend.id if self.backend else ""}"'}

    def _mac_low(self) -> int:
        return self.mac & 0xFFFF_FFFF

    def _mac_high(self) -> int:
        return self.mac >> 32 & 0xFFFF

    def _link_status(self) -> int:
        return LINK_UP if self.link_up else 0

    def set_link(self, up: bool) -> None:
        """Pull the cable, or put it in again; the guest is told."""
        if up != self.link_up and self.backend is not None:
            self.link_up = up
            if self.status & DRIVER_OK:
                self._interrupt(CONFIG_CHANGE)

    def unplug(self) -> None:
        """Close the back end."""
        if self.backend is not None:
            self.backend.card = None
            self.backend.close()
            self.backend, self.link_up = None, False

    # -- frames

    def serve(self, number: int) -> None:
        if number == RECEIVE:
            if self.backend is not None:
                self.backend.flush()
        else:
            super().serve(number)

    def handle(self, queue: int, chain: Chain) -> int:
        size = chain.readable_size - HEADER.size
        if size < 0:
            raise VirtioError("virtio-net header not in the buffer")
        if self.backend is not None and self.link_up and size <= FRAME_MAX:
            self.backend.transmit(chain.read(HEADER.size, size))
        return 0

    def receive(self, frame: bytes) -> bool:
        """A frame of the back end; see ``net.backend.Card``."""
        if not self._clock.running:
            return False
        if not self.link_up or not self.accepts(RECEIVE):
            return True
        return self.give(RECEIVE, RECEIVED + frame)

    # -- migration

    def _post_load(self, version: int) -> None:
        self.check_loaded()
        self._moved = True

    def resumed(self) -> None:
        """The machine runs (again)."""
        if self.backend is None:
            return
        if self._moved and self.link_up:
            self.backend.announce(self.mac_bytes)
        self._moved = False
        self.backend.flush()
