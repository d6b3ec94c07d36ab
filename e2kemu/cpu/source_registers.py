"""The machine that writes Python: registers, their tags and results; floating point; the array access unit."""

from __future__ import annotations

from e2kemu.cpu import sregs
from e2kemu.cpu.config import GLOBAL, Config
from e2kemu.cpu.core import CLOCKS
from e2kemu.cpu.fp import FpOperation
from e2kemu.cpu.fp import machine as fp_machine
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.isa.traps import EXC_FP, EXC_FP_DISABLED
from e2kemu.cpu.source_evaluation import SlotVar, SourceEvaluation
from e2kemu.cpu.source_values import Src
from e2kemu.cpu.state import CR0_HI, CTPR1, LSR, OSCUD_LO, UPSR, USD_HI, USD_LO
from e2kemu.cpu.wide_semantics import Ended

CACHED_SREGS = frozenset((CTPR1, CTPR1 + 1, CTPR1 + 2, LSR, USD_HI, USD_LO, CR0_HI, OSCUD_LO,
                          BY_NAME["eir"].number, BY_NAME["rndpr"].number,
                          fp_machine.PFPFR, fp_machine.FPCR, fp_machine.FPSR))
"""State registers that translated code keeps in locals: nothing else changes them inside a block."""


def local_of(register: int) -> str:
    """The local variable of a register."""
    return f"g{register - GLOBAL}" if register >= GLOBAL else f"r{register}"


def index_of(register: int) -> str:
    """The index of a register in R, T and E."""
    return str(register - GLOBAL) if register >= GLOBAL else f"b + {register}"


