"""Format "qcow2": clusters of a disk, wherever they lie in the file; the rest is in a backing file or zero.

Reading follows L1 -> L2 -> cluster; compressed clusters are inflated. Writing allocates clusters and copies on
write what a request does not cover, from the old cluster or the backing file; clusters that snapshots share
are copied too. Snapshots themselves are neither made nor looked into.

Order of writing out (``flush``), with a barrier of the host between the steps, so that whatever breaks off leaves
at worst clusters that are counted and not used:

    data of new clusters (written at once), reference counts | L2 tables | L1 table | counts that go down

Until then tables are kept in memory, as in QEMU; what the guest has not flushed may be lost with the process.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from e2kemu.block.image import LAST_OFFSET, BlockImage, open_file, open_image
from e2kemu.block.qcow2_format import (
    AUTOCLEAR_OFFSET,
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    ZERO,
    Header,
)
from e2kemu.block.qcow2_refcounts import Refcounts
from e2kemu.errors import ImageError, OptionError

L2_CACHE = 64
"""L2 tables kept in memory: 32 GiB of disk with clusters of 64 KiB."""

Table = npt.NDArray[np.uint64]


class Qcow2Image(BlockImage):
    """A qcow2 image. ``below`` replaces the backing file that the header names."""

    format = "qcow2"

    def __init__(
        self, path: str, *, readonly: bool = False, depth: int = 0, fd: int = -1, below: BlockImage | None = None
    ) -> None:
        super().__init__(path, open_file(path, readonly=readonly) if fd < 0 else fd, readonly=readonly)
        self._depth = depth
        self._below = below
        try:
            self.reload()
            if self._header.backing_file and below is None:
                self._below = self._open_backing()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def backing(self) -> BlockImage | None:
        return self._below

    def _open_backing(self) -> BlockImage:
        name = self._header.backing_file
        if name.startswith(("json:", "nbd:", "ssh:")) or "://" in name:
            raise OptionError(f"Could not open backing file of '{self.path}': '{name}' is not a file")
        path = os.path.join(os.path.dirname(self.path), name.removeprefix("file:"))
        try:
            return open_image(path, self._header.backing_format, readonly=True, depth=self._depth + 1)
        except (OptionError, ImageError) as error:
            raise OptionError(f"Could not open backing file: {error}") from error

    # -- life

    def reload(self) -> None:
        self._header = Header.parse(os.pread(self._fd, 1 << 21, 0), self.path)
        header = self._header
        self._cluster = header.cluster_size
        self.size = header.size & ~511
        if header.l1_offset + header.l1_size * 8 > LAST_OFFSET:
            raise ImageError(f"'{self.path}': L1 table offset {header.l1_offset:#x} is no place in a file")
        raw = self._pread(header.l1_offset, header.l1_size * 8)
        self._l1: Table = np.frombuffer(raw, dtype=">u8").astype(np.uint64)
        self._l1_dirty = False
        self._l2: dict[int, Table] = {}
        self._l2_dirty: set[int] = set()
        self._freed: list[int] = []
        self._unwritten = False
        self._refcounts: Refcounts | None = None

    def activate(self) -> None:
        if self.active:
            return
        if self._below is not None:
            self._below.activate()
        super().activate()
        if not self.readonly and self._header.autoclear:
            self._pwrite(AUTOCLEAR_OFFSET, bytes(8))  # what such a feature keeps, we do not keep up

    def inactivate(self) -> None:
        super().inactivate()
        if self._below is not None:
            self._below.inactivate()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._below is not None:
                self._below.close()

    # -- reading

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        parts = []
        for entry, at, count in self._pieces(offset, size):
            parts.append(self._read_piece(entry, at, count))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_piece(self, entry: int, at: int, count: int) -> bytes:
        """``count`` bytes at ``at`` of the disk, inside of one cluster with this L2 entry."""
        inside = at & (self._cluster - 1)
        if entry & COMPRESSED:
            return self._inflate(entry)[inside : inside + count]
        if entry & ZERO:
            return bytes(count)
        place = self._place(entry)
        return self._pread(place + inside, count) if place else self._read_backing(at, count)

    def _read_backing(self, at: int, count: int) -> bytes:
        below = self._below
        if below is None:
            return bytes(count)
        there = max(0, min(count, below.size - at))
        data = below.read(at, there) if there else b""
        return data + bytes(count - there)

    def _inflate(self, entry: int) -> bytes:
        shift = 62 - (self._header.cluster_bits - 8)
        place = entry & ((1 << shift) - 1)
        sectors = (entry >> shift & ((1 << (62 - shift)) - 1)) + 1
        packed = self._pread(place, sectors * 512 - (place & 511))
        try:
            data = zlib.decompressobj(-12).decompress(packed, self._cluster)
        except zlib.error as error:
            raise ImageError(f"'{self.path}': compressed cluster at {place:#x}: {error}") from error
        if len(data) != self._cluster:
            raise ImageError(f"'{self.path}': compressed cluster at {place:#x} is {len(data)} bytes long")
        return data

    def is_allocated(self, offset: int, size: int) -> bool:
        return any(entry for entry, _, _ in self._pieces(offset, size))

    def is_zero(self, offset: int, size: int) -> bool:
        return all(self._piece_is_zero(entry, at, count) for entry, at, count in self._pieces(offset, size))

    def _piece_is_zero(self, entry: int, at: int, count: int) -> bool:
        if entry:
            return not entry & COMPRESSED and bool(entry & ZERO)
        below = self._below
        if below is None or at >= below.size:
            return True
        return below.is_zero(at, min(count, below.size - at))

    def _pieces(self, offset: int, size: int) -> Iterator[tuple[int, int, int]]:
        """(L2 entry, offset, bytes) of each cluster that the range touches."""
        end = offset + size
        while offset < end:
            count = min(end, (offset | (self._cluster - 1)) + 1) - offset
            table = self._table(offset // self._cluster // self._header.l2_entries)
            index = offset // self._cluster % self._header.l2_entries
            yield (0 if table is None else int(table[index])), offset, count
            offset += count

    def _place(self, entry: int) -> int:
        place = entry & OFFSET_MASK
        if place & (self._cluster - 1):
            raise ImageError(f"'{self.path}': Cluster allocation offset {place:#x} unaligned")
        return place

    # -- L2 tables

    def _table(self, index: int) -> Table | None:
        """L2 table ``index``, None where there is none."""
        table = self._l2.get(index)
        if table is None:
            place = self._place(int(self._l1[index]))
            if not place:
                return None
            raw = self._pread(place, self._cluster)
            table = np.frombuffer(raw, dtype=">u8").astype(np.uint64)
            self._keep(index, table)
        return table

    def _keep(self, index: int, table: Table) -> None:
        while len(self._l2) >= L2_CACHE:
            for oldest in self._l2:
                if oldest not in self._l2_dirty:
                    del self._l2[oldest]
                    break
            else:
                self._write_out()
        self._l2[index] = table

    def _own_table(self, index: int) -> Table:
        """L2 table ``index`` in a cluster that is this image's alone."""
        table = self._table(index)
        old = int(self._l1[index])
        if table is None or not old & COPIED:
            place = self._counts.allocate()
            if table is None:
                table = np.zeros(self._header.l2_entries, dtype=np.uint64)
                self._keep(index, table)
            else:
                self._freed.append(self._place(old))
            self._l1[index] = np.uint64(place | COPIED)
            self._l1_dirty = True
        self._l2_dirty.add(index)
        return table

    # -- writing

    @property
    def _counts(self) -> Refcounts:
        """The reference counts, read when first written. Raises ImageError for widths below a byte."""
        if self._refcounts is None:
            if self._header.refcount_order < 3:
                bits = 1 << self._header.refcount_order
                raise ImageError(f"'{self.path}': reference counts of {bits} bits cannot be written")
            self._refcounts = Refcounts(self._header, self.path, self._fd, self._pread, self._pwrite)
        return self._refcounts

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._check(offset, len(data), writing=True)
        view = memoryview(data)
        while view:
            count = min(len(view), self._cluster - (offset & (self._cluster - 1)))
            self._write_piece(offset, view[:count])
            offset += count
            view = view[count:]

    def _write_piece(self, at: int, data: memoryview) -> None:
        """Write inside of one cluster."""
        entry = next(self._pieces(at, len(data)))[0]
        inside = at & (self._cluster - 1)
        self._unwritten = True
        if entry & COPIED and not entry & (COMPRESSED | ZERO) and self._place(entry):
            self._pwrite(self._place(entry) + inside, data)
            return
        start = at - inside
        before = self._read_piece(entry, start, inside)
        after = self._read_piece(entry, at + len(data), self._cluster - inside - len(data))
        reuse = bool(entry & COPIED and entry & ZERO and not entry & COMPRESSED and self._place(entry))
        table = self._own_table(start // self._cluster // self._header.l2_entries)
        place = self._place(entry) if reuse else self._counts.allocate()
        self._pwrite(place, b"".join((before, data, after)))
        table[start // self._cluster % self._header.l2_entries] = np.uint64(place | COPIED)
        if not reuse:
            self._forget(entry)

    def _forget(self, entry: int) -> None:
        """The clusters of an entry that has been replaced lose a reference, once that is on disk."""
        if entry & COMPRESSED:
            shift = 62 - (self._header.cluster_bits - 8)
            place = entry & ((1 << shift) - 1)
            end = (place & ~511) + 512 * ((entry >> shift & ((1 << (62 - shift)) - 1)) + 1)
            self._freed += range(place & -self._cluster, end, self._cluster)
        elif self._place(entry):
            self._freed.append(self._place(entry))

    def write_zeroes(self, offset: int, size: int) -> None:
        self._check(offset, size, writing=True)
        for entry, at, count in list(self._pieces(offset, size)):
            if self._piece_is_zero(entry, at, count):
                continue
            if count == self._cluster and self._header.version >= 3:
                kept = self._place(entry) | COPIED if entry & COPIED and not entry & COMPRESSED else 0
                table = self._own_table(at // self._cluster // self._header.l2_entries)
                table[at // self._cluster % self._header.l2_entries] = np.uint64(kept | ZERO)
                self._unwritten = True
                if not kept:
                    self._forget(entry)
            else:
                self._write_piece(at, memoryview(bytes(count)))

    # -- writing out

    def _write_out(self) -> None:
        """Everything that is only in memory, in the order that the module describes."""
        if self._refcounts is not None and self._refcounts.write_out():
            os.fdatasync(self._fd)
        if self._l2_dirty:
            for index in sorted(self._l2_dirty):
                self._pwrite(self._place(int(self._l1[index])), self._l2[index].astype(">u8").tobytes())
            self._l2_dirty.clear()
            os.fdatasync(self._fd)
        if self._l1_dirty:
            self._pwrite(self._header.l1_offset, self._l1.astype(">u8").tobytes())
            self._l1_dirty = False
            os.fdatasync(self._fd)
        if self._freed:
            for place in self._freed:
                self._counts.decrease(place)
            self._freed.clear()
            self._counts.write_out()

    def flush(self) -> None:
        if self.readonly or not self._unwritten:
            return
        self._write_out()
        os.fdatasync(self._fd)
        self._unwritten = False


def create(
    path: str, size: int, *, backing: str = "", backing_format: str | None = None, cluster_bits: int = 16,
    version: int = 3,
) -> None:  # fmt: skip
    """Make an empty image of ``size`` bytes. Raises OptionError."""
    try:
        with open(path, "xb") as file:
            _format(file.fileno(), size, backing, backing_format, cluster_bits, version)
    except OSError as error:
        raise OptionError(f"Could not create '{path}': {error.strerror}") from error


def _format(
    fd: int, size: int, backing: str = "", backing_format: str | None = None, cluster_bits: int = 16, version: int = 3
) -> None:
    """Header, reference counts and an empty L1 table; clusters 0, 1, 2 and from 3 on."""
    cluster = 1 << cluster_bits
    l1_size = max(1, -(-size // (cluster * (cluster // 8))))
    l1_clusters = -(-l1_size * 8 // cluster)
    used = 3 + l1_clusters
    if used > cluster // 2:
        raise OptionError(f"a disk of {size} bytes needs larger clusters than {cluster} bytes")
    header = Header(version, cluster_bits, size, l1_size, 3 * cluster, cluster, 1, backing_file=backing,
                    backing_format=backing_format)  # fmt: skip
    counts = np.zeros(cluster // 2, dtype=">u2")
    counts[:used] = 1
    os.ftruncate(fd, used * cluster)
    os.pwrite(fd, header.build(), 0)
    os.pwrite(fd, struct.pack(">Q", 2 * cluster), cluster)
    os.pwrite(fd, counts.tobytes(), 2 * cluster)


def temporary_overlay(below: BlockImage) -> Qcow2Image:
    """An empty image over ``below`` (``snapshot=on``) in a file without a name. Raises OptionError."""
    try:
        fd, path = tempfile.mkstemp(prefix="e2kemu-snapshot-")
        try:
            _format(fd, below.size)
        finally:
            os.unlink(path)
    except OSError as error:
        raise OptionError(f"Could not create temporary overlay: {error.strerror}") from error
    return Qcow2Image(below.path, fd=fd, below=below)
