"""``e2kemu-stream --extract DIR``: what a stream holds, as files.

    DIR/ram/BLOCK                    the bytes of each RAM block, as the destination would have them (sparse)
    DIR/devices/NN-NAME-I.bin        the body of each device section, NN its place in the stream, I its instance
    DIR/devices/NN-NAME-I.json       the same, fields by name, where the stream describes them
    DIR/configuration.json           machine type and what else both ends must agree on
    DIR/vmdescription.json           the stream's own description

Characters of names that might lead out of the directory become "_".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from e2kemu.errors import OptionError
from e2kemu.migration.stream_reader import Record

FOOTER = 0x7E
FOOTER_BYTES = 5
SECTION_HEADER = 1 + 4 + 1 + 4 + 4
"""Bytes of the header of a FULL section, without its name."""

PAGE = 4096


def file_name(name: str) -> str:
    """``name`` as one harmless part of a path."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:200]
    return safe if safe.strip(".") else "_" * max(1, len(safe))


class Extraction:
    """Collects the device sections of ``data`` while somebody walks its records."""

    def __init__(self, directory: Path, data: bytes) -> None:
        self._directory = directory
        self._data = data
        self._footers: bool | None = None
        self._count = 0
        try:
            for part in (directory / "ram", directory / "devices"):
                part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"cannot write to {directory}: {error.strerror}") from error

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass ``records`` on, and write what they hold. Raises OptionError."""
        for record in records:
            if record.kind == "CONFIGURATION":
                self._json("configuration.json", record.values)
            elif record.kind == "VMDESCRIPTION":
                self._json("vmdescription.json", record.values)
            elif record.kind in ("START", "FULL"):
                if self._footers is None:
                    self._footers = self._has_footer(record)
                if record.kind == "FULL":
                    self._device(record)
            yield record

    def _has_footer(self, record: Record) -> bool:
        mark = bytes([FOOTER]) + (record.section_id or 0).to_bytes(4, "big")
        return self._data[record.end - FOOTER_BYTES : record.end] == mark

    def _device(self, record: Record) -> None:
        start = record.start + SECTION_HEADER + self._data[record.start + 5]
        end = record.end - (FOOTER_BYTES if self._footers else 0)
        name = f"devices/{self._count:02}-{file_name(record.name)}-{record.instance_id}"
        self._count += 1
        self._write(f"{name}.bin", self._data[start:end])
        if record.values:
            about = {"name": record.name, "instance-id": record.instance_id, "version": record.version}
            self._json(f"{name}.json", about | {"fields": record.values})

    def finish(self, memory: Mapping[str, bytearray]) -> None:
        """Write the RAM blocks. Raises OptionError."""
        for name, content in memory.items():
            self._write_sparse(f"ram/{file_name(name)}", content)

    def _json(self, name: str, value: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(value, indent=1).encode() + b"\n")

    def _write(self, name: str, content: bytes) -> None:
        try:
            (self._directory / name).write_bytes(content)
        except OSError as error:
            raise OptionError(f"cannot write {self._directory / name}: {error.strerror}") from error

    def _write_sparse(self, name: str, content: bytearray) -> None:
        """Pages that are zero become holes."""
        zero, view = bytes(PAGE), memoryview(content)
        try:
            with open(self._directory / name, "wb") as file:
                for at in range(0, len(content), PAGE):
                    if view[at : at + PAGE] != zero[: len(content) - at]:
                        file.seek(at)
                        file.write(view[at : at + PAGE])
                file.truncate(len(content))
        except OSError as error:
            raise OptionError(f"cannot write {self._directory / name}: {error.strerror}") from error
