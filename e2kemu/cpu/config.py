"""What execution is specialised on: the state that decides what the names in an instruction mean.

%b numbers depend on BR, the end of the window on WD, what is allowed on PSR and UPSR. A block of code is
made for one ``Config``; wide instructions that change it (setwd, setbn, abn, ...) lead to another.
"""

from __future__ import annotations

from typing import NamedTuple

from e2kemu.cpu.insn import Kind, Operand
from e2kemu.cpu.state import BGR, BR, PSR, UPSR, WD, CpuState

GLOBAL = 256
"""Register index of %g0; below it are window registers."""


class WindowBounds(Exception):
    """An operand names a register outside of the window."""


class Config(NamedTuple):
    """``size`` and ``psize`` are doubles; ``br`` the whole register; ``pm``: privileged; ``ac``: alignment checks."""

    version: int
    br: int
    size: int
    psize: int
    dbl: int
    pm: int
    ac: int
    bgr: int

    @classmethod
    def of(cls, state: CpuState) -> Config:
        """The configuration a CPU is in."""
        s = state.S
        wd = s[WD]
        return cls(state.model.version, s[BR] & 0xFFFFFFF, wd >> 19 & 0xFF, wd >> 35 & 0xFF, wd >> 49 & 1, s[PSR] & 1,
                   s[UPSR] >> 2 & 1, s[BGR] & 0x7FF)

    def register(self, operand: Operand, size: int) -> int:
        """The register an operand names, for a window of ``size`` doubles. Raises WindowBounds."""
        number = operand.value
        if operand.kind is Kind.G:
            return GLOBAL + (number if number < 24 else 24 + (number + (self.bgr >> 8) & 7))
        if operand.kind is Kind.B:
            last = 2 * (self.br >> 6 & 63) + 1
            if number > last:
                raise WindowBounds(f"%b[{number}] with rsz {last >> 1}")
            number = 2 * (self.br & 63) + (2 * (self.br >> 12 & 63) + number) % (last + 1)
        if number >= size:
            raise WindowBounds(f"register {number} of a window of {size}")
        return number

    def predicate(self, number: int) -> int:
        """The predicate register that %predN names: 0..psz rotate by pcur."""
        psz = self.br >> 18 & 31
        if psz == 0 or number > psz:
            return number
        return (number + (self.br >> 23 & 31)) % (psz + 1)

    def advanced(self, base: bool, predicates: bool) -> Config:
        """After abn (``base``) and abp (``predicates``)."""
        br = self.br
        if base:
            rsz, rcur = br >> 6 & 63, br >> 12 & 63
            br = br & ~(63 << 12) | (rcur - 1 if rcur else rsz) << 12
        if predicates:
            psz, pcur = br >> 18 & 31, br >> 23 & 31
            br = br & ~(31 << 23) | (pcur - 1 if pcur else psz) << 23
        return self._replace(br=br)
