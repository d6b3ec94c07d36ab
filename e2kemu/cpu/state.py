"""The state of one CPU: one contiguous numpy buffer, laid out from ``isa/registers.py``.

    part        items                    content
    R  u64      32 + WINDOW_FILE         values: %g0..31, then the window file
    E  u64      the same                 extensions (16 bits up to v4, 64 from v5)
    S  u64      256                      state registers, by their number
    X  u64      16                       the emulator's own: Slot
    C  u64      4 * 35                   chain entries still in registers: CR0.lo CR0.hi CR1.lo CR1.hi
    T  u8       as R                     tags, a nibble each: 2 bits of the high word, 2 of the low
    P  u8       32                       predicates: bit 0 the value, bit 1 diagnostic
    A  u64      aau.ITEMS                registers of the array access unit: aau.Slot

The window file is *linear* and longer than the hardware's circular 224 doubles: %rN is R[X[BASE] + N].
No more than 224 doubles are live in it (R[X[BOTTOM]] .. end of the window; a handler that cannot spill may
have some more: ``SPARE_DOUBLES``); older ones are on the procedure stack in guest memory, as on hardware.
``windows`` moves both marks and nobody else.

Memoryviews (R, T, ...) are what executing code uses; their items are plain ints. The state belongs
to the thread of its CPU; others look at it only while that CPU stands still.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from e2kemu.cpu.isa import aau, registers
from e2kemu.cpu.isa.models import CpuModel
from e2kemu.cpu.isa.registers import (
    BY_NAME,
    CHAIN_RESIDENT,
    GLOBALS,
    PREDICATES,
    SPARE_CHAIN,
    STATE_REGISTERS,
    WINDOW_DOUBLES,
)
from e2kemu.errors import OptionError

WINDOW_FILE = 2048
"""Doubles of the linear window file."""

WIDEST = 256
"""More doubles than WD can say that a window has: nobody reaches what is behind the file."""

WINDOW_START = GLOBALS
WINDOW_END = WINDOW_START + WINDOW_FILE
"""Limits of the window file in R."""

EMPTY_TAG = 5
"""Tag of a register that entered the window and was not written: diagnostic in both halves."""

RESET_PC = 0x1_0000_0000
"""Where execution starts: the boot ROM."""

_M64 = (1 << 64) - 1


class Slot(IntEnum):
    """Items of X."""

    PC = 0        # address of the next wide instruction
    BASE = 1      # index in R of %r0
    BOTTOM = 2    # index in R of the oldest live register
    CHAIN = 3     # chain entries in C
    TIRS = 4      # TIRs that are not read yet under the one in %tir (0 or 1): then
    TIR_HI = 5    # this is
    TIR_LO = 6    # the one below
    STEPPING = 7  # 1: exc_instr_debug after the next wide instruction
    LOCK_SIZE = 12      # bytes of the lock that is held (``locks``), 0: none
    LOCK_ADDRESS = 13   # and what was read there
    LOCK_LOW = 14
    LOCK_HIGH = 15


PSR, WD, PSP_HI, PSP_LO, PCSP_HI, PCSP_LO = (
    BY_NAME[n].number for n in ("psr", "wd", "psp.hi", "psp.lo", "pcsp.hi", "pcsp.lo"))
CTPR1, SBR, USD_HI, USD_LO, UPSR, LSR, ILCR, BR, BGR, IDR = (
    BY_NAME[n].number for n in ("ctpr1", "sbr", "usd.hi", "usd.lo", "upsr", "lsr", "ilcr", "br", "bgr", "idr"))
CR0_HI, CR0_LO, CR1_HI, CR1_LO = (BY_NAME[n].number for n in ("cr0.hi", "cr0.lo", "cr1.hi", "cr1.lo"))
OSCUD_HI, OSCUD_LO, TIR_HI, TIR_LO, CUIR, TR = (
    BY_NAME[n].number for n in ("oscud.hi", "oscud.lo", "tir.hi", "tir.lo", "cuir", "tr"))

_IDR_CORE = 15
"""Where IDR has the number of the core (5 bits)."""


class CpuState:
    """All registers of one CPU. ``state["usd.lo"]`` reads and writes any of them by name (see ``get``)."""

    def __init__(self, model: CpuModel, number: int = 0) -> None:
        """``number``: which CPU of the machine it is; IDR says it."""
        self.model, self.number = model, number
        count = WINDOW_START + WINDOW_FILE + WIDEST - WINDOW_DOUBLES
        parts = (("R", count, 8), ("E", count, 8), ("S", 256, 8), ("X", 16, 8),
                 ("C", 4 * (CHAIN_RESIDENT + SPARE_CHAIN), 8), ("T", count, 1), ("P", PREDICATES, 1),
                 ("A", aau.ITEMS, 8))
        self.buffer: NDArray[np.uint8] = np.zeros(sum(n * size for _, n, size in parts), dtype=np.uint8)
        self.offsets: dict[str, int] = {}
        whole, at, views = memoryview(self.buffer.data), 0, {}
        for name, n, size in parts:
            part = whole[at : at + n * size]
            views[name] = part.cast("Q") if size == 8 else part
            self.offsets[name] = at
            at += n * size
        self.R, self.E, self.S, self.X, self.C, self.T, self.P, self.A = (views[name] for name, _, _ in parts)
        self.reset()

    def reset(self) -> None:
        """Everything as after power-on."""
        self.buffer[:] = 0
        for register in STATE_REGISTERS:
            self.S[register.number] = register.reset
        self.S[IDR] = self.model.idr | self.number << _IDR_CORE
        self.A[aau.Slot.AAINCR] = 1       # %aaincr0 is fixed
        self.X[Slot.PC] = RESET_PC
        self.X[Slot.BASE] = self.X[Slot.BOTTOM] = WINDOW_START + WINDOW_FILE // 2

    # -- access by name --------------------------------------------------------------------------

    def get(self, name: str) -> int:
        """The value of a register: pc, rN, bN or b[N], gN, predN, ctprN, any state register; with
        or without ``%``, ``.tag`` or ``.ext`` behind a general register gives its tag or extension.

        Raises OptionError when there is no such register.
        """
        from e2kemu.cpu.sregs import derived

        kind, index = self._find(name)
        if kind == "sreg":
            value = derived(self, index)
            return self.S[index] if value is None else value
        return int({"R": self.R, "T": self.T, "E": self.E, "X": self.X, "P": self.P}[kind][index])

    def set(self, name: str, value: int) -> None:
        """Write a register by name (names as for ``get``); a general register gets a numeric tag."""
        kind, index = self._find(name)
        if kind == "sreg":
            if registers.BY_NUMBER[index].kind != "stored":
                raise OptionError(f"register '{name}' cannot be written")
            self.S[index] = value & _M64
        elif kind == "R":
            self.R[index], self.T[index] = value & _M64, 0
        elif kind in "TP":
            (self.T if kind == "T" else self.P)[index] = value & (15 if kind == "T" else 3)
        else:
            (self.E if kind == "E" else self.X)[index] = value & _M64

    __getitem__ = get
    __setitem__ = set

    def _find(self, name: str) -> tuple[str, int]:
        text = name.removeprefix("%").lower()
        if text == "pc":
            return "X", Slot.PC
        if text in BY_NAME and BY_NAME[text].since <= self.model.version <= BY_NAME[text].until:
            return "sreg", BY_NAME[text].number
        stem, _, part = text.partition(".")
        kind = {"": "R", "tag": "T", "ext": "E"}.get(part)
        letter = stem.rstrip("0123456789[]")
        digits = stem[len(letter):].strip("[]")
        if kind and digits.isdigit():
            number = int(digits)
            letter = {"dr": "r", "db": "b", "dg": "g"}.get(letter, letter)
            if letter == "g" and number < GLOBALS:
                return kind, number
            if letter == "pred" and number < PREDICATES and kind == "R":
                return "P", number
            if letter == "b" and number < 128:
                number = self.rotated(number)
                letter = "r"
            if letter == "r" and number < WINDOW_DOUBLES:
                return kind, self.X[Slot.BASE] + number
        raise OptionError(f"unknown register '{name}'")

    def rotated(self, number: int) -> int:
        """Window index of %b[number]."""
        br = self.S[BR]
        rbs, rsz, rcur = br & 63, br >> 6 & 63, br >> 12 & 63
        return 2 * rbs + (2 * rcur + number) % (2 * rsz + 2)

    @property
    def pc(self) -> int:
        """Address of the next wide instruction."""
        return self.X[Slot.PC]

    @pc.setter
    def pc(self, address: int) -> None:
        self.X[Slot.PC] = address

    @property
    def window_size(self) -> int:
        """Doubles in the current window."""
        return (self.S[WD] >> 16 & 0x7FF) >> 3
