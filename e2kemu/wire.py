"""Big-endian bytes: the codec of everything that goes into a migration stream.

``Writer`` collects; ``Reader`` consumes from wherever its subclass gets bytes. ``string8`` is a
length byte and that many bytes, no NUL (migration stream, "string8").
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from e2kemu.errors import StreamError


class Writer:
    """A growing buffer of big-endian fields."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return len(self._buffer)

    def getvalue(self) -> bytes:
        """All bytes written so far."""
        return bytes(self._buffer)

    def raw(self, data: bytes | bytearray | memoryview) -> None:
        """The bytes as they are."""
        self._buffer += data

    def be8(self, value: int) -> None:
        """One byte; ``value`` is taken modulo its width, here and below."""
        self._buffer.append(value & 0xFF)

    def be16(self, value: int) -> None:
        self._buffer += (value & 0xFFFF).to_bytes(2, "big")

    def be32(self, value: int) -> None:
        self._buffer += (value & 0xFFFF_FFFF).to_bytes(4, "big")

    def be64(self, value: int) -> None:
        self._buffer += (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "big")

    def string8(self, text: str) -> None:
        """A counted string. Raises ValueError beyond 255 bytes."""
        data = text.encode()
        if len(data) > 255:
            raise ValueError(f"string of {len(data)} bytes does not fit a string8")
        self.be8(len(data))
        self.raw(data)


class Reader(ABC):
    """A source of big-endian fields. Subclasses give ``read_exact``, ``peek`` and ``position``."""

    position: int = 0
    """Offset in the stream of the next byte to be read."""

    @abstractmethod
    def read_exact(self, size: int) -> bytes:
        """Exactly ``size`` bytes; raises StreamError (with the offset) when there are fewer."""

    @abstractmethod
    def peek(self, size: int) -> bytes:
        """Up to ``size`` of the next bytes without consuming them; fewer only at the end."""

    def raw(self, size: int) -> bytes:
        return self.read_exact(size)

    def skip(self, size: int) -> None:
        self.read_exact(size)

    def be8(self) -> int:
        return self.read_exact(1)[0]

    def be16(self) -> int:
        return int.from_bytes(self.read_exact(2), "big")

    def be32(self) -> int:
        return int.from_bytes(self.read_exact(4), "big")

    def be64(self) -> int:
        return int.from_bytes(self.read_exact(8), "big")

    def string8(self) -> str:
        """A counted string; bytes that are not UTF-8 are kept as escapes."""
        return self.read_exact(self.be8()).decode("utf-8", "backslashreplace")


class BytesReader(Reader):
    """Reads from a bytes object; ``base`` is the stream offset of its first byte."""

    def __init__(self, data: bytes | bytearray | memoryview, base: int = 0) -> None:
        self._data = memoryview(data)
        self._base = base
        self._at = 0

    @property
    def position(self) -> int:  # type: ignore[override]
        return self._base + self._at

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def read_exact(self, size: int) -> bytes:
        if size > self.remaining:
            raise StreamError(f"{size} bytes wanted, {self.remaining} left", offset=self.position)
        data = bytes(self._data[self._at : self._at + size])
        self._at += size
        return data

    def peek(self, size: int) -> bytes:
        return bytes(self._data[self._at : self._at + size])
