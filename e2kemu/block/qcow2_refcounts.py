"""The reference counts of a qcow2 image: which clusters of the file are in use.

Changes are kept in memory until ``write_out``; the order in which the image writes everything out (``qcow2.py``)
makes sure that a cluster is never pointed at before it is counted. The table itself grows at once, in an order
of its own: new block or table first, then, behind a barrier, what points at it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from e2kemu.block.qcow2_format import OFFSET_MASK, REFCOUNT_TABLE_AT, Header
from e2kemu.errors import ImageError

Counts = npt.NDArray[np.unsignedinteger]


class Refcounts:
    """Counts of all clusters. ``pread``/``pwrite`` reach the file, ``sync`` is a barrier."""

    def __init__(
        self,
        header: Header,
        path: str,
        fd: int,
        pread: Callable[[int, int], bytes],
        pwrite: Callable[[int, bytes], None],
    ) -> None:
        self._header, self._path, self._fd = header, path, fd
        self._pread, self._pwrite = pread, pwrite
        self._cluster = header.cluster_size
        self._dtype = np.dtype(f">u{1 << header.refcount_order >> 3}")
        self._per_block = self._cluster // self._dtype.itemsize
        raw = pread(header.refcount_table_offset, header.refcount_table_clusters * self._cluster)
        self._table = np.frombuffer(raw, dtype=">u8").copy()
        self._blocks: dict[int, Counts] = {}
        self._dirty: set[int] = set()
        self._hint = 0

    # -- asking

    def get(self, cluster: int) -> int:
        """The count of a cluster."""
        block = self._block(cluster // self._per_block)
        return 0 if block is None else int(block[cluster % self._per_block])

    def _block(self, index: int) -> Counts | None:
        """Refcount block ``index``, None where there is none: all its clusters are free."""
        found = self._blocks.get(index)
        if found is None and index < len(self._table):
            offset = int(self._table[index]) & OFFSET_MASK
            if offset:
                if offset % self._cluster:
                    raise ImageError(f"'{self._path}': Refblock offset {offset:#x} unaligned")
                found = np.frombuffer(self._pread(offset, self._cluster), dtype=self._dtype).copy()
                self._blocks[index] = found
        return found

    # -- changing

    def allocate(self, count: int = 1) -> int:
        """Offset of ``count`` adjoining free clusters, now counted once each."""
        start = self._find(count)
        for cluster in range(start, start + count):
            self._change(cluster, 1)
        self._hint = start + count
        return start * self._cluster

    def decrease(self, offset: int) -> None:
        """One reference less to the cluster at ``offset``."""
        cluster = offset // self._cluster
        if self.get(cluster) == 0:
            raise ImageError(f"'{self._path}': cluster at {offset:#x} is used and not counted")
        self._change(cluster, -1)
        self._hint = min(self._hint, cluster)

    def _find(self, count: int) -> int:
        """The first of ``count`` adjoining free clusters; the metadata that counts them exists."""
        start, cluster = self._hint, self._hint
        while cluster - start < count:
            index, at = divmod(cluster, self._per_block)
            if self._block(index) is None:
                if index >= len(self._table):
                    self._grow_table(index)
                if self._block(index) is None:
                    self._add_block(index)
                start = cluster = self._hint  # new metadata took clusters, perhaps these: look again
            elif self.get(cluster):
                block = self._blocks[index]
                free = np.flatnonzero(block[at:] == 0)
                cluster += int(free[0]) if len(free) else self._per_block - at
                start = cluster
            else:
                cluster += 1
        return start

    def _change(self, cluster: int, by: int) -> None:
        index, at = divmod(cluster, self._per_block)
        block = self._block(index)
        assert block is not None
        block[at] = int(block[at]) + by
        self._dirty.add(index)

    def _add_block(self, index: int) -> None:
        """A new refcount block for clusters from ``index * per_block`` on; it lies there itself."""
        block = np.zeros(self._per_block, dtype=self._dtype)
        block[0] = 1
        offset = index * self._per_block * self._cluster
        self._pwrite(offset, block.tobytes())
        os.fdatasync(self._fd)
        self._table[index] = offset
        self._pwrite(self._header.refcount_table_offset + 8 * index, struct.pack(">Q", offset))
        self._blocks[index] = block

    def _grow_table(self, index: int) -> None:
        """A larger table, followed by the blocks that count it and themselves.

        All of it lies behind the part of the file that the old table covers; the old one is free afterwards.
        """
        header, old_length = self._header, len(self._table)
        clusters = -(-8 * max(index + 2, old_length * 3 // 2 + 1) // self._cluster)
        first = old_length * self._per_block
        blocks = 1
        while True:
            last = (first + clusters + blocks - 1) // self._per_block
            if last - old_length + 1 > blocks:
                blocks = last - old_length + 1
            elif last >= clusters * self._cluster // 8:
                clusters += 1
            else:
                break
        table = np.zeros(clusters * self._cluster // 8, dtype=">u8")
        table[:old_length] = self._table
        counts = np.zeros(blocks * self._per_block, dtype=self._dtype)
        counts[: clusters + blocks] = 1
        added = counts.reshape(blocks, self._per_block)
        for number in range(blocks):
            offset = (first + clusters + number) * self._cluster
            table[old_length + number] = offset
            self._pwrite(offset, added[number].tobytes())
            self._blocks[old_length + number] = added[number].copy()
        self._pwrite(first * self._cluster, table.tobytes())
        os.fdatasync(self._fd)
        old = header.refcount_table_offset, header.refcount_table_clusters
        self._pwrite(REFCOUNT_TABLE_AT, struct.pack(">QI", first * self._cluster, clusters))
        os.fdatasync(self._fd)
        header.refcount_table_offset, header.refcount_table_clusters = first * self._cluster, clusters
        self._table = table
        for number in range(old[1]):
            self.decrease(old[0] + number * self._cluster)

    def write_out(self) -> bool:
        """Write changed blocks to the file; whether there were any."""
        changed = bool(self._dirty)
        for index in sorted(self._dirty):
            self._pwrite(int(self._table[index]) & OFFSET_MASK, self._blocks[index].tobytes())
        self._dirty.clear()
        return changed
