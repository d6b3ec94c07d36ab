"""Where snapshots are kept: a directory, one file each, called TAG.snapshot.

    4096 bytes   header: one JSON object, padded with spaces, a line feed at the end (``SnapshotInfo``)
    the rest     a migration stream, as ``migrate file:`` writes it

so ``-incoming file:TAG.snapshot,offset=4096`` and ``e2kemu-stream --offset 4096`` read it as well. A file appears
under its name when it is whole and on the disk: it is written under another name in the same directory and renamed.
The header has the length and the CRC-32 of the stream, and what the machine must have to take it: whether a
snapshot fits is known before anything of the guest that runs is given up.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from e2kemu.errors import OptionError, StateError

HEADER = 4096
"""Bytes before the stream."""

SUFFIX = ".snapshot"
FORMAT = 1
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
CHUNK = 1 << 20


class SnapshotInfo(msgspec.Struct, forbid_unknown_fields=True):
    """The header. ``date_*`` is the host's time, ``vm_clock_nsec`` the guest's."""

    e2kemu_snapshot: int
    """Version of the file's format."""
    id: int
    """Counts up in a directory."""
    tag: str
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    run_state: str
    """What the machine was doing."""
    machine: str
    format: dict[str, bool]
    """The optional parts of the stream (``compat.StreamFormat``)."""
    blocks: dict[str, int]
    """RAM blocks: idstr -> bytes."""
    sections: list[tuple[str, int, int]]
    """Device sections: idstr, instance id, version."""
    vm_state_size: int = 0
    """Bytes of the stream."""
    crc32: int = 0


def check_tag(tag: str) -> str:
    """``tag``, which is a part of a file's name. Raises OptionError."""
    if not TAG.fullmatch(tag):
        raise OptionError(
            f"Invalid snapshot name {ascii(tag)[:200]}: letters, digits, '_', '-' and '.' (not first), at most 128"
        )
    return tag


def missing(tag: str) -> StateError:
    """The error for a snapshot that is not there, in QEMU's words."""
    return StateError(f"Snapshot '{tag}' does not exist in one or more devices")


class SnapshotStore:
    """The snapshots in ``directory``. Raises OptionError when that is none."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise OptionError(f"snapshot directory '{directory}': not a directory")

    def path(self, tag: str) -> Path:
        """The file of ``tag``. Raises OptionError when that cannot be a tag."""
        return self.directory / (check_tag(tag) + SUFFIX)

    def entries(self) -> tuple[list[SnapshotInfo], list[str]]:
        """All snapshots in the order in which they were made, and for each that cannot be used the reason.

        Raises OptionError when the directory cannot be read.
        """
        infos, problems = [], []
        for tag in self._tags():
            try:
                infos.append(self.read(tag))
            except StateError as error:
                problems.append(str(error))
        return sorted(infos, key=lambda info: info.id), problems

    def _tags(self) -> list[str]:
        try:
            names = os.listdir(self.directory)
        except OSError as error:
            raise OptionError(f"snapshot directory '{self.directory}': {error.strerror}") from error
        tags = [name.removesuffix(SUFFIX) for name in sorted(names) if name.endswith(SUFFIX)]
        return [tag for tag in tags if TAG.fullmatch(tag)]

    def exists(self, tag: str) -> bool:
        """Whether there is a snapshot of that tag, good or not. Raises OptionError."""
        return self.path(tag).exists()

    def read(self, tag: str) -> SnapshotInfo:
        """The header of a snapshot. Raises OptionError (not a tag), StateError (not there, damaged)."""
        path = self.path(tag)
        try:
            with open(path, "rb") as file:
                raw = file.read(HEADER)
                size = os.fstat(file.fileno()).st_size - HEADER
        except FileNotFoundError:
            raise missing(tag) from None
        except OSError as error:
            raise StateError(f"Snapshot '{tag}' cannot be read: {error.strerror}") from error
        try:
            info = msgspec.json.decode(raw, type=SnapshotInfo)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateError(f"Snapshot '{tag}' is damaged: header: {error}") from error
        if info.e2kemu_snapshot != FORMAT:
            raise StateError(f"Snapshot '{tag}' has format {info.e2kemu_snapshot}, not {FORMAT}")
        if len(raw) < HEADER or size != info.vm_state_size:
            raise StateError(f"Snapshot '{tag}' is damaged: {size} bytes instead of {info.vm_state_size}")
        info.tag = tag  # a file that was renamed by hand
        return info

    def verify(self, info: SnapshotInfo) -> None:
        """Read the whole stream once. Raises StateError when it is not what was written."""
        crc = 0
        try:
            with open(self.path(info.tag), "rb") as file:
                file.seek(HEADER)
                while chunk := file.read(CHUNK):
                    crc = zlib.crc32(chunk, crc)
        except OSError as error:
            raise StateError(f"Snapshot '{info.tag}' cannot be read: {error.strerror}") from error
        if crc != info.crc32:
            raise StateError(f"Snapshot '{info.tag}' is damaged: checksum {crc:#010x} instead of {info.crc32:#010x}")

    def next_id(self, replacing: str) -> int:
        """The number of a snapshot that is made now, instead of ``replacing`` if there is such."""
        return 1 + max((info.id for info in self.entries()[0] if info.tag != replacing), default=0)

    def delete(self, tag: str) -> None:
        """Remove a snapshot. Raises OptionError (not a tag), StateError (not there, not possible)."""
        try:
            self.path(tag).unlink()
        except FileNotFoundError:
            raise missing(tag) from None
        except OSError as error:
            raise StateError(f"Snapshot '{tag}' cannot be deleted: {error.strerror}") from error

    @contextmanager
    def writing(self, tag: str) -> Iterator[Path]:
        """A path to write to; the file gets its name when the body ends well, and is gone otherwise."""
        path = self.path(tag)
        temporary = path.with_name(f".{tag}.{os.getpid()}.tmp")
        try:
            yield temporary
            self._publish(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _publish(self, temporary: Path, path: Path) -> None:
        try:
            os.replace(temporary, path)
            _sync(self.directory)
        except OSError as error:
            raise StateError(f"Could not write snapshot '{path}': {error.strerror}") from error


def finish_file(path: Path, info: SnapshotInfo) -> None:
    """Write the header in front of the stream and bring the file to the disk. Raises StateError."""
    raw = msgspec.json.encode(info)
    if len(raw) >= HEADER:
        raise StateError(f"Could not write snapshot '{info.tag}': its header of {len(raw)} bytes is too long")
    try:
        with open(path, "r+b") as file:
            file.write(raw.ljust(HEADER - 1) + b"\n")
        _sync(path)
    except OSError as error:
        raise StateError(f"Could not write snapshot '{info.tag}': {error.strerror}") from error


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
