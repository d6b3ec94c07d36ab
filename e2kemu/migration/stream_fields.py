"""Decoding a device section with nothing but the vmdescription of its stream.

The vmdescription lists, per device, the fields that were written, in order, with type and size; subsections
that were sent follow. Values are presented as QEMU's analyze-migration.py presents them, so that the two can
be compared: integers as hexadecimal text of their width (a negative one with its value behind it), bools,
buffers and everything else as bytes, structs as objects, arrays as lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader, Reader

INTEGERS = {
    "int8": True,
    "int16": True,
    "int32": True,
    "int32 equal": True,
    "int32 le": True,
    "int64": True,
    "uint8": False,
    "uint8 equal": False,
    "uint16": False,
    "uint16 equal": False,
    "uint32": False,
    "uint32 equal": False,
    "uint64": False,
    "uint64 equal": False,
}
"""Types presented as numbers: name -> signed."""

SUBSECTION = 0x05
MAX_ELEMENTS = 1 << 20
"""Elements of one array that are believed."""

Description = Mapping[str, Any]


def decode_device(r: Reader, description: Description) -> dict[str, Any]:
    """The fields and subsections of ``description``, read from ``r``. Raises StreamError."""
    values: dict[str, Any] = {}
    repeated: set[int] = set()  # ids of the lists made here of repeated names
    for field in description.get("fields", ()):
        _decode_field(r, field, values, repeated)
    for subsection in description.get("subsections", ()):
        name = str(subsection["vmsd_name"])
        at = r.position
        mark = r.be8()
        found = r.string8() if mark == SUBSECTION else ""
        if mark != SUBSECTION or found != name:
            raise StreamError(f"subsection {name!r} expected, {found!r} found", offset=at)
        r.be32()
        values[name] = decode_device(r, subsection)
    return values


def size_of(description: Description) -> int:
    """Bytes that ``decode_device`` will read."""
    size = 0
    for field in description.get("fields", ()):
        count = int(field.get("array_len", 1))
        element = size_of(field["struct"]) if "struct" in field else int(field["size"])
        size += count * element
    for subsection in description.get("subsections", ()):
        size += 1 + 1 + len(str(subsection["vmsd_name"]).encode()) + 4 + size_of(subsection)
    return size


def decode_bytes(body: bytes, description: Description, offset: int) -> dict[str, Any]:
    """As ``decode_device``, for a body that begins at ``offset`` of the stream and is read completely."""
    r = BytesReader(body, offset)
    values = decode_device(r, description)
    if r.remaining:
        raise StreamError(f"{r.remaining} bytes more than the description says", offset=r.position)
    return values


def _decode_field(r: Reader, field: Description, values: dict[str, Any], repeated: set[int]) -> None:
    name = str(field.get("name", ""))
    count = int(field.get("array_len", 0))
    if count > MAX_ELEMENTS:
        raise StreamError(f"field {name!r} has {count} elements", offset=r.position)
    if "array_len" in field:
        values[name] = [_decode_value(r, field) for _ in range(count)]
    elif "index" in field:
        values.setdefault(name, []).append(_decode_value(r, field))
    elif name not in values:
        values[name] = _decode_value(r, field)
    else:
        # An array whose elements differ is described element by element, under one name.
        if id(values[name]) not in repeated:
            values[name] = [values[name]]
            repeated.add(id(values[name]))
        values[name].append(_decode_value(r, field))


def _decode_value(r: Reader, field: Description) -> Any:
    kind, size = str(field["type"]), int(field["size"])
    if "struct" in field:
        return decode_device(r, field["struct"])
    raw = r.raw(size)
    if kind == "bool":
        return raw != bytes(size)
    if kind == "capability":
        return raw[1:].decode("utf-8", "backslashreplace")
    if kind in INTEGERS:
        return _number(raw, signed=INTEGERS[kind])
    return raw.hex(" ")


def _number(raw: bytes, *, signed: bool) -> str:
    text = f"0x{int.from_bytes(raw, 'big'):0{2 * len(raw)}x}"
    value = int.from_bytes(raw, "big", signed=signed)
    return f"{text} ({value})" if value < 0 else text
