"""The framing of a migration stream: numbers, elements, the configuration section.

    be32 magic "QEVM", be32 version 3
    07 configuration
    elements, each a type byte and its body            (ElementType)
        START/PART/END/FULL end with a footer 7e be32 section id
    00 end of device state
    06 be32 length, JSON                               (vmdescription)

Older machine types leave parts of it out: ``compat.py``.

``FrameWriter`` writes this; ``load.py`` reads it. Nothing here knows RAM or a device. Fields are
big-endian; "string8" is a length byte and that many bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.migration.compat import NEWEST, StreamFormat
from e2kemu.migration.qemufile import StreamWriter
from e2kemu.wire import Reader, Writer

MAGIC = 0x5145564D
VERSION = 3
OLD_VERSION = 2


class ElementType(IntEnum):
    """First byte of an element (QEMU_VM_*)."""

    EOF = 0x00
    SECTION_START = 0x01
    SECTION_PART = 0x02
    SECTION_END = 0x03
    SECTION_FULL = 0x04
    SUBSECTION = 0x05
    VMDESCRIPTION = 0x06
    CONFIGURATION = 0x07
    COMMAND = 0x08
    SECTION_FOOTER = 0x7E


class Command(IntEnum):
    """MIG_CMD_*: what the source tells the destination besides state."""

    OPEN_RETURN_PATH = 1
    PING = 2
    POSTCOPY_ADVISE = 3
    POSTCOPY_LISTEN = 4
    POSTCOPY_RUN = 5
    POSTCOPY_RAM_DISCARD = 6
    PACKAGED = 7
    ENABLE_COLO = 8
    POSTCOPY_RESUME = 9
    RECV_BITMAP = 10
    SWITCHOVER_START = 11


MAX_MACHINE_NAME = 255
MAX_VMDESCRIPTION = 64 << 20
"""Bytes of JSON that are accepted; QEMU's is about 100 KB for a PC."""


def shown(name: str) -> str:
    """A name that came from a stream, fit for one line of text."""
    return name.encode("unicode_escape").decode("ascii")


CONFIG_CAPABILITIES = "configuration/capabilities"
CONFIG_UUID = "configuration/uuid"
CONFIG_PAGE_BITS = "configuration/target-page-bits"

VALIDATABLE = ("x-ignore-shared", "mapped-ram")
"""Capabilities that the configuration section names because both ends must agree on them."""