class SourceRegisters(SourceEvaluation):
    """Registers are locals, loaded at the function's entry; results are staged until all of them are known."""

    def reg(self, register: int) -> Src:
        self.use.loaded.add(register)
        return local_of(register)

    old_reg = reg

    def tag(self, register: int, mask: int) -> Src:
        if not self.clean:
            return self.name(f"T[{index_of(register)}] & {mask}", 4)
        if self.empty.get(register, 0) & mask:
            self.emit("raise bail")
            raise Ended
        missing = mask & ~self.numeric.get(register, 0)
        if missing:
            self.use.required[register] = self.use.required.get(register, 0) | missing
            self.numeric[register] = self.numeric.get(register, 0) | missing
        return 0

    def old_tag(self, register: int) -> Src:
        if self.clean:
            return 0
        # not a name of its own: first asked for inside a condition, it is also wanted outside
        text = f"T[{index_of(register)}]"
        self.width[text] = 4
        return text

    def may_keep(self, register: int, halves: int) -> None:
        if self.clean and halves:
            self.tag(register, halves)

    def write_reg(self, register: int, value: Src, tag: Src, halves: int) -> None:
        self.use.loaded.add(register)
        self.use.dirty.add(register)
        if not self.clean:
            self.commits.append((f"T[{index_of(register)}]", tag))
        elif halves & ~self.numeric.get(register, 0):
            self.first_written[register] = self.first_written.get(register, 0) | halves & ~self.numeric.get(register, 0)
            text = f"T[{index_of(register)}]"
            self.emit(f"{text} = 0" if halves == 15 else f"{text} &= {~halves & 15}")
            self.numeric[register] = self.numeric.get(register, 0) | halves
            self.empty[register] = self.empty.get(register, 0) & ~halves
        self.commits.append((local_of(register), value))

    def ext(self, register: int) -> Src:
        return f"E[{index_of(register)}]"

    def old_ext(self, register: int) -> Src:
        # not a name of its own, as the old tag
        return f"E[{index_of(register)}]"

    def write_ext(self, register: int, value: Src) -> None:
        self.commits.append((f"E[{index_of(register)}]", value))

    def pred(self, index: int) -> Src:
        self.use.preds.add(index)
        if not self.clean:
            return self.name(f"p{index} & 1", 1)
        if index not in self.sure_preds:
            self.use.required_preds.add(index)
        self.width[f"p{index}"] = 1
        return f"p{index}"

    def pred_diag(self, index: int) -> Src:
        return 0 if self.clean else self.name(f"p{index} >> 1", 1)

    def pred_raw(self, index: int) -> Src:
        self.use.preds.add(index)
        return f"p{index}"

    def write_pred(self, index: int, slot: SlotVar) -> None:
        self.use.preds.add(index)
        self.use.dirty_preds.add(index)
        if not slot.name:
            self.sure_preds.add(index)
        self.commits.append((f"p{index}", slot.current))

    def sreg(self, number: int) -> Src:
        if number not in CACHED_SREGS:
            return f"S[{number}]"
        self.use.sregs.add(number)
        return f"s{number}"

    def set_sreg(self, number: int, value: Src) -> None:
        self.use.sregs.add(number)
        self.use.dirty_sregs.add(number)
        self.commits.append((f"s{number}", value))

    def end_of_results(self) -> None:
        """Do the staged assignments: one by one when no one needs the old value of an earlier one."""
        written: set[str] = set()
        hazard = False
        for name, value in self.commits:
            hazard |= value in written
            written.add(name)
        if hazard:
            self.emit(f"{', '.join(n for n, _ in self.commits)} = {', '.join(str(v) for _, v in self.commits)}")
        else:
            for name, value in self.commits:
                if name != value:
                    self.emit(f"{name} = {value}")
        self.commits.clear()

    def sreg_access(self, number: int, letter: str, cfg: Config) -> tuple[int | None, str]:
        return self.core.sreg_access(number, letter, cfg)

    def read_sreg(self, number: int) -> Src:
        if number == sregs.IP:
            return self.wide.address
        if number == sregs.NIP:
            return self.wide.address + self.wide.size
        if number in CLOCKS or sregs.derived(self.core.state, number) is not None:
            return self.name(f"core.read_sreg({number})", 64)
        return self.sreg(number)

    def write_sreg(self, number: int, value: Src) -> None:
        self.emit(f"core.write_sreg({number}, {value})")

    # -- floating point ------------------------------------------------------------------------------

    def fp(self, name: str, *operands: Src) -> Src:
        result: Src = fp_machine.perform(self, name, operands)
        return result

    def fp_enabled(self) -> None:
        # once in a block: whatever writes UPSR ends one
        if not self._fp_enabled:
            self.emit(f"if not S[{UPSR}] & 1: raise Trap({EXC_FP_DISABLED})")
            self._fp_enabled = not self._conditional

    def fp_primitive(self, operation: FpOperation, operands: tuple[Src, ...], control: Src) -> tuple[Src, Src]:
        function = "fp_" + operation.name.replace(".", "_")
        self.functions[function] = operation.function
        value, flags = f"t{self._count + 1}", f"t{self._count + 2}"
        self._count += 2
        self.emit(f"{value}, {flags} = {function}({', '.join(map(str, operands))}, {control})")
        self.width[value], self.width[flags] = operation.result, 6
        return value, flags

    def fp_raised(self, flags: Src, control: Src, shift: int) -> Src:
        return self.name(f"({flags} & ~({control} >> {shift})) != 0", 1)

    def fp_trap(self, number: int, flags: Src) -> None:
        control, status = self.sreg(fp_machine.control_of(number)), self.sreg(number)
        self.use.dirty_sregs.add(number)
        self.emit(f"{status} |= fp_trapped({number}, {flags}, {control}); raise Trap({EXC_FP})")
        raise Ended

    # -- the array access unit -----------------------------------------------------------------------

    def aau(self, index: Src) -> Src:
        # not a name of its own, as the old tag
        return f"A[{index}]" if isinstance(index, int) else self.name(f"A[{index}]", 64)

    def set_aau(self, index: int, value: Src) -> None:
        self.commits.append((f"A[{index}]", value))

    def start_arrays(self, ctpr: Src) -> None:
        self.emit(f"core.start_arrays({ctpr})")

    def stop_arrays(self) -> None:
        self.emit("core.stop_arrays()")
