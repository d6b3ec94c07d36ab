"""The sections of one machine: which handlers there are, under which numbers, and the vmdescription.

The source numbers its sections in order, RAM first. The destination learns the numbers from START and FULL
headers and looks handlers up by (idstr, instance_id); a number means nothing by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from e2kemu.errors import E2kError, StateError, StreamError
from e2kemu.memory.dirty import PAGE_SIZE
from e2kemu.migration.machine_protocol import SaveHandler
from e2kemu.migration.stream import Configuration, ElementType, FrameWriter, shown
from e2kemu.wire import Writer

RAM_IDSTR = "ram"
RAM_INSTANCE = 0
RAM_VERSION = 4
RAM_SECTION_ID = 1



class Registry:
    """The device sections of a machine, in the order of the stream."""

    def __init__(self, handlers: Sequence[SaveHandler]) -> None:
        self.handlers = tuple(handlers)
        self._by_name: dict[tuple[str, int], SaveHandler] = {}
        for handler in self.handlers:
            key = (handler.idstr, handler.instance_id)
            if key in self._by_name or handler.idstr == RAM_IDSTR:
                raise ValueError(f"section '{handler.idstr}' instance {handler.instance_id} registered twice")
            self._by_name[key] = handler

    def numbered(self) -> Iterator[tuple[int, SaveHandler]]:
        """(section id, handler) of the sections that are sent."""
        for number, handler in enumerate(self.handlers, RAM_SECTION_ID + 1):
            if handler.is_needed():
                yield number, handler

    def find(self, idstr: str, instance_id: int, version: int, offset: int) -> SaveHandler:
        """The handler of a FULL section that was received. Raises StreamError with QEMU's texts."""
        handler = self._by_name.get((idstr, instance_id))
        if handler is None:
            raise unknown_section(idstr, instance_id, offset)
        if not handler.minimum_version <= version <= handler.version:
            raise StreamError(
                f"savevm: unsupported version {version} for '{idstr}' v{handler.version}",
                section=idstr,
                offset=offset,
            )
        return handler


def unknown_section(idstr: str, instance_id: int, offset: int) -> StreamError:
    """The error for a section this machine does not have."""
    return StreamError(
        f"Unknown savevm section or instance '{shown(idstr)}' {instance_id}. Make sure that your current VM"
        " setup matches your saved VM setup, including any hotplugged devices",
        offset=offset,
    )


def send_section(frames: FrameWriter, section_id: int, handler: SaveHandler) -> dict[str, Any]:
    """Write one FULL section; its description, taken at the same moment.

    Raises StateError with the section's name when its owner cannot say its state; nothing is written then.
    """
    body = Writer()
    try:
        handler.save(body)
        description = handler.vmdesc()
    except (E2kError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise StateError(f"cannot save section '{handler.idstr}': {error}") from error
    with frames.section_start(
        ElementType.SECTION_FULL, section_id, handler.idstr, handler.instance_id, handler.version
    ) as out:
        out.raw(body.getvalue())
    return description


def vmdescription(configuration: Configuration, devices: Sequence[dict[str, Any]]) -> bytes:
    """The JSON text that follows the device state."""
    description = {
        "configuration": configuration.vmdesc(),
        "page_size": PAGE_SIZE,
        "devices": list(devices),
    }
    return json.dumps(description, separators=(", ", ": ")).encode()