@dataclass(frozen=True)
class Configuration:
    """The configuration section: what must be the same at both ends."""

    machine_type: str
    uuid: uuid.UUID | None = None
    """Sent with validate-uuid only."""
    capabilities: tuple[str, ...] = ()
    """Validatable capabilities that are on."""

    def save(self, w: Writer) -> None:
        """Write the body (after the 07)."""
        name = self.machine_type.encode()
        w.be32(len(name))
        w.raw(name)
        if self.capabilities:
            w.be8(ElementType.SUBSECTION)
            w.string8(CONFIG_CAPABILITIES)
            w.be32(1)
            w.be32(len(self.capabilities))
            for capability in self.capabilities:
                w.string8(capability)
        if self.uuid is not None:
            w.be8(ElementType.SUBSECTION)
            w.string8(CONFIG_UUID)
            w.be32(1)
            w.raw(self.uuid.bytes)

    @classmethod
    def load(cls, r: Reader) -> Configuration:
        """Read the body. Raises StreamError."""
        length = r.be32()
        if length > MAX_MACHINE_NAME:
            raise StreamError(
                f"machine type name of {length} bytes", section="configuration", offset=r.position
            )
        machine_type = r.raw(length).decode("utf-8", "backslashreplace")
        identity: uuid.UUID | None = None
        capabilities: tuple[str, ...] = ()
        while r.peek(1) == bytes([ElementType.SUBSECTION]):
            at = r.position
            r.be8()
            name = r.string8()
            version = r.be32()
            if version != 1:
                raise StreamError(f"version {version} of {name} is not 1", section="configuration", offset=at)
            if name == CONFIG_CAPABILITIES:
                count = r.be32()
                if count > 256:
                    raise StreamError(f"{count} capabilities", section="configuration", offset=at)
                capabilities = tuple(r.string8() for _ in range(count))
            elif name == CONFIG_UUID:
                identity = uuid.UUID(bytes=r.raw(16))
            elif name == CONFIG_PAGE_BITS:
                bits = r.be32()
                if bits != 12:
                    raise StreamError(
                        f"target page of 2^{bits} bytes is not ours", section="configuration", offset=at
                    )
            else:
                raise StreamError(f"unknown subsection '{shown(name)}'", section="configuration", offset=at)
        return cls(machine_type, identity, capabilities)

    def vmdesc(self) -> dict[str, Any]:
        """The entry "configuration" of the vmdescription."""
        description: dict[str, Any] = {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [
                {"name": "len", "type": "uint32", "size": 4},
                {"name": "name", "type": "buffer", "size": len(self.machine_type.encode())},
            ],
        }
        subsections: list[dict[str, Any]] = []
        if self.capabilities:
            fields: list[dict[str, Any]] = [{"name": "caps_count", "type": "uint32", "size": 4}]
            several = len(self.capabilities) > 1
            for index, name in enumerate(self.capabilities):
                place = {"index": index} if several else {}
                fields.append({"name": "capabilities", **place, "type": "capability", "size": 1 + len(name)})
            subsections.append({"vmsd_name": CONFIG_CAPABILITIES, "version": 1, "fields": fields})
        if self.uuid is not None:
            fields = [{"name": "uuid.data", "array_len": 16, "type": "uint8", "size": 1}]
            subsections.append({"vmsd_name": CONFIG_UUID, "version": 1, "fields": fields})
        if subsections:
            description["subsections"] = subsections
        return description

    def check_received(self, received: Configuration, offset: int) -> None:
        """``self`` is the destination. Raises StreamError when the source is another machine."""
        if received.machine_type != self.machine_type:
            theirs = shown(received.machine_type)
            raise StreamError(
                f"Machine type received is '{theirs}' and local is '{self.machine_type}'",
                section="configuration",
                offset=offset,
            )
        for capability in VALIDATABLE:
            here, there = capability in self.capabilities, capability in received.capabilities
            if here != there:
                raise StreamError(
                    f"Capability {capability} is {_on(here)}, but received capability is {_on(there)}",
                    section="configuration",
                    offset=offset,
                )
        if received.uuid is not None and self.uuid is not None and received.uuid != self.uuid:
            raise StreamError(
                f"UUID received is {received.uuid} and local is {self.uuid}",
                section="configuration",
                offset=offset,
            )


def _on(state: bool) -> str:
    return "on" if state else "off"


class FrameWriter:
    """Writes the elements of a stream to ``out``; parts that ``format`` does not have are left out."""

    def __init__(self, out: StreamWriter, format: StreamFormat = NEWEST) -> None:
        self.out = out
        self.format = format

    def header(self, configuration: Configuration) -> None:
        """Magic, version, configuration."""
        self.out.be32(MAGIC)
        self.out.be32(VERSION)
        if self.format.send_configuration:
            self.out.be8(ElementType.CONFIGURATION)
            configuration.save(self.out)

    @contextmanager
    def section_start(
        self, kind: ElementType, section_id: int, idstr: str, instance_id: int, version: int
    ) -> Iterator[StreamWriter]:
        """A START or FULL section: the body is written inside the ``with``."""
        self.out.be8(kind)
        self.out.be32(section_id)
        self.out.string8(idstr)
        self.out.be32(instance_id)
        self.out.be32(version)
        yield self.out
        self._footer(section_id)

    @contextmanager
    def section_more(self, kind: ElementType, section_id: int) -> Iterator[StreamWriter]:
        """A PART or END section."""
        self.out.be8(kind)
        self.out.be32(section_id)
        yield self.out
        self._footer(section_id)

    def _footer(self, section_id: int) -> None:
        if not self.format.send_section_footer:
            return
        self.out.be8(ElementType.SECTION_FOOTER)
        self.out.be32(section_id)

    def command(self, command: Command, payload: bytes = b"") -> None:
        """One COMMAND element."""
        self.out.be8(ElementType.COMMAND)
        self.out.be16(command)
        self.out.be16(len(payload))
        self.out.raw(payload)

    def switchover_start(self) -> None:
        """Tell the destination that the guest stands still."""
        if self.format.send_switchover_start:
            self.command(Command.SWITCHOVER_START)

    def end(self, vmdescription: bytes) -> None:
        """End of the device state and the vmdescription."""
        self.out.be8(ElementType.EOF)
        if self.format.suppress_vmdesc:
            return
        self.out.be8(ElementType.VMDESCRIPTION)
        self.out.be32(len(vmdescription))
        self.out.raw(vmdescription)
