"""The machine that writes Python: loads, stores, and what else goes to memory."""

from __future__ import annotations

from e2kemu.cpu.guest_memory import PAGE
from e2kemu.cpu.memory_access import FAILED_LOAD
from e2kemu.cpu.source_evaluation import SourceEvaluation
from e2kemu.cpu.source_values import Src


class SourceMemory(SourceEvaluation):
    """Aligned accesses to the RAM at guest address 0 are written out; the others are calls."""

    def load(self, address: Src, size: int) -> Src:
        fast, item = self._fast(address, size)
        helper = "lds" if self.speculative else "ld"
        if self.speculative and self.aligned and size > 1:
            helper, fallback = "lds", f"lds({address}, {size}) if not {address} & {size - 1} else -1"
        else:
            fallback = f"{helper}({address}, {size})"
        value: Src = self.name(f"{item} if {fast} else {fallback}" if fast else fallback, 8 * size)
        if self.speculative:
            failed = self.name(f"{value} < 0", 1)
            if self.clean:
                self._leave_if(failed, "raise bail")
            else:
                self.fault = self.or_(self.fault, failed)
                value = self.select(failed, FAILED_LOAD, value)
        return value

    def _fast(self, address: Src, size: int) -> tuple[str, str]:
        """The test for an aligned access to the RAM at 0, "" when it cannot hit; and the item there."""
        limit = self.core.flat_limit
        if not limit:
            return "", ""
        shift = size.bit_length() - 1
        here = "" if self.core.present is None else f" and V[{address} >> {PAGE}]"
        if isinstance(address, int):
            if address >= limit or address & (size - 1):
                return "", ""
            return f"1{here}", f"M{size}[{address >> shift}]"
        aligned = f" and not {address} & {size - 1}" if size > 1 else ""
        return f"{address} < {limit:#x}{aligned}{here}", f"M{size}[{address} >> {shift}]" if shift else f"M1[{address}]"

    def store(self, address: Src, size: int, value: Src) -> None:
        value = self.pin(self.trunc(value, 8 * size))
        address = self.pin(address)
        fast, item = self._fast(address, size)
        self._will_store()
        if self.speculative:
            call = f"u = core.st_speculative({address}, {size}, {value}) or u"
            if self.aligned and size > 1:
                call = f"u = not {address} & {size - 1} and {call[4:]}"
            fast = ""
        else:
            call = f"u = st({address}, {size}, {value}) or u"
        if not fast:
            self.emit(call)
            return
        self.emit(f"if {fast} and not C[{address} >> {PAGE}]:")
        self.emit(f" {item} = {value}")
        self.emit(f" D[{address} >> {PAGE}] = 1")
        self.emit("else:")
        self.emit(f" {call}")

    def _will_store(self) -> None:
        """Before the first store of a wide instruction: ``u`` will say whether execution must leave after it."""
        if self._stored:
            return
        self._stored = True
        if self._conditional:
            self._insert_outside("u = 0")
        else:
            self.emit("u = 0")

    def store_if(self, condition: Src, address: Src, size: int, value: Src) -> None:
        self.if_(condition, lambda: self.store(address, size, value))

    def physical_load(self, address: Src, size: int) -> Src:
        return self.name(f"core.ld_physical({address}, {size})", 8 * size)

    def physical_store(self, address: Src, size: int, value: Src) -> None:
        self._will_store()
        self.emit(f"u = core.st_physical({address}, {size}, {self.trunc(value, 8 * size)}) or u")

    def special_load(self, opc: int, address: Src, channel: int) -> Src:
        return self.name(f"core.special_load({opc}, {address}, {channel})", 64)

    def special_store(self, opc: int, address: Src, value: Src, channel: int) -> None:
        self.emit(f"core.special_store({opc}, {address}, {value}, {channel})")

    def fence(self, order: str) -> None:
        self.emit("fence()")

    def take_lock(self, address: Src, size: int, low: Src, high: Src) -> None:
        self.emit(f"core.take_lock({address}, {size}, {low}, {high})")

    def store_locked(self, address: Src, size: int, low: Src, high: Src) -> Src:
        self._will_store()
        done = self.name(f"core.store_locked({address}, {size}, {low}, {high})", 2)
        self.emit(f"u = {done} >> 1 or u")
        return self.name(f"{done} & 1", 1)
