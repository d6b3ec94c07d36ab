"""How one value lies in a migration stream: the codecs that ``devices/vmstate.py`` makes fields of.

The table of encodings is in that module. A codec knows the bytes and the description of a value, not
where the value is kept; counts that come from another field are read from the object that has both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from e2kemu.errors import StreamError
from e2kemu.wire import Reader, Writer

NULL_POINTER = 0x30
"""The byte that stands for an absent element of an array of pointers."""

NOT_ARMED = (1 << 64) - 1
"""The expiry of a timer that is not armed."""


def resolve(obj: Any, path: str) -> tuple[Any, str]:
    """The object that holds the attribute at the end of a dotted path, and the attribute's name."""
    *parts, last = path.split(".")
    for part in parts:
        obj = getattr(obj, part)
    return obj, last


def get_path(obj: Any, path: str) -> Any:
    """The value at a dotted path."""
    holder, last = resolve(obj, path)
    return getattr(holder, last)


class StateTable(Protocol):
    """What a codec needs of a ``VMState``."""

    version: int
    subsections: tuple[Any, ...]

    @property
    def fields(self) -> tuple[Any, ...]:
        """The fields."""

    def save(self, w: Writer, obj: Any, version: int | None = None) -> None:
        """Write the body for ``obj``."""

    def load(self, r: Reader, obj: Any, version: int) -> None:
        """Read a body into ``obj``."""

    def describe(self, obj: Any, version: int | None = None) -> dict[str, Any]:
        """The description of what ``save`` writes."""


class Codec(ABC):
    """The encoding of one kind of value. ``obj`` is the object that has the field."""

    type: str = ""
    """The word in the vmdescription."""

    @abstractmethod
    def put(self, w: Writer, value: Any, obj: Any) -> None:
        """Write ``value``."""

    @abstractmethod
    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        """Read a value; ``old`` is the present one (changed in place where it can be)."""

    def describe(self, value: Any, obj: Any) -> list[dict[str, Any]]:
        """The entries of the vmdescription, without the name."""
        w = Writer()
        self.put(w, value, obj)
        return [{"type": self.type, "size": w.position}]

    @property
    def compressible(self) -> bool:
        """Whether all values of this kind have one description, so that an array needs only one."""
        return True


class Int(Codec):
    """An integer of ``size`` bytes."""

    def __init__(self, name: str, size: int, signed: bool = False) -> None:
        self.type, self.size, self.signed = name, size, signed

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        w.raw((int(value) & ((1 << 8 * self.size) - 1)).to_bytes(self.size, "big"))

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        return int.from_bytes(r.read_exact(self.size), "big", signed=self.signed)


class Bool(Codec):
    """One byte, 0 or 1; any other value loads as true."""

    type = "bool"

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        w.be8(1 if value else 0)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        return r.be8() != 0


class Checked(Codec):
    """An integer that must agree with the value here: "equal" or "le" (not above it)."""

    def __init__(self, inner: Int, relation: str) -> None:
        self.inner, self.relation = inner, relation
        self.type = f"{inner.type} {relation}"

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        self.inner.put(w, value, obj)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        offset = r.position
        value = self.inner.get(r, old, obj)
        if self.relation == "equal" and value != old:
            raise StreamError(f"{int(old):x} != {value:x}", offset=offset)
        if self.relation == "le" and not 0 <= value <= old:
            raise StreamError(f"{value} is above {int(old)}", offset=offset)
        return value


class TimerCodec(Codec):
    """A ``clock.Timer``: when it goes off, all ones when it is not armed."""

    type = "timer"

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        w.be64(NOT_ARMED if value.expire is None else value.expire)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        expire = r.be64()
        if expire == NOT_ARMED:
            old.cancel()
        else:
            old.arm(expire)
        return old


class Buffer(Codec):
    """Bytes: ``count`` is their number, or the name of an earlier field that holds it (at most ``limit``)."""

    type = "buffer"

    def __init__(self, count: int | str, limit: int) -> None:
        self.count, self.limit = count, limit

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        count = _count(self.count, obj, self.limit)
        if len(value) != count:
            raise ValueError(f"buffer of {len(value)} bytes, {count} declared")
        w.raw(bytes(value))

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        data = r.read_exact(_count(self.count, obj, self.limit, r.position))
        if isinstance(old, np.ndarray):
            old[:] = np.frombuffer(data, dtype=np.uint8)
            return old
        if isinstance(old, bytearray):
            old[:] = data
            return old
        return data


class Unused(Codec):
    """Bytes that once were something: written as zeroes, skipped."""

    type = "unused_buffer"

    def __init__(self, size: int) -> None:
        self.size = size

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        w.raw(bytes(self.size))

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        r.skip(self.size)
        return None


class Bitmap(Codec):
    """``bits`` bits, held as one integer; on the wire 64 at a time, lowest first."""

    type = "bitmap"

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        for at in range(0, self.bits, 64):
            w.be64(value >> at)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        value = sum(r.be64() << at for at in range(0, self.bits, 64))
        return value & ((1 << self.bits) - 1)


