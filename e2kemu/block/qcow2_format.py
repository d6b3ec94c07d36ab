"""qcow2 on disk: the header and the bits of its tables. Everything is big-endian.

    header            magic "QFI\\xfb", version 2 or 3; 72 bytes, in version 3 at least 104; extensions behind it
    L1 table          be64 per L2 table: its place | COPIED
    L2 tables         be64 per cluster: its place | COPIED | ZERO, or a compressed cluster
    refcount table    be64 per refcount block: its place
    refcount blocks   one count per cluster of the file, 2^refcount_order bits wide

A cluster is 2^cluster_bits bytes (9 to 21, mostly 16). COPIED says that the count is exactly one, so that the
cluster may be changed in place. Source of the facts: the published specification of the format.

What is refused is refused by name, in ``Header.parse``: encryption, an external data file, extended L2 entries,
compression other than deflate, the dirty and corrupt bits, and whatever a newer version may have added.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from e2kemu.errors import ImageError

MAGIC = 0x514649FB

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
"""The place in an entry of the L1, L2 and refcount tables."""

V2_LENGTH = 72
V3_LENGTH = 104

EXTENSION_END = 0
EXTENSION_BACKING_FORMAT = 0xE2792ACA

REFUSED = {
    0: "it is marked dirty (lazy refcounts of a writer that did not finish); run qemu-img check -r all",
    1: "it is marked corrupt; run qemu-img check -r all",
    2: "external data file is not supported",
    3: "compression type other than deflate is not supported",
    4: "extended L2 entries (subclusters) are not supported",
}
"""Incompatible features by bit."""

AUTOCLEAR_OFFSET = 88
REFCOUNT_TABLE_AT = 48

MAX_L1_BYTES = 32 << 20
MAX_REFCOUNT_TABLE_BYTES = 8 << 20
MAX_BACKING_NAME = 1023


@dataclass
class Header:
    """The header's fields; offsets and sizes are in bytes, table lengths as the format counts them."""

    version: int
    cluster_bits: int
    size: int
    l1_size: int
    """Entries."""
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshots: int = 0
    refcount_order: int = 4
    backing_file: str = ""
    backing_format: str | None = None
    autoclear: int = 0

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of one L2 table, which fills a cluster."""
        return self.cluster_size // 8

    @classmethod
    def parse(cls, data: bytes, path: str) -> Header:
        """The header at the front of ``data`` (the file's first MiB or less). Raises ImageError."""

        def wrong(text: str) -> ImageError:
            return ImageError(f"Could not open '{path}': {text}")

        if len(data) < V2_LENGTH or int.from_bytes(data[:4], "big") != MAGIC:
            raise wrong("Image is not in qcow2 format")
        (version, backing_offset, backing_size, cluster_bits, size, crypt, l1_size, l1_offset, table_offset,
         table_clusters, snapshots) = struct.unpack_from(">IQIIQIIQQII", data, 4)  # fmt: skip
        if version not in (2, 3):
            raise wrong(f"Unsupported qcow2 version {version}")
        if crypt:
            raise wrong("encryption is not supported")
        if not 9 <= cluster_bits <= 21:
            raise wrong(f"Unsupported cluster size: 2^{cluster_bits}")
        order, autoclear, length = 4, 0, V2_LENGTH
        if version == 3:
            if len(data) < V3_LENGTH:
                raise wrong("the header is cut short")
            incompatible, _, autoclear, order, length = struct.unpack_from(">QQQII", data, 72)
            for bit in range(64):
                if incompatible >> bit & 1:
                    raise wrong(REFUSED.get(bit, f"Unsupported qcow2 feature(s): incompatible bit {bit}"))
            if length < V3_LENGTH or length > 1 << cluster_bits or length % 8:
                raise wrong(f"qcow2 header of {length} bytes")
        header = cls(version, cluster_bits, size, l1_size, l1_offset, table_offset, table_clusters, snapshots,
                     order, autoclear=autoclear)  # fmt: skip
        if backing_offset:
            if backing_size > MAX_BACKING_NAME or backing_offset + backing_size > header.cluster_size:
                raise wrong("Backing file name too long")
            name = data[backing_offset : backing_offset + backing_size]
            header.backing_file = name.decode("utf-8", "surrogateescape")
            header.backing_format = _backing_format(data, length, backing_offset)
        problem = header._problem()
        if problem:
            raise wrong(problem)
        return header

    def _problem(self) -> str:
        """What makes no sense, "" when all does."""
        mask = self.cluster_size - 1
        needed = -(-self.size // (self.cluster_size * self.l2_entries))
        if self.size > 1 << 56:
            return f"disk of {self.size} bytes"
        if self.l1_size * 8 > MAX_L1_BYTES or needed > self.l1_size:
            return f"Active L1 table of {self.l1_size} entries, {needed} are needed"
        if self.l1_offset & mask or (self.l1_size and not self.l1_offset):
            return "Active L1 table offset invalid"
        if self.refcount_table_offset & mask or not self.refcount_table_offset:
            return "Reference count table offset invalid"
        if not 0 < self.refcount_table_clusters << self.cluster_bits <= MAX_REFCOUNT_TABLE_BYTES:
            return f"Reference count table of {self.refcount_table_clusters} clusters"
        if self.refcount_order > 6:
            return f"Reference count entry width too large: 2^{self.refcount_order} bits"
        return ""

    def build(self) -> bytes:
        """The bytes of a new image's header with its backing file name, at most a cluster."""
        extensions = b""
        if self.backing_format:
            text = self.backing_format.encode()
            extensions += struct.pack(">II", EXTENSION_BACKING_FORMAT, len(text)) + text + bytes(-len(text) % 8)
        extensions += struct.pack(">II", EXTENSION_END, 0)
        length = V3_LENGTH if self.version == 3 else V2_LENGTH
        name = self.backing_file.encode("utf-8", "surrogateescape")
        name_offset = length + len(extensions) if name else 0
        head = struct.pack(
            ">IIQIIQIIQQIIQ", MAGIC, self.version, name_offset, len(name), self.cluster_bits, self.size, 0,
            self.l1_size, self.l1_offset, self.refcount_table_offset, self.refcount_table_clusters, 0, 0,
        )  # fmt: skip
        if self.version == 3:
            head += struct.pack(">QQQII", 0, 0, 0, self.refcount_order, length)
        return head + extensions + name


def _backing_format(data: bytes, at: int, end: int) -> str | None:
    """The format named by the header extensions between ``at`` and ``end``."""
    while at + 8 <= end:
        kind, length = struct.unpack_from(">II", data, at)
        if kind == EXTENSION_END:
            return None
        if kind == EXTENSION_BACKING_FORMAT:
            return data[at + 8 : at + 8 + length].decode("ascii", "backslashreplace")
        at += 8 + length + -length % 8
    return None
