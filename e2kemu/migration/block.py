"""The "block" section, version 1: disks whose image the other end does not have (``migrate -b``, ``-i``).

    START: EOS
    PART:  records, EOS          one per call of the migration loop, until all is copied and little is dirty
    END:   records, PROGRESS 100, EOS          the guest stands still

A record is be64 (sector << 9 | flags); with DEVICE_BLOCK the disk's name as string8 follows, and 1 MiB of data
unless ZERO_BLOCK is set too (capability zero-blocks). At the end of a disk, what lies behind it is padding.
PROGRESS has the percentage in the place of the sector. Sectors are 512 bytes.

``BlockSaver`` copies each disk once from its begin to its end, and then again whatever chunk the guest has written
since. The mark of a chunk is cleared before the chunk is read and set after it was written, so none is missed.
With ``incremental`` only chunks are copied that the image itself holds, not the backing file below it, which
the other end has too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from e2kemu.errors import StreamError
from e2kemu.migration.disk_protocol import CHUNK, MigratableDisk
from e2kemu.migration.qemufile import StreamReader, StreamWriter
from e2kemu.migration.stream import shown
from e2kemu.wire import Writer

BLOCK_IDSTR = "block"
BLOCK_INSTANCE = 0
BLOCK_VERSION = 1
BLOCK_SECTION_ID = 0

SECTOR_BITS = 9
FLAGS_MASK = (1 << SECTOR_BITS) - 1


class BlockFlag(IntFlag):
    """BLK_MIG_FLAG_*: the low bits of a record's word."""

    DEVICE_BLOCK = 1
    EOS = 2
    PROGRESS = 4
    ZERO_BLOCK = 8


@dataclass
class DiskCounters:
    """Bytes of the disks: query-migrate's ``disk``."""

    transferred: int = 0
    """Bytes of disk that are at the other end, zero chunks included."""
    remaining: int = 0
    total: int = 0

    def query(self) -> dict[str, int | float]:
        """The member ``disk``: a MigrationStats of which only these apply."""
        others = (
            "duplicate", "normal", "normal-bytes", "dirty-pages-rate", "mbps", "dirty-sync-count", "postcopy-requests",
            "page-size", "multifd-bytes", "pages-per-second", "precopy-bytes", "downtime-bytes", "postcopy-bytes",
            "dirty-sync-missed-zero-copy",
        )  # fmt: skip
        values = {"transferred": self.transferred, "remaining": self.remaining, "total": self.total}
        return {**values, **dict.fromkeys(others, 0)}