class Struct(Codec):
    """Another object with its own VMState; loaded in place. ``version`` (default: the VMState's) is the
    one that both sides of this version of the outer VMState use."""

    type = "struct"

    def __init__(self, vmstate: StateTable, version: int | None = None) -> None:
        self.vmstate, self._version = vmstate, version

    @property
    def version(self) -> int:
        return self.vmstate.version if self._version is None else self._version

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        self.vmstate.save(w, value, self.version)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        self.vmstate.load(r, old, self.version)
        return old

    def describe(self, value: Any, obj: Any) -> list[dict[str, Any]]:
        w = Writer()
        self.put(w, value, obj)
        struct = self.vmstate.describe(value, self.version)
        return [{"type": "struct", "struct": struct, "size": w.position}]

    @property
    def compressible(self) -> bool:
        return not self.vmstate.subsections and all(
            field.exists is None and field.codec.compressible for field in self.vmstate.fields
        )


class Array(Codec):
    """Elements back to back: a list, or a numpy array of integers (then loaded in place)."""

    def __init__(self, element: Codec, count: int | str, limit: int) -> None:
        self.element, self.count, self.limit = element, count, limit
        self.type = element.type

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        count = _count(self.count, obj, self.limit)
        if len(value) < count:
            raise ValueError(f"array of {len(value)} elements, {count} declared")
        if isinstance(value, np.ndarray) and isinstance(self.element, Int):
            w.raw(value[:count].astype(f">u{self.element.size}").tobytes())
            return
        for item in value[:count]:
            self.element.put(w, item, obj)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        count = _count(self.count, obj, self.limit, r.position)
        if isinstance(old, np.ndarray) and isinstance(self.element, Int):
            data = r.read_exact(count * self.element.size)
            sign = "i" if self.element.signed else "u"
            old[:count] = np.frombuffer(data, dtype=f">{sign}{self.element.size}").astype(old.dtype)
            return old
        in_place = isinstance(self.element, Struct | TimerCodec)
        if in_place and len(old) < count:
            raise StreamError(f"{count} elements for {len(old)} places", offset=r.position)
        return [self.element.get(r, old[i] if in_place else None, obj) for i in range(count)] + (
            list(old[count:]) if in_place else []
        )

    def describe(self, value: Any, obj: Any) -> list[dict[str, Any]]:
        count = _count(self.count, obj, self.limit)
        if count == 0:
            return []
        if count > 1 and self.element.compressible:
            return [{"array_len": count, **entry} for entry in self.element.describe(value[0], obj)]
        entries = [entry for item in value[:count] for entry in self.element.describe(item, obj)]
        return entries if count == 1 else [{"index": i, **entry} for i, entry in enumerate(entries)]


class Pointers(Codec):
    """An array whose elements may be absent (None); which ones are, both sides know."""

    def __init__(self, element: Codec, count: int) -> None:
        self.element, self.count = element, count
        self.type = element.type

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        for item in value[: self.count]:
            if item is None:
                w.be8(NULL_POINTER)
            else:
                self.element.put(w, item, obj)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        values = []
        for item in old[: self.count]:
            if item is not None:
                values.append(self.element.get(r, item, obj))
            elif r.be8() == NULL_POINTER:
                values.append(None)
            else:
                raise StreamError("element present that is absent here", offset=r.position - 1)
        return values

    def describe(self, value: Any, obj: Any) -> list[dict[str, Any]]:
        entries = []
        for index, item in enumerate(value[: self.count]):
            absent: list[dict[str, Any]] = [{"type": "nullptr", "size": 1}]
            for entry in absent if item is None else self.element.describe(item, obj):
                entries.append({"index": index, **entry})
        return entries


class ListCodec(Codec):
    """A list of objects made by ``factory``, at most ``limit``: 01 before each, 00 at the end."""

    type = "qtailq"

    def __init__(self, vmstate: StateTable, factory: Callable[[], Any], limit: int) -> None:
        self.vmstate, self.factory, self.limit = vmstate, factory, limit

    def put(self, w: Writer, value: Any, obj: Any) -> None:
        for item in value:
            w.be8(1)
            self.vmstate.save(w, item)
        w.be8(0)

    def get(self, r: Reader, old: Any, obj: Any) -> Any:
        items: list[Any] = []
        while r.be8():
            if len(items) == self.limit:
                raise StreamError(f"more than {self.limit} elements", offset=r.position - 1)
            item = self.factory()
            self.vmstate.load(r, item, self.vmstate.version)
            items.append(item)
        return items


def _count(count: int | str, obj: Any, limit: int, offset: int | None = None) -> int:
    number = count if isinstance(count, int) else int(get_path(obj, count))
    if not 0 <= number <= limit:
        raise StreamError(f"{count} is {number}, at most {limit} are possible", offset=offset)
    return number


U8, U16, U32, U64 = (Int(f"uint{n}", n // 8) for n in (8, 16, 32, 64))
I8, I16, I32, I64 = (Int(f"int{n}", n // 8, signed=True) for n in (8, 16, 32, 64))
INTS = {"u8": U8, "u16": U16, "u32": U32, "u64": U64, "i8": I8, "i16": I16, "i32": I32, "i64": I64}
"""Integer codecs by the short names that registers use."""
