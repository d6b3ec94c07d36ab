"""Registers of a region: values, tags, predicates and state registers, in allocas that LLVM turns into SSA values.

Tags stay in memory: what a region writes is numeric, so a tag is cleared once on a path. What is not known to be
numeric is looked up.
"""

from __future__ import annotations

from typing import NoReturn

from e2kemu.cpu import sregs
from e2kemu.cpu.config import GLOBAL, Config
from e2kemu.cpu.core import CLOCKS
from e2kemu.cpu.native.paths import UNLIKELY, Paths, SlotVar, Unsupported
from e2kemu.cpu.native.values import Ir
from e2kemu.cpu.source_registers import CACHED_SREGS


class Registers(Paths):
    """The part of a region machine that knows registers."""

    def _local(self, register: int) -> str:
        return f"%g{register - GLOBAL}" if register >= GLOBAL else f"%r{register}"

    def _part(self, part: str, register: int, size: int) -> str:
        """The address of a register's item in R, E or T, as IR text computed at the beginning."""
        if register >= GLOBAL:
            return f"getelementptr i8, ptr %s, i64 {self.offsets[part] + size * (register - GLOBAL)}"
        return f"getelementptr i8, ptr %{part}w, i64 {size * register}"

    def reg(self, register: int) -> Ir:
        known = self.facts.values.get(register)
        if known is None:
            self.used.add(register)
            known = self._early(f"load i64, ptr {self._local(register)}")
            self.facts.values[register] = known
        return known

    old_reg = reg

    def tag(self, register: int, mask: int) -> Ir:
        facts = self.facts
        if facts.empty.get(register, 0) & mask:
            self._to_step()
        missing = mask & ~facts.numeric.get(register, 0)
        if missing:
            self.unknown.numeric[register] = self.unknown.numeric.get(register, 0) | missing
            self._look_at_tag(register, missing)
            facts.numeric[register] = facts.numeric.get(register, 0) | missing
        return 0

    def _look_at_tag(self, register: int, halves: int) -> None:
        place = self.name(self._part("T", register, 1))
        tag = self.name(f"load i8, ptr {place}")
        bad = self.name(f"and i8 {tag}, {halves}")
        i1 = self.name(f"icmp ne i8 {bad}, 0", 1)
        going = self._new_label("on")
        self.emit(f"br i1 {i1}, label %{self._step()}, label %{going}{UNLIKELY}")
        self._label(going)

    def old_tag(self, register: int) -> Ir:
        # what was found out under the condition of the write does not hold where it is not written
        known = self.before.numeric.get(register, 0)
        if known == 15:
            return 0
        # what a condition leaves alone keeps its tag, whatever that is
        self.unknown.numeric[register] = self.unknown.numeric.get(register, 0) | 15 & ~known
        place = self._early(self._part("T", register, 1))
        return self._early(f"zext i8 {self._early(f'load i8, ptr {place}')} to i64", 4)

    def may_keep(self, register: int, halves: int) -> None:
        """Nothing to do: ``old_tag`` tells it."""

    def write_reg(self, register: int, value: Ir, tag: Ir, halves: int) -> None:
        self.used.add(register)
        self.dirty.add(register)
        facts = self.facts
        missing = halves & ~facts.numeric.get(register, 0)
        if isinstance(tag, str):
            place = self.name(self._part("T", register, 1))
            self.emit(f"store i8 {self.name(f'trunc i64 {tag} to i8')}, ptr {place}")
        elif missing:
            self.unknown.numeric[register] = self.unknown.numeric.get(register, 0) | missing
            place = self.name(self._part("T", register, 1))
            if halves == 15:
                self.emit(f"store i8 0, ptr {place}")
            else:
                old = self.name(f"load i8, ptr {place}")
                cut = self.name(f"and i8 {old}, {~halves & 15}")
                self.emit(f"store i8 {cut}, ptr {place}")
            facts.numeric[register] = facts.numeric.get(register, 0) | halves
            facts.empty[register] = facts.empty.get(register, 0) & ~halves
        text = self.as_bits(value, 64)
        self.emit(f"store i64 {text}, ptr {self._local(register)}")
        facts.values[register] = value if isinstance(value, int) else text
        if isinstance(value, str) and text != value:
            self.width[text] = 64

    def ext(self, register: int) -> Ir:
        return self._early(f"load i64, ptr {self._early(self._part('E', register, 8))}")

    old_ext = ext

    def write_ext(self, register: int, value: Ir) -> None:
        place = self.name(self._part("E", register, 8))
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {place}")

    def pred_raw(self, index: int) -> Ir:
        known = self.facts.pvalues.get(index)
        if known is None:
            self.used_preds.add(index)
            known = self._early(f"load i64, ptr %p{index}", 1 if index in self.facts.preds else 2)
            self.facts.pvalues[index] = known
        return known

    def pred(self, index: int) -> Ir:
        value = self.pred_raw(index)
        if index not in self.facts.preds:
            self.unknown.preds.add(index)
            bad = self.boolean(f"icmp ugt i64 {self.as_bits(value, 64)}, 1")
            self._step_if(bad)
            self.facts.preds.add(index)
            value = self.and_(value, 1)
            self.facts.pvalues[index] = value
        return value

    def pred_diag(self, index: int) -> Ir:
        return 0

    def write_pred(self, index: int, slot: SlotVar) -> None:
        self.used_preds.add(index)
        self.dirty_preds.add(index)
        value = slot.current
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr %p{index}")
        self.facts.pvalues[index] = value
        if self.width_of(value) <= 1:
            self.facts.preds.add(index)
        else:
            self.facts.preds.discard(index)

    def sreg(self, number: int) -> Ir:
        if number not in CACHED_SREGS:
            return self._early(f"load i64, ptr {self._early(self._state('S', number))}")
        known = self.facts.svalues.get(number)
        if known is None:
            self.used_sregs.add(number)
            known = self._early(f"load i64, ptr %s{number}")
            self.facts.svalues[number] = known
        return known

    def set_sreg(self, number: int, value: Ir) -> None:
        if number not in CACHED_SREGS:
            self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {self.name(self._state('S', number))}")
            return
        if value == self.facts.svalues.get(number):
            return
        self.used_sregs.add(number)
        self.dirty_sregs.add(number)
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr %s{number}")
        self.facts.svalues[number] = value
        if isinstance(value, int):
            self.facts.likely[number] = value
        else:
            self.facts.likely.pop(number, None)

    def aau(self, index: int) -> Ir:
        return self._early(f"load i64, ptr {self._early(self._state('A', index))}")

    def set_aau(self, index: int, value: Ir) -> None:
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {self.name(self._state('A', index))}")

    def end_of_results(self) -> None:
        pass

    def sreg_access(self, number: int, letter: str, cfg: Config) -> tuple[int | None, str]:
        return self.core.sreg_access(number, letter, cfg)

    def read_sreg(self, number: int) -> Ir:
        if number == sregs.IP:
            return self.wide.address
        if number == sregs.NIP:
            return self.wide.address + self.wide.size
        if number in CLOCKS or sregs.derived(self.core.state, number) is not None:
            raise Unsupported("a register that is computed")
        return self.sreg(number)

    def write_sreg(self, number: int, value: Ir) -> NoReturn:
        raise Unsupported("rws")

    def _state(self, part: str, index: int) -> str:
        """The address of a 64-bit item of the state."""
        return f"getelementptr i8, ptr %s, i64 {self.offsets[part] + 8 * index}"
