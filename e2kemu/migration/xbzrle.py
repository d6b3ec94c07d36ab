"""The XBZRLE code: what has changed in a page, as lengths of equal and changed runs and the new bytes.

Record behind its header word (and the block's name):

    u8 1, be16 length, then length bytes:  ULEB128 equal, ULEB128 changed, the changed bytes; again and again

ULEB128 has one byte below 128 and two from there on. Only the first ``equal`` may be 0, ``changed`` never is;
an equal run at the page's end is left out. What would be longer than a page is not encoded (overflow).

``encode_pages`` and ``decode_pages`` work on many pages at once with numpy, which gives up the interpreter while
it computes: no step of theirs is per page or per byte, but for a few pages with very many runs each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from e2kemu.errors import StreamError
from e2kemu.memory.dirty import PAGE_SIZE

ENCODING = 1
"""The record's first byte: the only encoding there is."""

RECORD_HEAD = 8 + 1 + 2
"""Bytes of a record with CONTINUE before its data."""

PAGES_AT_ONCE = 256
"""Pages encoded in one step: bounds the memory that places of changed bytes need, and stays in the cache."""

DENSE = 16
"""Where more than one of so many bytes may have changed it is faster to look at all than to list those."""

LOCKSTEP = 12
"""From so many pages on it pays to decode a run of each at once."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Pages, encoded. ``data`` is the records without their header words: they are left free (8 bytes each)."""

    lengths: Ints
    """Per page: bytes of encoded data; 0: nothing has changed, -1: overflow."""
    records: Bytes
    """One record for each page whose length is positive."""
    starts: Ints
    """Where each of these records begins in ``records``."""


def encode_pages(old: Bytes, new: Bytes) -> Encoded:
    """What makes ``new`` of ``old`` (n x 4096, C-contiguous)."""
    parts = [
        _encode(old[at : at + PAGES_AT_ONCE], new[at : at + PAGES_AT_ONCE])
        for at in range(0, len(new), PAGES_AT_ONCE)
    ]
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(part.records) for part in parts])
    return Encoded(
        np.concatenate([part.lengths for part in parts]) if parts else np.empty(0, np.int64),
        np.concatenate([part.records for part in parts]) if parts else np.empty(0, np.uint8),
        np.concatenate([part.starts + offset for part, offset in zip(parts, offsets, strict=False)])
        if parts
        else np.empty(0, np.int64),
    )


def _encode(old: Bytes, new: Bytes) -> Encoded:
    count = len(new)
    old_words, new_words = old.view(np.uint64), new.view(np.uint64)
    differ = old_words != new_words
    overflow = _surely_too_long(old, new, np.count_nonzero(differ, axis=1))
    if overflow.any():
        differ[overflow] = False
    lengths = np.where(overflow, -1, 0).astype(np.int64)
    marks: npt.NDArray[np.bool_] | None = None
    if np.count_nonzero(differ) * 8 * DENSE > new.size:
        marks = old != new
        marks[overflow] = False
        run, size = _runs_in(marks)
    else:
        run, size = _runs_of(_changed_places(old_words.reshape(-1), new_words.reshape(-1), differ.reshape(-1)))
    if not len(run):
        return Encoded(lengths, np.empty(0, np.uint8), np.empty(0, np.int64))
    page = run >> 12
    first = np.ones(len(run), dtype=np.bool_)
    np.not_equal(page[1:], page[:-1], out=first[1:])
    equal = np.where(first, run & (PAGE_SIZE - 1), 0)
    follows = np.flatnonzero(~first)
    equal[follows] = run[follows] - run[follows - 1] - size[follows - 1]
    head = 2 + (equal > 0x7F) + (size > 0x7F)
    total = np.bincount(page, weights=head + size, minlength=count).astype(np.int64)
    long = total > PAGE_SIZE
    if long.any():
        keep = ~long[page]
        run, size, page, first, equal, head = (
            part[keep] for part in (run, size, page, first, equal, head)
        )
        lengths[long] = -1
        total[long] = 0
        if marks is not None:
            marks[long] = False
    lengths[total > 0] = total[total > 0]
    pages = np.flatnonzero(total)
    sizes = total[pages] + RECORD_HEAD
    starts = np.cumsum(sizes) - sizes
    records = np.empty(int(sizes.sum()), dtype=np.uint8)
    records[starts + 8] = ENCODING
    records[starts + 9] = total[pages] >> 8
    records[starts + 10] = total[pages] & 0xFF
    place = np.cumsum(head + size) - head - size  # of each run, were there no record heads
    place += (np.cumsum(first)) * RECORD_HEAD
    wide = _put_number(records, place, equal)
    _put_number(records, place + wide, size)
    if marks is None:
        each = _ranges(size)
        records[np.repeat(place + head, size) + each] = new.reshape(-1)[np.repeat(run, size) + each]
    else:
        literal = np.ones(len(records), dtype=np.bool_)
        literal[starts[:, None] + np.arange(RECORD_HEAD)] = False
        for byte in range(4):
            literal[place[head > byte] + byte] = False
        records[literal] = new[marks]
    return Encoded(lengths, records, starts)