class _DiskState:
    """One disk: what has not been copied for the first time, and what must be again."""

    def __init__(self, disk: MigratableDisk) -> None:
        self.disk = disk
        self.chunks = -(-disk.size // CHUNK)
        self.at = 0
        self.dirty = np.zeros(self.chunks, dtype=np.bool_)

    def size_of(self, chunk: int) -> int:
        return min(CHUNK, self.disk.size - chunk * CHUNK)

    @property
    def remaining(self) -> int:
        """Bytes, rounded up to chunks."""
        left = self.chunks - self.at + int(np.count_nonzero(self.dirty[: self.at]))
        return min(self.disk.size, left * CHUNK)

    def sync(self) -> None:
        self.dirty |= self.disk.take_dirty()


class BlockSaver:
    """The source's side of the section for one migration; of all disks that can be written."""

    def __init__(self, disks: Sequence[MigratableDisk], *, incremental: bool, zero_blocks: bool) -> None:
        self._states = [_DiskState(disk) for disk in disks if not disk.readonly and disk.size]
        self._incremental = incremental
        self._zero_blocks = zero_blocks
        self._progress = -1
        self.counters = DiskCounters(total=sum(state.disk.size for state in self._states))
        self.counters.remaining = self.counters.total

    def start(self) -> None:
        """The guest's writes are tracked from now on."""
        for state in self._states:
            state.disk.track_dirty(True)

    def stop(self) -> None:
        """The migration is over."""
        for state in self._states:
            state.disk.track_dirty(False)

    @property
    def copied(self) -> bool:
        """Every chunk has been copied once."""
        return all(state.at == state.chunks for state in self._states)

    def sync(self) -> int:
        """Look what the guest has written; returns the bytes that remain."""
        for state in self._states:
            state.sync()
        self.counters.remaining = sum(state.remaining for state in self._states)
        return self.counters.remaining

    # -- sections

    def save_setup(self, out: Writer) -> None:
        """Body of START."""
        out.be64(BlockFlag.EOS)

    def save_part(self, out: StreamWriter, limit: int, deadline: float) -> None:
        """Body of PART: about ``limit`` bytes, at least one chunk, until ``deadline`` (monotonic seconds)."""
        begin = out.position
        while self._save_next(out) and out.position - begin < limit and time.monotonic() < deadline:
            pass
        self.sync()
        self._save_progress(out)
        out.be64(BlockFlag.EOS)

    def save_end(self, out: StreamWriter) -> None:
        """Body of END: all the rest; the guest stands still."""
        self.sync()
        while self._save_next(out):
            pass
        self.sync()
        out.be64(100 << SECTOR_BITS | BlockFlag.PROGRESS)
        out.be64(BlockFlag.EOS)

    def _save_next(self, out: StreamWriter) -> bool:
        """One chunk: of the first copy while there is any, then a dirty one; False: there is none."""
        for state in self._states:
            while state.at < state.chunks:
                chunk = state.at
                state.at += 1
                state.sync()
                state.dirty[chunk] = False
                if not self._incremental or state.disk.is_allocated(chunk * CHUNK, state.size_of(chunk)):
                    self._save_chunk(out, state, chunk)
                    return True
        for state in self._states:
            dirty = np.flatnonzero(state.dirty)
            if len(dirty):
                chunk = int(dirty[0])
                state.sync()
                state.dirty[chunk] = False
                self._save_chunk(out, state, chunk)
                return True
        return False

    def _save_chunk(self, out: StreamWriter, state: _DiskState, chunk: int) -> None:
        disk, offset, size = state.disk, chunk * CHUNK, state.size_of(chunk)
        data = bytes(size) if disk.is_zero(offset, size) else disk.read(offset, size)
        zero = self._zero_blocks and not np.frombuffer(data, dtype=np.uint8).any()
        flags = BlockFlag.DEVICE_BLOCK | (BlockFlag.ZERO_BLOCK if zero else 0)
        out.be64(offset | flags)
        out.string8(disk.id)
        if not zero:
            out.write_through(memoryview(data + bytes(CHUNK - size)))
        self.counters.transferred += size

    def _save_progress(self, out: Writer) -> None:
        total = sum(state.chunks for state in self._states)
        percent = 100 * sum(state.at for state in self._states) // total if total else 100
        if percent != self._progress:
            self._progress = percent
            out.be64(percent << SECTOR_BITS | BlockFlag.PROGRESS)


class BlockLoader:
    """The destination's side: what comes is written into its own images."""

    version = BLOCK_VERSION

    def __init__(self, disks: Sequence[MigratableDisk]) -> None:
        self._disks = {disk.id: disk for disk in disks}

    def load(self, r: StreamReader) -> None:
        """One section body, up to its EOS record. Raises StreamError; E2kError for a disk that fails."""
        while True:
            at = r.position
            head = r.be64()
            flags = head & FLAGS_MASK
            if flags & BlockFlag.DEVICE_BLOCK and not flags & ~(BlockFlag.DEVICE_BLOCK | BlockFlag.ZERO_BLOCK):
                self._load_chunk(r, head & ~FLAGS_MASK, bool(flags & BlockFlag.ZERO_BLOCK), at)
            elif flags == BlockFlag.EOS:
                return
            elif flags != BlockFlag.PROGRESS:
                raise self._error(f"Unknown block migration flags: {flags:#x}", at)

    def _load_chunk(self, r: StreamReader, offset: int, zero: bool, at: int) -> None:
        name = r.string8()
        disk = self._disks.get(name)
        if disk is None:
            raise self._error(f"Error unknown block device {shown(name)}", at)
        if offset % CHUNK or offset >= disk.size:
            raise self._error(
                f"block at sector {offset >> SECTOR_BITS} of device {name}, which has {disk.size >> SECTOR_BITS}", at
            )
        if disk.readonly:
            raise self._error(f"block device {name} is read-only here", at)
        disk.activate()
        size = min(CHUNK, disk.size - offset)
        if zero:
            disk.write_zeroes(offset, size)
        else:
            disk.write(offset, r.read_exact(CHUNK)[:size])

    def _error(self, text: str, at: int) -> StreamError:
        return StreamError(text, section=BLOCK_IDSTR, offset=at)
