"""From wide instructions to the Python source of one function: the machine that translates.

``SourceMachine`` is handed to ``wide_semantics.perform`` one wide instruction after the other. Registers live in
locals (``r5`` window, ``g5`` global, ``p0`` predicates, ``s131`` state registers), loaded at entry and
written back on every way out. The function is

    block(n) -> (pc, config, left)      config None: the caller finds out

``n`` is how many wide instructions it may execute, at least ``length``. It raises ``Left`` when the wide
instruction at ``pc`` did not complete: by a trap, or (clean blocks) because a tag came up.

A *clean* block leaves tags out. At entry it looks at the tags of what it reads before writing and
returns None when one is set; a tag that would come up later makes it leave before that wide instruction. The
caller then executes one wide instruction with a block that keeps tags.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from e2kemu.cpu import sregs
from e2kemu.cpu.config import GLOBAL, Config
from e2kemu.cpu.core import CLOCKS, Core
from e2kemu.cpu.fp import FpOperation
from e2kemu.cpu.fp import machine as fp_machine
from e2kemu.cpu.guest_memory import PAGE
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.isa.traps import EXC_FP, EXC_FP_DISABLED
from e2kemu.cpu.memory_access import FAILED_LOAD
from e2kemu.cpu.source_values import SourceValues, Src
from e2kemu.cpu.state import BGR, BR, CR0_HI, CTPR1, LSR, OSCUD_LO, UPSR, USD_HI, USD_LO, Slot
from e2kemu.cpu.wide_semantics import Ended
from e2kemu.cpu.windows import M48

Late = list[Callable[[], None]]

CACHED_SREGS = frozenset((CTPR1, CTPR1 + 1, CTPR1 + 2, LSR, USD_HI, USD_LO, CR0_HI, OSCUD_LO,
                          BY_NAME["eir"].number, BY_NAME["rndpr"].number,
                          fp_machine.PFPFR, fp_machine.FPCR, fp_machine.FPSR))
"""State registers that translated code keeps in locals: nothing else changes them inside a block."""

_TAG = 7 << 54
_LABEL, _RETURN, _NUMERIC = 3 << 54, 2 << 54, 4 << 54
_ZEROED = "#zeroed"
"""Stands for the locals of registers that just entered the window, until it is known which there are."""

MAX_WIDE = 48
"""Longest block, in wide instructions."""


class Left(Exception):
    """A block left at wide instruction ``pc``, which did nothing; ``left`` of its budget remains.

    ``cause`` is the Trap or another exception, or None when a clean block met a tag.
    """

    def __init__(self, pc: int, left: int, cause: BaseException | None) -> None:
        super().__init__(pc, left, cause)
        self.pc, self.left, self.cause = pc, left, cause


class Bail(Exception):
    """A clean block has met a tag."""


@dataclass(slots=True)
class SlotVar:
    """A staged value: what it is now, and the local it lives in once it depends on a condition."""

    current: Src
    name: str = ""


@dataclass(slots=True)
class _Usage:
    """What the entry and the exit of the function have to do."""

    loaded: set[int] = field(default_factory=set)
    dirty: set[int] = field(default_factory=set)
    required: dict[int, int] = field(default_factory=dict)      # register -> halves that must be numeric
    preds: set[int] = field(default_factory=set)
    dirty_preds: set[int] = field(default_factory=set)
    required_preds: set[int] = field(default_factory=set)
    sregs: set[int] = field(default_factory=set)
    dirty_sregs: set[int] = field(default_factory=set)


def local_of(register: int) -> str:
    """The local variable of a register."""
    return f"g{register - GLOBAL}" if register >= GLOBAL else f"r{register}"


def index_of(register: int) -> str:
    """The index of a register in R, T and E."""
    return str(register - GLOBAL) if register >= GLOBAL else f"b + {register}"


class SourceMachine(SourceValues):
    """Translates one block that starts at ``start`` in configuration ``cfg``.

    ``closed``: a transfer to the start loops inside the function. ``assumed``: registers (and their halves) that
    must be numeric at entry although the block writes them first; a loop saves the clearing of their tags so.
    """

    def __init__(self, core: Core, start: int, cfg: Config, *, clean: bool, closed: bool, limit: int = MAX_WIDE,
                 assumed: dict[int, int] | None = None) -> None:
        super().__init__()
        self.core, self.start, self.entry_cfg = core, start, cfg
        self.clean, self.closed, self.limit = clean, closed, limit
        self.depth = 3
        self.use = _Usage(required=dict(assumed or {}))
        self.numeric: dict[int, int] = dict(assumed or {})
        """Register -> halves known to be numeric here."""
        self.empty: dict[int, int] = {}
        """Register -> halves known to be empty here."""
        self.first_written: dict[int, int] = {}
        self.sure_preds: set[int] = set()
        self.tails: list[list[str]] = []
        self.commits: list[tuple[str, Src]] = []
        self.starts: list[tuple[int, int]] = []
        """(line in ``lines``, address) of every wide instruction."""
        self.configs: list[Config] = []
        """Configurations that the function leaves for: its names K0, K1, ..."""
        self.loops = False
        self.grew = False
        self.speculative = self.aligned = False
        self.order = ""
        self.fault: Src = 0
        self.condition: Src = 0
        self.fp_flags: dict[int, SlotVar] = {}
        self.diagnostic: Src = 0
        self.functions: dict[str, Callable[..., tuple[int, int]]] = {}
        """Names that the text uses besides those of every block: primitives of floating point."""
        self._fp_enabled = False
        self.count = 0
        self.pc = start
        self.cfg: Config | None = cfg
        self._outer = 0
        self._conditional = 0
        self._stored = False

    def begin(self, wide: Wide) -> None:
        """The next wide instruction."""
        self.wide = wide
        self.starts.append((len(self.lines), wide.address))
        self.count += 1
        self._stored = False
        self.speculative = False

    # -- control of the evaluation -------------------------------------------------------------------

    def if_(self, condition: Src, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        if isinstance(condition, int):
            if condition:
                body()
            elif otherwise:
                otherwise()
            return
        if not self._conditional:
            self._outer = len(self.lines)
        self._branch(f"if {condition}:", body)
        if otherwise:
            # both ways have to see the same cached knowledge; the way out is the last thing in a wide instruction
            otherwise()

    def _branch(self, head: str, body: Callable[[], None]) -> None:
        self._conditional += 1
        self.emit(head)
        at = len(self.lines)
        self.depth += 1
        try:
            body()
        except Ended:
            pass
        finally:
            self.depth -= 1
            self._conditional -= 1
        if len(self.lines) == at:
            self.lines.pop()

    def slot(self, value: Src) -> SlotVar:
        """A value that changes, used only where it is made or below."""
        made = SlotVar(value)
        if self._conditional:
            self._count += 1
            made.name = made.current = f"v{self._count}"
            self.emit(f"{made.name} = {value}")
            self.width[made.name] = self.width_of(value)
        return made

    def staged(self, value: Src) -> SlotVar:
        """A value used beyond the condition it may be changed under; ``value`` is known outside of that."""
        return SlotVar(value)

    def put(self, slot: SlotVar, value: Src) -> None:
        if not self._conditional:
            # a later condition falls back to this value: its local is made anew there
            slot.current, slot.name = value, ""
            return
        if slot.current == value:
            return
        if not slot.name:
            self._count += 1
            slot.name = f"v{self._count}"
            bits = max(self.width_of(slot.current), self.width_of(value))
            self._insert_outside(f"{slot.name} = {slot.current}")
            self.width[slot.name] = bits
        else:
            self.width[slot.name] = max(self.width[slot.name], self.width_of(value))
        self.emit(f"{slot.name} = {value}")
        slot.current = slot.name

    def _insert_outside(self, text: str) -> None:
        """A line before the outermost condition: its value was known there."""
        indent = self.depth - self._conditional
        self.lines.insert(self._outer, " " * indent + text)
        self._outer += 1

    def get(self, slot: SlotVar) -> Src:
        return slot.current

    def pin(self, value: Src) -> Src:
        """A name for ``value`` that the results of this wide instruction do not change."""
        if isinstance(value, int) or value[0] == "t":
            return value
        return self.name(value, self.width_of(value))

    def settle(self, value: Src) -> Src:
        if isinstance(value, int) and not (value and self.clean):
            return value
        if not self.clean:
            return value
        self._leave_if(value, "raise bail")
        return 0

    def _leave_if(self, condition: Src, action: str) -> None:
        if isinstance(condition, int):
            if condition:
                self.emit(action)
                raise Ended
            return
        self.emit(f"if {condition}: {action}")

    def trap(self, exc: int, detail: str = "") -> None:
        self.emit(f"raise Trap({exc}, {detail!r})")
        raise Ended

    def trap_if(self, condition: Src, exc: int) -> None:
        if self.speculative:
            self.fault = self.or_(self.fault, condition)
        else:
            self._leave_if(condition, f"raise Trap({exc})")

    def merge_condition(self) -> Src:
        return self.condition

    # -- registers -----------------------------------------------------------------------------------

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

    # -- memory --------------------------------------------------------------------------------------

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

    # -- windows and transfers -----------------------------------------------------------------------

    def window_room(self, size: int) -> None:
        self.emit(f"if b + {size} - X[{int(Slot.BOTTOM)}] > 224: core.window_room({size})")

    def set_window(self, old: int, new: int, fx: int, dbl: int) -> None:
        self.emit(f"core.set_window({old}, {new}, {fx}, {dbl})")
        for register in range(old, new):
            self.empty[register], self.numeric[register] = 15, 0
        self.emit(f"{_ZEROED} {old} {new}")
        self.grew |= new != old
        if new < old:
            # what is above comes back empty only by another setwd, which says so
            for register in range(new, old):
                self.numeric.pop(register, None)

    def set_rotation(self, br: int, bgr: int) -> None:
        self.emit(f"S[{BR}] = {br}; S[{BGR}] = {bgr}")

    def wait_for_trap(self) -> None:
        self.emit("raise Waiting")

    def wait_for_interrupt(self) -> None:
        self.emit("core.wait_for_interrupt()")

    def flush_windows(self) -> None:
        self.emit("core.flush_windows()")

    def flush_chain(self) -> None:
        self.emit("core.flush_chain()")

    def check_transfer(self, ctpr: Src, is_call: bool, wbs: int, cfg: Config) -> None:
        call = f"core.check_transfer({ctpr}, {is_call}, {wbs}, {cfg.size}); b = X[{int(Slot.BASE)}]"
        if is_call:
            self.emit(call)
        else:
            self.emit(f"if {ctpr} & {_TAG:#x} != {_LABEL:#x}: {call}")

    def prepare_return(self) -> None:
        self.emit(f"core.prepare_return(); b = X[{int(Slot.BASE)}]")

    # -- leaving -------------------------------------------------------------------------------------

    def _config_name(self, cfg: Config | None) -> str:
        return "None" if cfg is None else f"K{self.core_config(cfg)}"

    def core_config(self, cfg: Config) -> int:
        """The number under which the function finds a configuration in its names."""
        if cfg not in self.configs:
            self.configs.append(cfg)
        return self.configs.index(cfg)

    def _tail(self, late: Late, lines: list[str]) -> None:
        """Leave by code that runs with the state written back: ``late`` actions, then ``lines``."""
        main, depth = self.lines, self.depth
        tail: list[str] = []
        self.lines, self.depth = tail, 3
        self.emit(f"X[{int(Slot.PC)}] = {self.wide.address:#x}")
        for action in late:
            action()
        for line in lines:
            self.emit(line)
        self.lines, self.depth = main, depth
        self.tails.append(tail)
        self.emit(f"n -= {self.count}; act = {len(self.tails)}; break")

    def _loops_to(self, cfg: Config) -> bool:
        return self.closed and cfg == self.entry_cfg and not self.grew

    def exit_to(self, pc: Src, cfg: Config, late: Late) -> None:
        if late:
            self._tail(late, [f"pc, cfg = {pc}, None"])
        else:
            self.emit(f"n -= {self.count}")
            if pc == self.start and self._loops_to(cfg):
                self.loops = True
                stored = " and not u" if self._stored else ""
                self.emit(f"if n >= LENGTH and not Q[0] and not Q[1]{stored}: continue")
            self.emit(f"pc = {pc}; cfg = {self._config_name(cfg)}; break")
        if not self._conditional:
            raise Ended

    def exit_ct(self, ctpr: Src, cfg: Config, late: Late) -> None:
        jump = f"pc = {ctpr} & {M48:#x}"
        by_return = f"{ctpr} & {_TAG:#x} == {_RETURN:#x}"
        if late:
            self._tail(late, ["cfg = None", f"if {by_return}: pc = core.do_return()", f"else: {jump}"])
        else:
            if self._loops_to(cfg):
                self.loops = True
                stored = " and not u" if self._stored else ""
                self.emit(f"if {ctpr} & {_TAG | M48:#x} == {_LABEL | self.start:#x}:")
                self.emit(f" n -= {self.count}")
                self.emit(f" if n >= LENGTH and not Q[0] and not Q[1]{stored}: continue")
                self.emit(f" pc = {self.start}; cfg = {self._config_name(cfg)}; break")
            self.emit(f"if not {by_return}:")
            self.emit(f" n -= {self.count}; {jump}; cfg = {self._config_name(cfg)}; break")
            self._tail([], ["pc = core.do_return(); cfg = None"])
        if not self._conditional:
            raise Ended

    def exit_call(self, ctpr: Src, wbs: int, return_ip: int, late: Late) -> None:
        self._tail(late, [f"pc = core.do_call({ctpr}, {wbs}, {return_ip}); cfg = None"])
        if not self._conditional:
            raise Ended

    def exit_done(self, late: Late) -> None:
        self._tail(late, ["pc = core.do_done(); cfg = None"])
        if not self._conditional:
            raise Ended

    def go_on(self, pc: int, cfg: Config, late: Late) -> None:
        """The next wide instruction in line: in this block, unless something ends it here."""
        if late:
            self._tail(late, [f"pc, cfg = {pc}, None"])
            raise Ended
        if self._stored:
            self.emit(f"if u: n -= {self.count}; pc = {pc}; cfg = {self._config_name(cfg)}; break")
        # behind the end of a loop starts another block: this one shall load and check only what the loop uses
        if self.count >= self.limit or self.loops:
            self.finish_at(pc, cfg)
            raise Ended
        self.pc, self.cfg = pc, cfg

    def finish_at(self, pc: int, cfg: Config) -> None:
        """Leave for ``pc``."""
        self.emit(f"n -= {self.count}; pc = {pc}; cfg = {self._config_name(cfg)}; break")

    def _final(self, line: str) -> str:
        """A line with what only the end of the translation tells."""
        text = line.lstrip()
        if text.startswith(_ZEROED):
            old, new = map(int, text.split()[1:])
            names = [local_of(register) for register in sorted(self.use.loaded) if old <= register < new]
            return line[: len(line) - len(text)] + (" = ".join([*names, "0"]) if names else "pass")
        return line.replace("LENGTH", str(self.count))

    # -- the function ----------------------------------------------------------------------------------

    def source(self) -> tuple[str, list[tuple[int, int, int]]]:
        """The whole function, and (first line, address, index) of every wide instruction in it."""
        use = self.use
        head = ["def block(n):"]
        if self.clean and use.required_preds:
            head += [f" if ({' | '.join(f'P[{i}]' for i in sorted(use.required_preds))}) > 1: return None"]
        head.append(f" b = X[{int(Slot.BASE)}]")
        if self.clean and use.required:
            whole = [f"T[{index_of(r)}]" + (f" & {halves}" if halves != 15 else "")
                     for r, halves in sorted(use.required.items())]
            head.append(f" if {' | '.join(whole)}: return None")
        head += [f" {local_of(r)} = R[{index_of(r)}]" for r in sorted(use.loaded)]
        head += [f" p{i} = P[{i}]" for i in sorted(use.preds)]
        head += [f" s{i} = S[{i}]" for i in sorted(use.sregs)]
        head += [" err = None", " act = u = 0", " try:", "  while True:"]
        offset = len(head) + 1
        body = [self._final(line) for line in self.lines]
        foot = [" except Exception as e: err = e"]
        foot += [f" R[{index_of(r)}] = {local_of(r)}" for r in sorted(use.dirty)]
        foot += [f" P[{i}] = p{i}" for i in sorted(use.dirty_preds)]
        foot += [f" S[{i}] = s{i}" for i in sorted(use.dirty_sregs)]
        foot.append(" if err is not None: raise left(err, n, STARTS)")
        if self.tails:
            foot.append(" if act:")
            for number, tail in enumerate(self.tails, 1):
                foot.append(f"  if act == {number}:")
                foot += tail
        foot.append(" return pc, cfg, n")
        places = [(line + offset, address, index) for index, (line, address) in enumerate(self.starts)]
        return "\n".join(head + body + foot) + "\n", places