def _runs_of(changed: Ints) -> tuple[Ints, Ints]:
    """Where the runs begin in a list of places, and their sizes; a page's end ends a run."""
    begins = np.ones(len(changed), dtype=np.bool_)
    np.not_equal(changed[1:], changed[:-1] + 1, out=begins[1:])
    begins |= changed & (PAGE_SIZE - 1) == 0
    at = np.flatnonzero(begins)
    return changed[at], np.diff(at, append=len(changed))


def _runs_in(marks: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """The same of pages whose changed bytes are marked."""
    begins, ends = marks.copy(), marks.copy()
    begins[:, 1:] &= ~marks[:, :-1]
    ends[:, :-1] &= ~marks[:, 1:]
    run = np.flatnonzero(begins).astype(np.int64)
    return run, np.flatnonzero(ends) - run + 1


def _surely_too_long(old: Bytes, new: Bytes, words: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Pages of which a look at every byte shows that their code is too long: looked at are only those where so
    many words have changed that it may be."""
    answer = np.zeros(len(new), dtype=np.bool_)
    suspects = np.flatnonzero(words > PAGE_SIZE // 8 // 3)
    if len(suspects):
        differ = old[suspects] != new[suspects]
        changed = np.count_nonzero(differ, axis=1)
        runs = np.count_nonzero(differ[:, 1:] > differ[:, :-1], axis=1) + differ[:, 0]
        answer[suspects] = changed + 2 * runs > PAGE_SIZE
    return answer


def _changed_places(old: npt.NDArray[np.uint64], new: npt.NDArray[np.uint64], differ: npt.NDArray[np.bool_]) -> Ints:
    """Numbers of the bytes that have changed; ``differ`` tells the words in which they are."""
    words = np.flatnonzero(differ)
    inside = np.flatnonzero(old[words].view(np.uint8) != new[words].view(np.uint8))
    places: Ints = (words[inside >> 3] << 3) | (inside & 7)
    return places


def _put_number(out: Bytes, at: Ints, values: Ints) -> Ints:
    """ULEB128 of ``values`` at ``at``; returns the bytes each takes."""
    wide = values > 0x7F
    out[at] = (values & 0x7F) | (wide * 0x80)
    out[at[wide] + 1] = values[wide] >> 7
    return 1 + wide.astype(np.int64)


def _ranges(sizes: Ints) -> Ints:
    """0..size-1 for each of the sizes, one after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - sizes, sizes)


@dataclass(frozen=True)
class Runs:
    """What decoding found, checked: ``size`` bytes from ``source`` of the data go to ``to``."""

    source: Ints
    to: Ints
    size: Ints

    def apply(self, data: Bytes, memory: Bytes) -> None:
        """Store them into ``memory``."""
        each = _ranges(self.size)
        memory[np.repeat(self.to, self.size) + each] = data[np.repeat(self.source, self.size) + each]


class DecodeError(StreamError):
    """Encoded page number ``page`` (of those given) makes no sense."""

    def __init__(self, page: int) -> None:
        super().__init__("Failed to decompress XBZRLE page: a run lies outside of its page or is empty")
        self.page = page


def decode_pages(data: Bytes, starts: Sequence[int], ends: Sequence[int], bases: Sequence[int]) -> Runs:
    """The runs of encoded pages: page n is ``data[starts[n]:ends[n]]`` and goes to ``bases[n]`` and up.

    Raises DecodeError; nothing is stored before ``Runs.apply``.
    """
    at, end, base = (np.array(values, dtype=np.int64) for values in (starts, ends, bases))
    wrong = np.flatnonzero(at == end)
    if len(wrong):
        raise DecodeError(int(wrong[0]))
    inside = np.zeros(len(at), dtype=np.int64)  # place in the page
    number = np.arange(len(at))
    found: list[tuple[Ints, Ints, Ints]] = []
    while len(at) >= LOCKSTEP:
        equal, at = _numbers(data, at, end, number)
        size, at = _numbers(data, at, end, number)
        bad = (size == 0) | (at + size > end) | (inside + equal + size > PAGE_SIZE)
        if found:
            bad |= equal == 0
        if bad.any():
            raise DecodeError(int(number[np.flatnonzero(bad)[0]]))
        inside = inside + equal
        found.append((at, base + inside, size))
        at, inside = at + size, inside + size
        more = at < end
        if not more.all():
            at, end, base, inside, number = (part[more] for part in (at, end, base, inside, number))
    rest: list[tuple[int, int, int]] = []
    for row in range(len(at)):
        raw = data[at[row] : end[row]].tobytes()
        _decode_one(raw, int(at[row]), int(base[row]), int(inside[row]), bool(found), int(number[row]), rest)
    if rest:
        columns = np.array(rest, dtype=np.int64)
        found.append((columns[:, 0], columns[:, 1], columns[:, 2]))
    source, to, sizes = (np.concatenate([part[column] for part in found]) for column in range(3))
    return Runs(source, to, sizes)


def _numbers(data: Bytes, at: Ints, end: Ints, page: Ints) -> tuple[Ints, Ints]:
    """A ULEB128 number at each of ``at``, and where it ends."""
    # An index behind the data is moved into it: the number is refused all the same.
    last = len(data) - 1
    low = data[np.minimum(at, last)].astype(np.int64)
    wide = low > 0x7F
    high = np.where(wide, data[np.minimum(at + 1, last)], 0).astype(np.int64)
    bad = (at + 1 + wide > end) | (high > 0x7F)
    if bad.any():
        raise DecodeError(int(page[np.flatnonzero(bad)[0]]))
    return (low & 0x7F) | (high << 7), at + 1 + wide


def _decode_one(
    raw: bytes, origin: int, base: int, inside: int, begun: bool, page: int, out: list[tuple[int, int, int]]
) -> None:
    """The runs of the page whose data go on with ``raw``, which lies at ``origin``."""
    at, end = 0, len(raw)
    while at < end:
        values = []
        for _ in range(2):
            value = raw[at] if at < end else 0x80
            at += 1
            if value > 0x7F:
                high = raw[at] if at < end else 0x80
                if high > 0x7F:
                    raise DecodeError(page)
                value = value & 0x7F | high << 7
                at += 1
            values.append(value)
        equal, size = values
        if not size or (begun and not equal) or at + size > end or inside + equal + size > PAGE_SIZE:
            raise DecodeError(page)
        inside += equal
        out.append((origin + at, base + inside, size))
        at, inside, begun = at + size, inside + size, True
