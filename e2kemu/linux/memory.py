"""A process' memory as system calls see it: checked reads and writes of guest addresses.

Each raises LinuxError(EFAULT) when any byte is not mapped with the access needed. All is little endian.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Protocol

from e2kemu.linux.error import LinuxError

if TYPE_CHECKING:
    from collections.abc import Iterator

STRING_LIMIT = 1 << 20
"""Bytes after which a string without NUL is given up."""


class Backing(Protocol):
    """Where the bytes are, and what may be done with them (``linux/mapping.py``)."""

    def readable(self, address: int, size: int) -> bool: ...
    def writable(self, address: int, size: int) -> bool: ...
    def load(self, address: int, size: int) -> bytes: ...
    def store(self, address: int, data: bytes) -> None: ...


class Memory:
    """Checked access. ``pointer_size`` is 8 or 4 bytes."""

    def __init__(self, backing: Backing, pointer_size: int = 8) -> None:
        self.backing = backing
        self.pointer_size = pointer_size

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes."""
        if size and not self.backing.readable(address, size):
            raise LinuxError(errno.EFAULT)
        return self.backing.load(address, size) if size else b""

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store ``data``."""
        if len(data) and not self.backing.writable(address, len(data)):
            raise LinuxError(errno.EFAULT)
        if len(data):
            self.backing.store(address, bytes(data))

    def check_write(self, address: int, size: int) -> None:
        """Raise EFAULT now when ``size`` bytes cannot be stored there later."""
        if size and not self.backing.writable(address, size):
            raise LinuxError(errno.EFAULT)

    def cstring(self, address: int, limit: int = STRING_LIMIT) -> bytes:
        """The bytes up to a NUL. Raises ENAMETOOLONG when there is none within ``limit``."""
        parts: list[bytes] = []
        for part in self._pages(address, limit):
            head, nul, _ = part.partition(b"\0")
            parts.append(head)
            if nul:
                return b"".join(parts)
        raise LinuxError(errno.ENAMETOOLONG)

    def _pages(self, address: int, limit: int) -> Iterator[bytes]:
        end = address + limit
        while address < end:
            size = min(4096 - address % 4096, end - address)
            yield self.read(address, size)
            address += size

    def u8(self, address: int) -> int:
        """An unsigned byte."""
        return self.read(address, 1)[0]

    def u16(self, address: int) -> int:
        """An unsigned 16-bit number."""
        return int.from_bytes(self.read(address, 2), "little")

    def u32(self, address: int) -> int:
        """An unsigned 32-bit number."""
        return int.from_bytes(self.read(address, 4), "little")

    def i32(self, address: int) -> int:
        """A signed 32-bit number."""
        return int.from_bytes(self.read(address, 4), "little", signed=True)

    def u64(self, address: int) -> int:
        """An unsigned 64-bit number."""
        return int.from_bytes(self.read(address, 8), "little")

    def i64(self, address: int) -> int:
        """A signed 64-bit number."""
        return int.from_bytes(self.read(address, 8), "little", signed=True)

    def pointer(self, address: int) -> int:
        """A pointer, of the program's size."""
        return int.from_bytes(self.read(address, self.pointer_size), "little")

    def write_u32(self, address: int, value: int) -> None:
        """Store the low 32 bits."""
        self.write(address, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def write_u64(self, address: int, value: int) -> None:
        """Store 64 bits."""
        self.write(address, (value & (1 << 64) - 1).to_bytes(8, "little"))

    def write_pointer(self, address: int, value: int) -> None:
        """Store a pointer or long, of the program's size."""
        self.write(address, (value & (1 << 8 * self.pointer_size) - 1).to_bytes(self.pointer_size, "little"))

    def unpack(self, layout: str, address: int) -> tuple[int, ...]:
        """``struct.unpack`` of what is there; ``layout`` without byte order."""
        form = struct.Struct("<" + layout)
        return form.unpack(self.read(address, form.size))

    def pack(self, layout: str, address: int, *values: int) -> None:
        """``struct.pack`` it to there."""
        self.write(address, struct.pack("<" + layout, *values))
