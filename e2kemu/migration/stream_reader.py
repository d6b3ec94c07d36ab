"""A walker over any recorded migration stream: ours or QEMU's, with no machine.

``walk(data)`` gives a ``Record`` per element, with its place in the stream and what it holds. Device sections
say nothing about their own length or fields: they are read with the vmdescription, which stands at the end
of the stream, so it is looked up first. Where a stream has none (postcopy, machines before 2.3), the end of a
section is found by its footer and its body stays bytes; a stream with neither can be walked up to its first
device. The stream of a recovered postcopy has no header and begins with a command.

``walk_return_path(data)`` does the same for the other direction. Errors are StreamErrors with section and
offset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.migration.stream_block import walk_block
from e2kemu.migration.stream_commands import command_values, message_values
from e2kemu.migration.stream_fields import decode_bytes, decode_device, size_of
from e2kemu.migration.stream_ram import RamBody, RamWalker
from e2kemu.wire import BytesReader

COMMANDS = {
    1: "OPEN_RETURN_PATH",
    2: "PING",
    3: "POSTCOPY_ADVISE",
    4: "POSTCOPY_LISTEN",
    5: "POSTCOPY_RUN",
    6: "POSTCOPY_RAM_DISCARD",
    7: "PACKAGED",
    8: "ENABLE_COLO",
    9: "POSTCOPY_RESUME",
    10: "RECV_BITMAP",
    11: "SWITCHOVER_START",
}

RETURN_MESSAGES = {
    1: "SHUT",
    2: "PONG",
    3: "REQ_PAGES_ID",
    4: "REQ_PAGES",
    5: "RECV_BITMAP",
    6: "RESUME_ACK",
    7: "SWITCHOVER_ACK",
}

KINDS = {
    0x00: "EOF",
    0x01: "START",
    0x02: "PART",
    0x03: "END",
    0x04: "FULL",
    0x06: "VMDESCRIPTION",
    0x08: "COMMAND",
}

FOOTER = 0x7E
CONFIGURATION = 0x07
VMDESCRIPTION = 0x06
COMMAND = 0x08
VMDESCRIPTION_HEADER = 5
"""Type byte and length before the JSON text."""

BITMAP_END = 0x0123456789ABCDEF

LAST_WORD = bytes([COMMAND, 0, 2, 0, 4])
"""How a PING begins: the only thing that may stand behind the vmdescription."""


@dataclass(frozen=True)
class Record:
    """One element of a stream, ``start`` to ``end``.

    ``kind``: HEADER, CONFIGURATION, START, PART, END, FULL, COMMAND, EOF, VMDESCRIPTION; on a return path
    RETURN. ``name``: idstr of the section, name of the command or message.
    """

    kind: str
    start: int
    end: int
    name: str = ""
    section_id: int | None = None
    instance_id: int | None = None
    version: int | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """Decoded fields."""
    ram: RamBody | None = None
    payload: bytes = b""
    """Of a command or message, or a device body that could not be decoded."""


def walk(
    data: bytes | bytearray | memoryview,
    start: int = 0,
    *,
    details: bool = False,
    memory: dict[str, bytearray] | None = None,
) -> Iterator[Record]:
    """The elements of the stream that begins ``start`` bytes into ``data`` and goes to its end.

    ``details`` keeps each RAM record, ``memory`` receives the contents of RAM (block name -> bytes).
    Raises StreamError where it is not a migration stream (any more).
    """
    return _Walker(memoryview(data), start, details=details, memory=memory).walk()


def find_vmdescription(data: memoryview, start: int = 0) -> tuple[int, dict[str, Any]] | None:
    """(place of its type byte, parsed JSON) of the vmdescription at the end of ``data``, or None."""
    raw = bytes(data[start:])
    at = raw.rfind(b"{", 0)
    while at >= VMDESCRIPTION_HEADER:
        place = at - VMDESCRIPTION_HEADER
        length = int.from_bytes(raw[place + 1 : at], "big")
        behind = raw[at + length :]
        if raw[place] == VMDESCRIPTION and at + length <= len(raw) and behind[:5] in (b"", LAST_WORD):
            try:
                parsed = json.loads(raw[at : at + length])
            except ValueError as error:
                raise StreamError(f"vmdescription is not JSON: {error}", offset=start + at) from error
            return start + place, parsed
        at = raw.rfind(b"{", 0, at)
    return None


class _Walker:
    def __init__(
        self, data: memoryview, start: int, *, details: bool, memory: dict[str, bytearray] | None
    ) -> None:
        self._data = data
        self._r = BytesReader(data[start:], start)
        self._ram = RamWalker(details=details, memory=memory, base=start)
        found = find_vmdescription(data, start)
        self._description = found[1] if found else {}
        try:
            self._devices = {
                (device["name"], device["instance_id"]): device
                for device in self._description.get("devices", ())
            }
        except (LookupError, TypeError, AttributeError) as error:
            raise StreamError(f"vmdescription makes no sense: {type(error).__name__}: {error}") from error
        self._names: dict[int, str] = {}
        self._footers: bool | None = None
        self._resumed = False

    def walk(self) -> Iterator[Record]:
        if self._r.peek(1) == bytes([COMMAND]):
            # A recovered postcopy goes on without a header, in the section that it was in: RAM.
            self._resumed = self._ram.resumed = True
        else:
            yield self._header()
        if self._r.peek(1) == bytes([CONFIGURATION]):
            yield self._configuration()
        ended = False
        while self._r.remaining:
            start = self._r.position
            number = self._r.be8()
            kind = KINDS.get(number)
            if kind is None or (ended and kind not in ("VMDESCRIPTION", "EOF", "COMMAND")):
                raise StreamError(f"unknown element type {number:#04x}", offset=start)
            if kind == "EOF":
                ended = True
                yield Record(kind, start, self._r.position)
            elif kind == "COMMAND":
                yield self._command(start)
            elif kind == "VMDESCRIPTION":
                length = self._r.be32()
                self._r.skip(length)
                yield Record(kind, start, self._r.position, values=self._description)
            else:
                yield self._section(kind, start)
        if not ended:
            raise StreamError("the stream ends without an end of the device state", offset=self._r.position)

    def _header(self) -> Record:
        start = self._r.position
        magic, version = self._r.be32(), self._r.be32()
        if magic != 0x5145564D:
            raise StreamError(f"not a migration stream: magic {magic:#010x}", offset=start)
        if version != 3:
            raise StreamError(f"stream version {version}, not 3", offset=start + 4)
        return Record("HEADER", start, self._r.position, version=version)

    def _configuration(self) -> Record:
        start = self._r.position
        self._r.be8()
        values: dict[str, Any] = {"machine": self._r.raw(self._r.be32()).decode("ascii", "backslashreplace")}
        while self._r.peek(1) == b"\x05":
            self._r.be8()
            name, at = self._r.string8(), self._r.position
            self._r.be32()
            if name.endswith("/capabilities"):
                values["capabilities"] = [self._r.string8() for _ in range(self._r.be32())]
                self._ram.ignore_shared = "x-ignore-shared" in values["capabilities"]
                self._ram.mapped = "mapped-ram" in values["capabilities"]
            elif name.endswith("/uuid"):
                values["uuid"] = self._r.raw(16).hex()
            elif name.endswith("/target-page-bits"):
                values["page bits"] = self._r.be32()
            else:
                raise StreamError(f"unknown subsection {name!r}", section="configuration", offset=at)
        return Record("CONFIGURATION", start, self._r.position, "configuration", values=values)

    def _command(self, start: int) -> Record:
        number, length = self._r.be16(), self._r.be16()
        if number not in COMMANDS:
            raise StreamError(f"unknown command {number}", offset=start)
        # The content of a PACKAGED command is elements again: they are walked like all others.
        payload = self._r.raw(length)
        name = COMMANDS[number]
        values = command_values(name, payload)
        return Record("COMMAND", start, self._r.position, name, values=values, payload=payload)

    # -- sections

    def _section(self, kind: str, start: int) -> Record:
        r = self._r
        section_id = r.be32()
        instance_id = version = None
        if kind in ("START", "FULL"):
            self._names[section_id] = r.string8()
            instance_id, version = r.be32(), r.be32()
        name = self._names.get(section_id, "ram" if self._resumed else None)
        if name is None:
            raise StreamError(f"section number {section_id} was never started", offset=start)
        ram: RamBody | None = None
        values: dict[str, Any] = {}
        payload = b""
        try:
            if kind == "FULL":
                values, payload = self._device(name, instance_id or 0, section_id)
            elif name == "ram":
                ram = self._ram.walk(r)
            elif name == "block":
                values = walk_block(r)
            else:
                raise StreamError("the format of this iterable section is not known", offset=r.position)
        except StreamError as error:
            section = name.encode("unicode_escape").decode("ascii")
            raise StreamError(error.message, section=section, offset=error.offset) from error
        self._footer(section_id, name)
        return Record(kind, start, r.position, name, section_id, instance_id, version, values, ram, payload)

    def _device(self, name: str, instance_id: int, section_id: int) -> tuple[dict[str, Any], bytes]:
        r = self._r
        description = self._devices.get((name, instance_id))
        start = r.position
        if description is None:
            return {}, r.raw(self._body_by_footer(section_id) - start)
        try:
            if self._footers:
                return decode_bytes(r.raw(size_of(description)), description, start), b""
            return decode_device(r, description), b""
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            text = f"its description makes no sense: {type(error).__name__}: {error}"
            raise StreamError(text, offset=start) from error

    def _body_by_footer(self, section_id: int) -> int:
        """Where the body of a device ends that nothing describes: the first credible footer."""
        here = self._r.position
        if not self._footers:
            raise StreamError(
                "cannot go on: no vmdescription says how long this device is, and no footer", offset=here
            )
        mark = bytes([FOOTER]) + section_id.to_bytes(4, "big")
        raw = bytes(self._data[here:])
        at = raw.find(mark)
        while at >= 0:
            following = raw[at + len(mark) : at + len(mark) + 1]
            if following and following[0] in KINDS:
                return here + at
            at = raw.find(mark, at + 1)
        raise StreamError("no footer behind a device that nothing describes", offset=here)

    def _footer(self, section_id: int, name: str) -> None:
        """The footer; whether a stream has them shows after its first section."""
        found = self._r.peek(5) == bytes([FOOTER]) + section_id.to_bytes(4, "big")
        if self._footers is None:
            self._footers = found
        if self._footers and not found:
            short = "the stream ends early" if self._r.remaining < 5 else "the body was read short or long"
            raise StreamError(f"footer missing: {short}", section=name, offset=self._r.position)
        if self._footers:
            self._r.skip(5)


def walk_return_path(data: bytes | bytearray | memoryview) -> Iterator[Record]:
    """The messages that a destination sent. Raises StreamError."""
    r = BytesReader(data)
    while r.remaining:
        start = r.position
        number, length = r.be16(), r.be16()
        if number not in RETURN_MESSAGES or length > 512:
            raise StreamError(
                f"unknown message {number} of {length} bytes", section="return path", offset=start
            )
        payload = r.raw(length)
        if RETURN_MESSAGES[number] == "RECV_BITMAP":
            size = r.be64()
            if size > r.remaining:
                raise StreamError(f"bitmap of {size} bytes", section="return path", offset=start)
            payload += r.raw(size)
            if r.be64() != BITMAP_END:
                raise StreamError("bitmap without its end mark", section="return path", offset=r.position - 8)
        name = RETURN_MESSAGES[number]
        yield Record("RETURN", start, r.position, name, values=message_values(name, payload), payload=payload)
