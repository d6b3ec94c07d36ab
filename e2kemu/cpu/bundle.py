"""Bytes <-> the syllables of one wide instruction.

``split`` cuts a wide instruction by its header into a ``Bundle`` of raw syllables and ``join`` puts
them together again, byte for byte. ``build`` lays out syllables that have no place yet, as the
vendor's assembler does. Layout (encoding reference 1.2)::

    HS [SS] [ALS0..5] [CS0] [ALES2:ALES5, v4+] [CS1]        words, offset 4*(mdl+1) is here:
    ALES0 ALES1 ALES3 ALES4 AAS0..AAS5                      halves, high one first
    unused words, LTS3..LTS0, PLS2..PLS0, CDS2..CDS0        words, counted from the end

Code is little endian. What the syllables mean is ``decode``'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from struct import Struct, pack
from typing import NamedTuple

from e2kemu.cpu.isa.formats import ALES_DEFAULT, HS, SS1
from e2kemu.errors import ImageError

HS_ALES = HS["ales"].mask
_MDL, _LNG, _ALES, _ALS = (HS[name].lo for name in ("mdl", "lng", "ales", "als"))
_SHAPE = HS.known & ~sum(HS[name].mask for name in ("nop", "lm", "sw", "x"))
"""The bits of HS that the layout depends on."""
_NOTHING: tuple[int | None, ...] = (None,) * 6
_UNPACK = [Struct(f"<{n}I").unpack_from for n in range(17)]
"""By number of words."""


class DecodeError(ImageError):
    """Bytes that are no instruction: says which syllable, which field and at which offset.

    ``offset`` is the byte offset of the culprit in the data given to the decoder, ``address`` the
    address of the wide instruction.
    """

    def __init__(self, syllable: str, problem: str, *, offset: int, address: int) -> None:
        super().__init__(f"{syllable}: {problem} (offset {offset:#x}, wide instruction at {address:#x})")
        self.syllable, self.problem, self.offset, self.address = syllable, problem, offset, address


class Bundle(NamedTuple):
    """The syllables of one wide instruction as raw words; an absent one is None.

    ``ales`` has one 16-bit value per channel whose HS bit is set; ``ales25`` is the word that holds
    those of ALC2 and ALC5 (None: the word is absent and the values are the default 0x01c0). ``aas``
    is AAS0..AAS5. ``gap`` is the half-word left over when the number of halves is odd. ``middle``
    are the words between the halves and PLS: the last of them is LTS0. ``pls`` and ``cds`` start
    with PLS0 and CDS0.
    """

    hs: int
    ss: int | None = None
    als: tuple[int | None, ...] = (None,) * 6
    cs0: int | None = None
    ales25: int | None = None
    cs1: int | None = None
    ales: tuple[int | None, ...] = (None,) * 6
    aas: tuple[int | None, ...] = (None,) * 6
    gap: int | None = None
    middle: tuple[int, ...] = ()
    pls: tuple[int, ...] = ()
    cds: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return 8 * (HS["lng"].of(self.hs) + 1)

    def lts(self, n: int) -> int | None:
        """LTSn, or None when the wide instruction has no such word."""
        return self.middle[-1 - n] if n < 4 and n < len(self.middle) else None


class Layout(NamedTuple):
    """Word positions that follow from HS alone; 0: absent (``picks``: -1, where ``split`` puts None)."""

    words: int
    ss: int
    als: tuple[int, ...]
    cs0: int
    ales25: int
    cs1: int
    halves: int  # word offset of the half-words
    ales: tuple[int, ...]  # channels that have a half-word ALES, in storage order
    pls: tuple[int, ...]
    cds: tuple[int, ...]
    problem: str  # "" or why the header is inconsistent
    picks: Callable[[tuple[int | None, ...]], tuple[int | None, ...]]  # words -> SS, ALS0..5, CS0, ALES2:5, CS1
    end: int  # of the words before PLS


@lru_cache(maxsize=1 << 16)
def layout(hs: int, version: int) -> Layout:
    """Where the syllables are, by the header and the instruction set version."""
    words = 2 * (HS["lng"].of(hs) + 1)
    position = 1
    ss = cs0 = ales25 = cs1 = 0
    if HS["ss"].of(hs):
        ss, position = position, position + 1
    als = [0] * 6
    for channel in range(6):
        if HS["als"].of(hs) >> channel & 1:
            als[channel], position = position, position + 1
    if HS["cs0"].of(hs):
        cs0, position = position, position + 1
    halves, marks = HS["mdl"].of(hs) + 1, HS["ales"].of(hs)
    cs1_words = HS["cs1"].of(hs)
    if version >= 4 and marks & 0b100100 and position + 1 + cs1_words == halves:
        ales25, position = position, position + 1
    if cs1_words:
        cs1, position = position, position + 1
    ales = tuple(channel for channel in (0, 1, 3, 4) if marks >> channel & 1)
    n_pls, n_cds = HS["pls"].of(hs), HS["cds"].of(hs)
    cds = tuple(words - 1 - n for n in range(n_cds))
    pls = tuple(words - 1 - n_cds - n for n in range(n_pls))
    problem = ""
    if position != halves:
        problem = f"mdl is {halves - 1}, but the syllables before the half-words take {position} words"
    elif halves + (len(ales) + 1) // 2 + n_pls + n_cds > words:
        problem = f"lng is {words // 2 - 1}: {8 * (words // 2)} bytes are too few for the syllables"
    picks = itemgetter(*(place or -1 for place in (ss, *als, cs0, ales25, cs1)))
    end = words - n_pls - n_cds
    return Layout(words, ss, tuple(als), cs0, ales25, cs1, halves, ales, pls, cds, problem, picks, end)


def split(data: bytes | bytearray | memoryview, version: int, address: int = 0, offset: int = 0) -> Bundle:
    """Cut the wide instruction at ``offset`` of ``data`` into syllables; raises DecodeError."""
    if len(data) - offset < 8:
        raise DecodeError(
            "HS",
            f"a wide instruction has at least 8 bytes, here are {max(len(data) - offset, 0)}",
            offset=offset,
            address=address,
        )
    hs = int.from_bytes(data[offset : offset + 4], "little")
    place = layout(hs & _SHAPE, version)
    if place.problem:
        raise DecodeError("HS", place.problem, offset=offset, address=address)
    n = place.words
    if len(data) - offset < 4 * n:
        raise DecodeError(
            "HS",
            f"lng is {n // 2 - 1}, but only {len(data) - offset} of {4 * n} bytes are here",
            offset=offset,
            address=address,
        )
    words = _UNPACK[n](data, offset)
    ss, *als, cs0, ales25, cs1 = place.picks((*words, None))

    at, high, end = place.halves, True, place.end
    ales = _NOTHING
    if hs & HS_ALES:
        mine: list[int | None] = [None] * 6
        for channel in place.ales:
            mine[channel] = words[at] >> 16 if high else words[at] & 0xFFFF
            at, high = (at, False) if high else (at + 1, True)
        if hs >> 20 & 0b100:
            mine[2] = ALES_DEFAULT if ales25 is None else ales25 >> 16
        if hs >> 20 & 0b100000:
            mine[5] = ALES_DEFAULT if ales25 is None else ales25 & 0xFFFF
        ales = tuple(mine)
    aas = _NOTHING
    if ss is not None and ss & 0x0010F000 and not ss & 0x00100000:
        aa = SS1["aa"].of(ss)
        found: list[int | None] = [None] * 6
        for index in aas_indices(aa):
            if at >= end:
                raise DecodeError(
                    f"AAS{index}",
                    f"SS.aa is {aa:#x}, but the half-word is not there",
                    offset=offset + 4 * at,
                    address=address,
                )
            found[index] = words[at] >> 16 if high else words[at] & 0xFFFF
            at, high = (at, False) if high else (at + 1, True)
        aas = tuple(found)
    gap = None
    if not high:
        gap, at = words[at] & 0xFFFF, at + 1
    cds_end = end + len(place.pls)
    return Bundle(
        hs,
        ss,
        tuple(als),
        cs0,
        ales25,
        cs1,
        ales,
        aas,
        gap,
        words[at:end],
        words[end:cds_end][::-1] if place.pls else (),
        words[cds_end:][::-1] if place.cds else (),
    )


def aas_indices(aa: int) -> tuple[int, ...]:
    """Which of AAS0..AAS5 are present for the mask SS.aa, in storage order."""
    head = ((0,) if aa & 0b0011 else ()) + ((1,) if aa & 0b1100 else ())
    return head + tuple(2 + i for i in range(4) if aa >> i & 1)


def _halves(bundle: Bundle) -> list[int]:
    marks = HS["ales"].of(bundle.hs)
    found = [bundle.ales[channel] or 0 for channel in (0, 1, 3, 4) if marks >> channel & 1]
    return found + [half for half in bundle.aas if half is not None]


def join(bundle: Bundle) -> bytes:
    """The bytes of ``bundle``: the inverse of ``split``. The header is taken as it is."""
    words = [bundle.hs]
    words += [
        word for word in (bundle.ss, *bundle.als, bundle.cs0, bundle.ales25, bundle.cs1) if word is not None
    ]
    if bundle.hs & HS_ALES or bundle.aas != _NOTHING:
        halves = _halves(bundle)
        if len(halves) % 2:
            halves.append(bundle.gap or 0)
        words += [high << 16 | low for high, low in zip(halves[::2], halves[1::2], strict=True)]
    words += bundle.middle
    words += reversed(bundle.pls)
    words += reversed(bundle.cds)
    return pack(f"<{len(words)}I", *words)


def build(
    version: int,
    *,
    nop: int = 0,
    loop_mode: bool = False,
    set_mark: bool = False,
    ss: int | None = None,
    als: Sequence[int | None] = (None,) * 6,
    ales: Sequence[int | None] = (None,) * 6,
    explicit_ales: bool = False,
    cs0: int | None = None,
    cs1: int | None = None,
    aas: Sequence[int | None] = (None,) * 6,
    lts: Sequence[int] = (),
    pls: Sequence[int] = (),
    cds: Sequence[int] = (),
) -> Bundle:
    """Lay syllables out as the vendor's assembler does: the shortest size, LTS right before PLS.

    ``lts`` starts with LTS0. The word of ALES2 and ALES5 (v4 and later) is written when one of the
    two is not the default, or ``explicit_ales`` asks for it. Raises ImageError when the wide
    instruction would be longer than 64 bytes or v2/v3 would need an ALES2 or ALES5 of their own.
    """
    ales25 = None
    if explicit_ales or any(ales[n] not in (None, ALES_DEFAULT) for n in (2, 5)):
        if version < 4:
            raise ImageError(
                f"ALES2 and ALES5 hold a value only since instruction set v4, this is v{version}"
            )
        ales25 = (ales[2] or 0) << 16 | (ales[5] or 0)
    present, marks, count = 0, 0, 0  # bits per channel; words before the half-words
    for channel, word in enumerate(als):
        if word is not None:
            present, count = present | 1 << channel, count + 1
    halves = 0
    if ales != _NOTHING:
        for channel, half in enumerate(ales):
            if half is not None:
                marks, halves = marks | 1 << channel, halves + (channel not in (2, 5))
    if aas != _NOTHING:
        halves += sum(half is not None for half in aas)
    count += (ss is not None) + (cs0 is not None) + (ales25 is not None) + (cs1 is not None)
    used = 1 + count + (halves + 1) // 2 + len(lts) + len(pls) + len(cds)
    if used > 16:
        raise ImageError(f"the wide instruction needs {4 * used} bytes, it may have 64")
    hs = count << _MDL | (used + 1) // 2 - 1 << _LNG | marks << _ALES | present << _ALS
    if nop or loop_mode or set_mark:
        hs |= HS["nop"].put(nop) | HS["lm"].put(loop_mode) | HS["sw"].put(set_mark)
    for name, there in (("ss", ss), ("cs0", cs0), ("cs1", cs1)):
        if there is not None:
            hs |= HS[name].mask
    if cds or pls:
        hs |= HS["cds"].put(len(cds)) | HS["pls"].put(len(pls))
    padding = (0,) * (used % 2)
    return Bundle(
        hs,
        ss,
        tuple(als),
        cs0,
        ales25,
        cs1,
        tuple(ales),
        tuple(aas),
        0 if halves % 2 else None,
        padding + tuple(reversed(lts)),
        tuple(pls),
        tuple(cds),
    )
