"""virtio-blk: a disk. Source: the virtio specification 1.2, "Block Device".

A request is {le32 type, le32 reserved, le64 sector}, data, and one status byte (0 done, 1 error, 2 not known),
however the driver has cut them into buffers. Types: 0 read, 1 write, 4 flush, 8 get id (20 bytes of serial
number), 13 write zeroes ({le64 sector, le32 sectors, le32 flags}). Sectors are 512 bytes.

What the guest may do wrong inside of a request (sectors that are not there, lengths that are no sectors, a write
to a read-only disk) is an error of that request; a chain that is none breaks the protocol.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from e2kemu import trace
from e2kemu.block.drive import DIGEST, PLACES, Drive
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.virtio_mmio import QUEUE_SIZE, TRANSPORT_STATE, VirtioMmio, queues_state
from e2kemu.devices.virtqueue import Chain, VirtioError
from e2kemu.errors import E2kError
from e2kemu.memory.space import AddressSpace

SECTOR = 512
STEP = 1 << 20
"""Bytes that are moved at once."""

MAX_REQUEST = 64 << 20
"""The longest request, and the most zeroes of one: bounds how long the guest's CPU stands in it."""

F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_WRITE_ZEROES = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 14

IN, OUT, FLUSH, GET_ID, WRITE_ZEROES = 0, 1, 4, 8, 13
OK, IOERR, UNSUPP = 0, 1, 2
HEADER = 16
ID_SIZE = 20


class _RequestError(Exception):
    """The request fails with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class VirtioBlk(VirtioMmio):
    """virtio block device"""

    name = "virtio-blk-device"
    device_type = 2

    capacity = Reg("u64", 0x100, read="_capacity", readonly=True, doc="capacity in sectors of 512 bytes")
    size_max = Reg("u32", 0x108, readonly=True, doc="size_max, not offered")
    seg_max = Reg("u32", 0x10C, reset=QUEUE_SIZE - 2, readonly=True, doc="most data segments of a request")
    blk_size = Reg("u32", 0x114, reset=SECTOR, readonly=True, doc="block size in bytes")
    max_write_zeroes_sectors = Reg(
        "u32", 0x130, reset=MAX_REQUEST // SECTOR, readonly=True, doc="most sectors of one segment of zeroes"
    )
    max_write_zeroes_seg = Reg("u32", 0x134, reset=1, readonly=True, doc="segments of one request for zeroes")
    write_zeroes_may_unmap = Reg("u8", 0x138, readonly=True, doc="zeroes are never unmapped")

    sectors = Reg("u64", doc="capacity, which must be the same at both ends of a migration")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "virtio-blk", 1, [vm.equal(vm.u64("sectors")), *TRANSPORT_STATE, queues_state(1)],
        subsections=[
            vm.VMState(
                "virtio-blk/sample", 1, [vm.array(vm.u64("places"), PLACES), vm.buffer("digest", DIGEST)],
                pre_save="_sample",
            ),
        ],
        pre_load="_pre_load", post_load="_post_load",
    )  # fmt: skip

    def __init__(self, space: AddressSpace, drive: Drive, serial: str = "") -> None:
        """``drive`` is active whenever the guest runs; ``serial`` is what get id answers."""
        super().__init__(space)
        self._drive = drive
        self._serial = serial
        self.sectors = self._capacity()
        self.places = [0] * PLACES
        self.digest = bytearray(DIGEST)
        """What is at ``places`` of the disk; zeroes: nobody says."""

    def reset(self) -> None:
        super().reset()
        self.sectors = self._capacity()

    def offered(self) -> int:
        return F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (F_RO if self._drive.readonly else F_WRITE_ZEROES)

    def properties(self) -> dict[str, str]:
        return {"drive": f'"{self._drive.id}"', "serial": f'"{self._serial}"'}

    def _capacity(self) -> int:
        return self._drive.size // SECTOR

    def _sample(self) -> None:
        self.places = self._drive.places()
        self.digest[:] = self._drive.digest(self.places)

    def _pre_load(self) -> None:
        self.digest[:] = bytes(DIGEST)

    def _post_load(self, version: int) -> None:
        """The device has moved here: so must its disk, or the source keeps both."""
        self.check_loaded()
        self._drive.activate()
        if any(self.digest) and self.digest != self._drive.digest(self.places):
            drive = self._drive
            raise ValueError(
                f"'{drive.image.path}' of drive '{drive.id}' does not hold what the source's image does: "
                "one that is not shared has to be copied (migrate -b)"
            )

    # -- requests

    def handle(self, queue: int, chain: Chain) -> int:
        if chain.readable_size < HEADER:
            raise VirtioError("virtio-blk request without a header")
        room = chain.writable_size - 1
        if room < 0:
            raise VirtioError("virtio-blk request without a status byte")
        kind, sector = struct.unpack("<I4xQ", chain.read(0, HEADER))
        try:
            written, status = self._do(kind, sector, chain, room), OK
        except _RequestError as error:
            written, status = 0, error.status
            trace.guest_error(f"{self.name}: {error}")
        except E2kError as error:
            written, status = 0, IOERR
            trace.log(f"{self.name}: {error}")
        chain.write(room, bytes([status]))
        return written + 1

    def _do(self, kind: int, sector: int, chain: Chain, room: int) -> int:
        """Carry it out; returns the number of bytes written into the data buffers."""
        if kind == IN:
            return self._read(sector, chain, room)
        if kind == OUT:
            self._write(sector, chain)
            return 0
        if kind == FLUSH:
            if not self._drive.readonly:
                with self.host():
                    self._drive.flush()
            return 0
        if kind == GET_ID:
            answer = self._serial.encode("utf-8", "replace")[:ID_SIZE].ljust(ID_SIZE, b"\0")[:room]
            chain.write(0, answer)
            return len(answer)
        if kind == WRITE_ZEROES and not self._drive.readonly:
            self._write_zeroes(chain)
            return 0
        raise _RequestError(UNSUPP, f"request of type {kind} is not supported")

    def _range(self, sector: int, size: int, limit: int = MAX_REQUEST) -> int:
        """The byte where the request begins. Raises _RequestError."""
        if size % SECTOR or size > limit or sector * SECTOR + size > self._drive.size:
            raise _RequestError(IOERR, f"request for {size} bytes at sector {sector} cannot be")
        return sector * SECTOR

    def _read(self, sector: int, chain: Chain, size: int) -> int:
        start = self._range(sector, size)
        for at in range(0, size, STEP):
            with self.host():
                data = self._drive.read(start + at, min(STEP, size - at))
            chain.write(at, data)
        return size

    def _write(self, sector: int, chain: Chain) -> None:
        size = chain.readable_size - HEADER
        start = self._range(sector, size)
        if self._drive.readonly:
            raise _RequestError(IOERR, "write to a read-only disk")
        for at in range(0, size, STEP):
            data = chain.read(HEADER + at, min(STEP, size - at))
            with self.host():
                self._drive.write(start + at, data)

    def _write_zeroes(self, chain: Chain) -> None:
        if chain.readable_size != HEADER + 16:
            raise _RequestError(UNSUPP, "write zeroes with other than one segment")
        sector, sectors, flags = struct.unpack("<QII", chain.read(HEADER, 16))
        if flags & ~1:
            raise _RequestError(UNSUPP, f"write zeroes with flags {flags:#x}")
        size = sectors * SECTOR
        start = self._range(sector, size)
        with self.host():
            self._drive.write_zeroes(start, size)
