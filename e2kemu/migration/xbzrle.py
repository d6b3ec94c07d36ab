"""The XBZRLE code: what has changed in a page, as lengths of equal and changed runs and the new bytes.

Record behind its header word (and the block's name):

    u8 1, be16 length, then length bytes:  ULEB128 equal, ULEB128 changed, the changed bytes; again and again

ULEB128 has one byte below 128 and two from there on. Only the first ``equal`` may be 0, ``changed`` never is;
an equal run at the page's end is left out. What would be longer than a page is not encoded (overflow).

``encode_pages`` and ``decode_pages`` work on many pages at once, in native code (``xbzrle_kernels.py``) that gives up
the interpreter while it runs. ``prepare`` compiles it; otherwise the first page does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from e2kemu.errors import StreamError
from e2kemu.memory.dirty import PAGE_SIZE
from e2kemu.migration.xbzrle_kernels import SLACK, kernels

ENCODING = 1
"""The record's first byte: the only encoding there is."""

RECORD_HEAD = 8 + 1 + 2
"""Bytes of a record with CONTINUE before its data."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def prepare() -> None:
    """Take the time that it needs to compile the code (a quarter of a second) now."""
    kernels()


@dataclass(frozen=True)
class Encoded:
    """Pages, encoded. ``records`` are without their header words: they are left free (8 bytes each)."""

    lengths: Ints
    """Per page: bytes of encoded data; 0: nothing has changed, -1: overflow."""
    records: Bytes
    """One record for each page whose length is positive."""
    starts: Ints
    """Where each of these records begins in ``records``."""


def encode_pages(old: Bytes, new: Bytes) -> Encoded:
    """What makes ``new`` of ``old`` (n x 4096 bytes each). Nobody may write to them meanwhile."""
    if old.shape != new.shape or old.shape[1:] != (PAGE_SIZE,):
        raise ValueError(f"pages of shapes {old.shape} and {new.shape} cannot be compared")
    old, new = np.ascontiguousarray(old, np.uint8), np.ascontiguousarray(new, np.uint8)
    count = len(new)
    lengths, starts = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    # Room for the worst case: memory that is not used costs nothing.
    records = np.empty(count * (RECORD_HEAD + PAGE_SIZE) + SLACK, dtype=np.uint8)
    size = kernels()["xbzrle_encode"](
        old.ctypes.data, new.ctypes.data, count, lengths.ctypes.data, starts.ctypes.data, records.ctypes.data
    )
    return Encoded(lengths, records[:size], starts[: np.count_nonzero(lengths > 0)])


class DecodeError(StreamError):
    """Encoded page number ``page`` (of those given) makes no sense."""

    def __init__(self, page: int) -> None:
        super().__init__("Failed to decompress XBZRLE page: a run lies outside of its page or is empty")
        self.page = page


def decode_pages(
    data: Bytes, starts: Sequence[int] | Ints, ends: Sequence[int] | Ints, bases: Sequence[int] | Ints, memory: Bytes
) -> None:
    """Change pages as their code says: page n is ``data[starts[n]:ends[n]]`` and lies at ``memory[bases[n]]``.

    Raises DecodeError for the first whose code makes no sense; then none is changed.
    """
    begin, end, base = (np.ascontiguousarray(values, dtype=np.int64) for values in (starts, ends, bases))
    if not len(begin) == len(end) == len(base):
        raise ValueError("starts, ends and bases are of different lengths")
    if not len(begin):
        return
    # The native code believes these: only what the data say is checked there.
    if begin.min() < 0 or end.max() > len(data) or base.min() < 0 or base.max() > len(memory) - PAGE_SIZE:
        raise ValueError("a page lies outside of the data or the memory")
    if not (data.flags.c_contiguous and memory.flags.c_contiguous and memory.flags.writeable):
        raise ValueError("the data and the memory are bytes in a row")
    at, end_at, count, native = begin.ctypes.data, end.ctypes.data, len(begin), kernels()
    wrong = native["xbzrle_check"](data.ctypes.data, at, end_at, count)
    if wrong >= 0:
        raise DecodeError(wrong)
    native["xbzrle_apply"](data.ctypes.data, at, end_at, base.ctypes.data, count, memory.ctypes.data)
