"""From the meaning of an operation to its handler: the machine under ``wide_semantics`` whose operands are in records.

Each handler is what ``perform`` makes of a wide instruction with this one operation, without guards, on the registers
%r0 (src1), %r2 (src2), %r4 (src3), %r6 (src4) and %r8 (dst): the machine finds in the record which ones these
are. Results go to slots. What is not clean (tags, traps, failed speculation) jumps to ``step``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from e2kemu.cpu.config import GLOBAL, Config
from e2kemu.cpu.core import Core
from e2kemu.cpu.fp import FpOperation
from e2kemu.cpu.fp.machine import FPSR, PFPFR
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.cpu.isa import notation
from e2kemu.cpu.native.floating import MASKED, ROUNDING, STICKY, Floating
from e2kemu.cpu.native.interp import layout as at
from e2kemu.cpu.native.interp.lowlevel import CONVENTION, STATE
from e2kemu.cpu.native.layout import ALIGNED, READS, SPECULATIVE, TLB_ENTRIES, TLB_SET, USER, WRITES
from e2kemu.cpu.native.paths import LIKELY, Assumed, SlotVar, Unsupported
from e2kemu.cpu.native.registers import Registers
from e2kemu.cpu.native.values import Ir
from e2kemu.cpu.state import CTPR1, UPSR, USD_HI, USD_LO
from e2kemu.cpu.wide_semantics import Ended, perform

VARIANTS = ("", "speculative", "ctpr", "probe", "speculative probe")
"""Of an operation, as far as it has them: as usual, speculative, with a CTPR as destination, only looking whether it
can."""

SLOTS = ("src1", "src2", "src3", "src4")
DST = 8
"""Register that stands for the destination."""

FUSED = ("fma.", "fms.", "fnma.", "fnms.")
"""Primitives that the host does only when the inexact flag is set already."""

_FLAGS = {PFPFR: (at.FLAGS, at.FLAGS_OF_PFPFR), FPSR: (at.FLAGS80, at.FLAGS_OF_FPSR)}
_STACK = {USD_LO: at.STACK_SLOT, USD_HI: at.STACK_SLOT + 1}
_CFG = Config(5, 0, 64, 0, 0, 1, 0, 0)
"""Version 5 asks for the strictest alignment; what depends on the others is looked at when the handler runs."""

_PARAMETERS = ", ".join(f"i64 %{name}i" for name in STATE)


class HandlerMachine(Registers, Floating):
    """Writes one handler. ``sticky``: it may need that the inexact flag is set already; ``probe``: it only looks
    whether the access to memory can be done here."""

    floating_asks = False

    def __init__(self, core: Core, wide: Wide, *, sticky: bool, probe: bool) -> None:
        super().__init__(core, set(), Assumed())
        self.probe = probe
        self.wide, self.then = wide, _CFG
        self.floating_sticky = sticky
        (self.insn,) = wide.alu
        self._tests: dict[int, tuple[str, int]] = {}
        """Register -> where its tag is, and which halves are used."""
        self._places: dict[int, str] = {}
        self._values: dict[tuple[str, int], str] = {}
        self._mask = "%maski"
        self._checked_enabled = self._checked_control = self._was_asked = False

    # -- operands ------------------------------------------------------------------------------------------

    def _byte(self, offset: int) -> str:
        place = self._early(f"getelementptr i8, ptr %u, i64 {offset}")
        return self._early(f"zext i8 {self._early(f'load i8, ptr {place}')} to i64", 8)

    def _distance(self, register: int) -> str:
        """The register's distance from %r0."""
        if register >= GLOBAL:
            raise Unsupported("a global register")
        if register not in self._places:
            number = min(register >> 1, 3)
            code = self._byte(16 + number)
            place = self._early(f"getelementptr i16, ptr %sources, i64 {code}")
            if register & 1:
                place = self._early(f"getelementptr i16, ptr {place}, i64 1")
            self._places[register] = self._early(f"sext i16 {self._early(f'load i16, ptr {place}')} to i64")
        return self._places[register]

    def _literal(self, register: int) -> tuple[str, str]:
        """(i1 it is one, its value) of an operand that may be a literal; ("", "") for the others."""
        if register not in (0, 2):
            return "", ""
        key = "lit", register
        if key not in self._values:
            bit = self._early(f"and i64 {self._byte(20)}, {1 if register == 0 else 2}")
            self._values[key] = self._early(f"icmp ne i64 {bit}, 0", 1)
            if register == 0:
                self._values["val", 0] = self._byte(21)
            else:
                place = self._early("getelementptr i8, ptr %u, i64 8")
                self._values["val", 2] = self._early(f"load i64, ptr {place}")
        return self._values[key], self._values["val", register]

    def _item(self, part: str, register: int) -> str:
        key = part, register
        if key not in self._values:
            place = self._early(f"getelementptr i64, ptr %{part}, i64 {self._distance(register)}")
            value = self._early(f"load i64, ptr {place}")
            is_literal, literal = self._literal(register)
            if is_literal:
                literal = literal if part == "w" else "0"
                value = self._early(f"select i1 {is_literal}, i64 {literal}, i64 {value}")
            self._values[key] = value
        return self._values[key]

    def reg(self, register: int) -> Ir:
        return self._item("w", register)

    old_reg = reg

    def ext(self, register: int) -> Ir:
        return self._item("e", register)

    old_ext = ext

    def tag(self, register: int, mask: int) -> Ir:
        before = self._tests.get(register)
        if before is None:
            place = self._early(f"getelementptr i8, ptr %t, i64 {self._distance(register)}")
            tag = self._early(f"load i8, ptr {place}")
            is_literal, _ = self._literal(register)
            if is_literal:
                tag = self._early(f"select i1 {is_literal}, i8 0, i8 {tag}")
            before = tag, 0
        self._tests[register] = before[0], before[1] | mask
        return 0

    def check(self) -> None:
        """Leave unless every register used is numeric."""
        whole = ""
        for tag, halves in self._tests.values():
            part = tag if halves == 15 else self.name(f"and i8 {tag}, {halves}", 8)
            whole = self.name(f"or i8 {whole}, {part}", 8) if whole else part
        self._tests.clear()
        if whole:
            self.step_if_not(self.name(f"icmp eq i8 {whole}, 0", 1))

    def if_(self, condition: Ir, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        # what is looked at under a condition would not be looked at on the other way
        self.check()
        super().if_(condition, body, otherwise)

    def old_tag(self, register: int) -> Ir:
        return 0

    def may_keep(self, register: int, halves: int) -> None:
        pass

    def pred(self, index: int) -> Ir:
        # only the condition of a merge is asked for: MERGE has found it
        return self.and_(self._early(f"lshr i64 %maski, {at.CHOSEN.bit_length() - 1}"), 1)

    def pred_raw(self, index: int) -> Ir:
        return 0

    def sreg(self, number: int) -> Ir:
        return self._early(f"load i64, ptr {self._early(self._state('S', number))}")

    # -- results -------------------------------------------------------------------------------------------

    def _stage(self, slot: str, value: Ir, kind: int, code: str | int) -> None:
        if self.probe:
            return
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {slot}")
        for offset, item in ((16, code), (17, kind)):
            place = self.name(f"getelementptr i8, ptr {slot}, i64 {offset}")
            text = str(item) if isinstance(item, int) else self.name(f"trunc i64 {item} to i8", 8)
            self.emit(f"store i8 {text}, ptr {place}")

    def _slot(self, second: int = 0) -> str:
        """The slot of the destination, whose bit of ``mask`` is set."""
        key = "slot", second
        if key not in self._values:
            number = self._byte(22)
            base = self._early(f"getelementptr [32 x i8], ptr %slots, i64 {number}")
            self._values[key] = self._early(f"getelementptr i8, ptr {base}, i64 {32 * second}")
            if self.probe:
                return self._values[key]
            place = self._early("getelementptr i8, ptr %u, i64 24")
            bit = self._early(f"zext i32 {self._early(f'load i32, ptr {place}')} to i64")
            if second:
                bit = self.name(f"shl i64 {bit}, 1")
            self._mask = self.name(f"or i64 {self._mask}, {bit}")
        return self._values[key]

    def write_reg(self, register: int, value: Ir, tag: Ir, halves: int) -> None:
        second = register - DST
        code: Ir = self._byte(19)
        if second:
            code = self.add(code, 1, 64)
        kind = at.FULL
        if halves == 3:
            kind = at.LOW_KEPT if self.insn.op.family == "movt" else at.LOW
            value = self.trunc(value, 32)
        self._stage(self._slot(second), value, kind, code)

    def write_ext(self, register: int, value: Ir) -> None:
        if self.probe:
            return
        slot = self._slot(register - DST)
        place = self.name(f"getelementptr i8, ptr {slot}, i64 8")
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {place}")
        kind = self.name(f"getelementptr i8, ptr {slot}, i64 17")
        self.emit(f"store i8 {at.EXTENDED}, ptr {kind}")

    def write_pred(self, index: int, slot: SlotVar) -> None:
        self._stage(self._slot(), slot.current, at.PREDICATE, self._byte(19))

    def set_sreg(self, number: int, value: Ir) -> None:
        if number in _FLAGS:
            if not self.floating_sticky:
                bit, where = _FLAGS[number]
                place = self.name(f"getelementptr i8, ptr %c, i64 {where}")
                before = self.name(f"load i64, ptr {place}")
                first = self.boolean(f"icmp eq i64 {self.name(f'and i64 {self._mask}, {bit}')}, 0")
                whole = self.or_(self.select(first, 0, before), value)
                self.emit(f"store i64 {self.as_bits(whole, 64)}, ptr {place}")
                self._mask = self.name(f"or i64 {self._mask}, {bit}")
        elif number in _STACK:
            slot = self.name(f"getelementptr [32 x i8], ptr %slots, i64 {_STACK[number]}")
            self._stage(slot, value, at.STATE_REGISTER, number)
            self._mask = self.name(f"or i64 {self._mask}, {1 << _STACK[number]}")
        elif number == CTPR1:
            self._stage(self._slot(), value, at.STATE_REGISTER, self._byte(19))
        else:
            raise Unsupported(f"state register {number}")

    # -- floating point --------------------------------------------------------------------------------------

    def fp_enabled(self) -> None:
        if not self._checked_enabled:
            self._checked_enabled = True
            enabled = self._early(f"and i64 {self.sreg(UPSR)}, 1")
            self.step_if_not(self.name(f"icmp ne i64 {enabled}, 0", 1))

    def fp_primitive(self, operation: FpOperation, operands: tuple[Ir, ...], control: Ir) -> tuple[Ir, Ir]:
        self._was_asked = False
        made = super().fp_primitive(operation, operands, control)
        if not self._was_asked and not self._checked_control:
            self._checked_control = True
            mask = MASKED | ROUNDING | (STICKY if self.floating_sticky else 0)
            found = self._early(f"and i64 {self.sreg(PFPFR)}, {mask}")
            self.step_if_not(self.name(f"icmp eq i64 {found}, {mask & ~ROUNDING}", 1))
        return made

    def _asked(self, operation: FpOperation, operands: tuple[Ir, ...], control: Ir) -> tuple[Ir, Ir]:
        if not self.floating_sticky and operation.name.startswith(FUSED):
            # the sticky handler does not ask
            raise Unsupported(operation.name)
        self._was_asked = True
        return super()._asked(operation, operands, control)

    # -- memory ----------------------------------------------------------------------------------------------

    def _align(self, address: str, size: int) -> None:
        if size > 1:
            place = self._early(f"getelementptr i8, ptr %c, i64 {at.ALIGN}")
            wanted = self._early(f"load i64, ptr {place}")
            low = self.name(f"and i64 {address}, {size - 1}")
            self._step_if(self.boolean(f"icmp ne i64 {self.name(f'and i64 {low}, {wanted}')}, 0"))

    def _access(self, address: Ir, size: int, table: str) -> tuple[str, str, str, int]:
        """Everything about an access up to its two ways: (address, label of the fast way, host address, flags).

        The slow way is at label ``slow`` with the number of the fast one.
        """
        self.check()
        text = self.as_bits(address, 64)
        self._align(text, size)
        index = self.name(f"and i64 {self.name(f'lshr i64 {text}, 12')}, {TLB_ENTRIES - 1}")
        entry = self.name(f"getelementptr [2 x i64], ptr %{table}, i64 {index}")
        tag = self.name(f"load i64, ptr {entry}")
        hit = self.name(f"icmp eq i64 {tag}, {self.name(f'and i64 {text}, {-4096 | size - 1}')}", 1)
        fast = self._new_label("fast")
        self.emit(f"br i1 {hit}, label %{fast}, label %slow{fast}{LIKELY}")
        self._label(fast)
        addend = self.name(f"load i64, ptr {self.name(f'getelementptr i64, ptr {entry}, i64 1')}")
        host = self.name(f"inttoptr i64 {self.name(f'add i64 {text}, {addend}')} to ptr")
        flags = size | (SPECULATIVE if self.speculative else 0) | (ALIGNED if self.speculative and self.aligned else 0)
        return text, fast, host, flags

    def load(self, address: Ir, size: int) -> Ir:
        if self.probe:
            self._align(self.as_bits(address, 64), size)
            return 0
        text, fast, host, flags = self._access(address, size, "reads")
        value = self.name(f"load atomic i{8 * size}, ptr {host} monotonic, align {size}")
        if size < 8:
            value = self.name(f"zext i{8 * size} {value} to i64")
        join = self._new_label("have")
        self.emit(f"br label %{join}")
        given, answer, first, status, bad = (self.fresh() for _ in range(5))
        self.outlined += [
            f"slow{fast}:", f"{given} = or i64 %userflag, {flags}",
            f"{answer} = call {{i64, i64}} @e2k_load(ptr %c, i64 {text}, i64 {given})",
            f"{first} = extractvalue {{i64, i64}} {answer}, 0", f"{status} = extractvalue {{i64, i64}} {answer}, 1",
            f"store i64 {status}, ptr %why", f"{bad} = icmp ne i64 {status}, 0",
            f"br i1 {bad}, label %{self._fail()}, label %{join}"]
        self._label(join)
        return self.name(f"phi i64 [ {value}, %{fast} ], [ {first}, %slow{fast} ]", 8 * size)

    def store(self, address: Ir, size: int, value: Ir) -> None:
        if self.probe:
            self._align(self.as_bits(address, 64), size)
            return
        if not self._stored:
            self._stored = True
            self._prefix.append("store i64 0, ptr %stored")
        short = self.narrow(self.trunc(value, 8 * size), 8 * size)
        full = short if size == 8 else self.as_bits(self.trunc(value, 8 * size), 64)
        text, fast, host, flags = self._access(address, size, "writes")
        self.emit(f"store atomic i{8 * size} {short}, ptr {host} monotonic, align {size}")
        join = self._new_label("done")
        self.emit(f"br label %{join}")
        given, status, before, after, bad = (self.fresh() for _ in range(5))
        self.outlined += [
            f"slow{fast}:", f"{given} = or i64 %userflag, {flags}",
            f"{status} = call i64 @e2k_store(ptr %c, i64 {text}, i64 {given}, i64 {full})",
            f"store i64 {status}, ptr %why", f"{bad} = icmp ugt i64 {status}, 1",
            f"br i1 {bad}, label %{self._fail()}, label %good{fast}", f"good{fast}:",
            f"{before} = load i64, ptr %stored", f"{after} = or i64 {before}, {status}",
            f"store i64 {after}, ptr %stored", f"br label %{join}"]
        self._label(join)

    def store_if(self, condition: Ir, address: Ir, size: int, value: Ir) -> None:
        self.if_(condition, lambda: self.store(address, size, value))

    # -- leaving -----------------------------------------------------------------------------------------------

    def _jump(self, lines: list[str], target: str, mask: str) -> None:
        given = ", ".join(f"i64 {mask if name == 'mask' else f'%{name}i'}" for name in STATE)
        made = self.fresh()
        lines += [f"{made} = musttail call {CONVENTION} i64 {target}({given})", f"ret i64 {made}"]

    def _step(self) -> str:
        if not self._step_label:
            self._step_label = self._new_label("step")
            self.outlined.append(f"{self._step_label}:")
            self._jump(self.outlined, "@step", "%maski")
        return self._step_label

    def _fail(self) -> str:
        if not self._fail_label:
            self._fail_label = self._new_label("fail")
            self.outlined.append(f"{self._fail_label}:")
            self._jump(self.outlined, "@fail", "%maski")
        return self._fail_label

    def go_on(self, pc: int, cfg: Config, late: list[Callable[[], None]]) -> None:
        if late:
            raise Unsupported("late")
        self.check()
        if self._stored:
            after = self.name("load i64, ptr %stored")
            shifted = self.name(f"shl i64 {after}, {at.STORED.bit_length() - 1}")
            self._mask = self.name(f"or i64 {self._mask}, {shifted}")
        place, following = self.name(f"add i64 %ui, {at.RECORD}"), self.fresh()
        self.emit(f"{following} = inttoptr i64 {place} to ptr")
        target = self.name(f"load ptr, ptr {following}")
        given = ", ".join(f"i64 { {'mask': self._mask, 'u': place}.get(name, f'%{name}i')}" for name in STATE)
        self.emit(f"%last = musttail call {CONVENTION} i64 {target}({given})")
        self.emit("ret i64 %last")

    def write_sreg(self, number: int, value: Ir) -> NoReturn:
        raise Unsupported("a state register")

    def function(self, name: str) -> str:
        """The handler's text. Raises Unsupported."""
        self._label("body")
        head, self.lines = self.lines, []
        try:
            perform(self, self.wide, _CFG)
        except Ended:
            raise Unsupported("it always traps") from None
        offsets = self.offsets
        body = (*self._prefix, *self.lines, *self.outlined)
        extensions = offsets["E"] - offsets["R"]
        text = [f"define {CONVENTION} i64 @{name}({_PARAMETERS}) nounwind {{", "entry:", "%stored = alloca i64",
                *(f"%{n} = inttoptr i64 %{n}i to ptr" for n in ("s", "c", "u", "w", "t")),
                f"%e = getelementptr i8, ptr %w, i64 {extensions}",
                f"%sources = getelementptr i8, ptr %c, i64 {at.SOURCES}",
                f"%slots = getelementptr i8, ptr %c, i64 {at.SLOTS}", f"%why = getelementptr i8, ptr %c, i64 {at.WHY}",
                # user code has TLBs of its own
                f"%privileged = getelementptr i8, ptr %c, i64 {at.PRIVILEGED}", "%pm = load i64, ptr %privileged",
                "%um = xor i64 %pm, 1", f"%userflag = mul i64 %um, {USER}", f"%behind = mul i64 %um, {TLB_SET}",
                f"%reads0 = getelementptr i8, ptr %c, i64 {READS}",
                "%reads = getelementptr i8, ptr %reads0, i64 %behind",
                f"%writes = getelementptr i8, ptr %reads, i64 {WRITES - READS}",
                "br label %body", *head, *body, "}"]
        return "\n".join(text)


def instruction(op: notation.Op, *, speculative: bool, to_ctpr: bool) -> Wide:
    """The wide instruction with this operation alone, its operands in the registers that stand for them."""
    fields: dict[str, Any] = {}
    for number, slot in enumerate(SLOTS):
        if slot in op.fmt.slots:
            fields[slot] = Operand(Kind.R, 2 * number)
    if "dst" in op.fmt.slots:
        fields["dst"] = Operand(Kind.CTPR, 1) if to_ctpr else Operand(Kind.R, DST)
    if "pred" in op.fmt.slots:
        fields["pred"] = 0
    if op.merges:
        fields["merge"] = (Guard(0),)
    channel = int(next(c for c in reversed(op.channels) if c)[0])
    if op.pair:
        fields["pair_channel"] = int(op.pair[1])
    return Wide(5, 8, alu=(AluInsn(channel, op, speculative, **fields),))


class Generator:
    """Makes handlers; operations that differ only in their codes share one."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.texts: dict[str, str] = {}
        self.declarations: set[str] = set()
        self._known: dict[tuple[object, ...], str | None] = {}
        self.unsupported: dict[str, str] = {}
        """Name of an operation -> why it has no handler."""

    def of(self, op: notation.Op, variant: str = "") -> str | None:
        """The name of an operation's handler, None when the reference tier does it, or there is no such variant."""
        if op.meaning is None or op.imm8 or op.family in ("aau", "pointer", "transfer"):
            return None
        if op.fmt.name in ("ALOPF15", "ALOPF16"):
            return None
        if variant == "ctpr" and (op.family != "movt" or "Q" in op.sizes):
            return None
        if variant not in ("", "ctpr") and not (op.load or op.store):
            return None
        name = op.name if op.family in ("segment", "movt") else ""
        key = (op.meaning, op.sizes, op.fmt.slots, op.family, op.load, op.store, bool(op.pair), op.merges,
               "mqp" in op.name, name, variant)
        if key not in self._known:
            self._known[key] = self._make(op, f"op{len(self._known)}_{op.name}", variant)
        return self._known[key]

    def _make(self, op: notation.Op, name: str, variant: str) -> str | None:
        wide = instruction(op, speculative=variant.startswith("speculative"), to_ctpr=variant == "ctpr")
        for sticky in (False, True):
            machine = HandlerMachine(self.core, wide, sticky=sticky, probe=variant.endswith("probe"))
            try:
                self.texts[name] = machine.function(name)
            except Unsupported as reason:
                self.unsupported[op.name] = str(reason)
                continue
            self.declarations |= machine.intrinsics
            self.unsupported.pop(op.name, None)
            return name
        return None
