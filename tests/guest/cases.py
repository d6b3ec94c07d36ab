"""One case per operation and more: an operation on numbers, what it must give, and what was there before.

An operation reads src1, src2, src3 and the stored value from %r0, %r2, %r4, %r6 (a pair or extension follows), writes
%r8 or %pred5, and a merge looks at %pred6. ``before`` is set ahead of it, ``after`` is what must hold behind it. The
names are those of ``CpuState``; "A:n" is an item of the array access unit, "M:n" byte n of the memory at MEMORY.

Cases come from the golden vectors of tests/data and, for operations without any, from ``own_cases``. An operation that
did nothing would fail a case in which something of ``after`` is not the same in ``before``: ``tells`` says whether.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from e2kemu.cpu import direct
from e2kemu.cpu.insn import AluInsn, Condition, Guard, Kind, Operand, Stub, Wide
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.registers import BY_NAME as SREGS
from e2kemu.cpu.isa.table import by_name
from tests.cpu.fp import cases as floats
from tests.cpu.guest import CODE, DATA, Guest
from tests.cpu.vectors import lines

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
POISON, POISON_EXT = 0x5A5A_A5A5_C3C3_3C3C, 0x1234_5678_9ABC_DEF0
"""What %r8 and %r9 hold before."""
MEMORY = 0x30000
"""Address of the memory that cases use."""
REGISTER = {"src1": "r0", "src2": "r2", "src3": "r4", "src4": "r6"}
RESULT, PREDICATE, CONDITION = "r8", "pred5", 6

State = Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Case:
    """See the module. ``more`` are further fields of the ``AluInsn``."""

    op: Op
    model: str
    channel: int
    before: State
    after: State
    golden: bool = False
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def tells(self) -> bool:
        """An operation that does nothing fails it."""
        first = start(self)
        return any(first.get(name, 0) != value for name, value in self.after.items())

    def wide(self) -> Wide:
        """The wide instruction with the operation alone."""
        stub = Stub(condition=Condition(1)) if self.op.family == "transfer" else None
        return Wide(MODELS[self.model].version, 16, CODE, alu=(instruction(self),), stub=stub)


def instruction(case: Case) -> AluInsn:
    """The operation on the registers of cases."""
    op, slots = case.op, dict[str, object]()
    for slot, register in REGISTER.items():
        if slot in op.fmt.slots and op.fmt.name != "ALOPF19":
            slots[slot] = Operand(Kind.R, int(register[1:]))
    if op.has_dst or op.fmt.name == "ALOPF19":
        slots["dst"] = Operand(Kind.EMPTY) if op.family == "transfer" else Operand(Kind.R, int(RESULT[1:]))
    if "pred" in op.fmt.slots:
        slots["pred"] = int(PREDICATE[4:])
    if "sreg" in op.fmt.slots:
        slots["sreg"] = SREGS["lsr"].number
    if op.merges:
        slots["merge"] = (Guard(CONDITION),)
    digit = str(case.channel)
    pair = next((int(pair.replace(digit, "")) for pair in op.pair.split("/") if digit in pair), None)
    return replace(AluInsn(case.channel, op, mas=op.mas_code or 0, pair_channel=pair, **slots), **case.more)  # type: ignore[arg-type]


def start(case: Case) -> dict[str, int]:
    """Everything that is set before."""
    poison = {"r8": POISON, "r9": POISON, "r8.ext": POISON_EXT, "r9.ext": POISON_EXT}
    if PREDICATE in case.after:
        poison[PREDICATE] = 1 - (case.after[PREDICATE] & 1)
    return {**poison, **case.before}


def prepare(guest: Guest, case: Case) -> None:
    """Set the state of a case."""
    guest.state.reset()
    guest.give_stacks()
    guest.state.pc = CODE
    for name, value in start(case).items():
        kind, _, number = name.partition(":")
        if kind == "A" and number:
            guest.state.A[int(number)] = value
        elif kind == "M" and number:
            guest.ram.mem[MEMORY + int(number)] = value
        else:
            guest.state[name] = value


def found(guest: Guest, case: Case) -> dict[str, int]:
    """What ``after`` names, from the guest."""
    def value(name: str) -> int:
        kind, _, number = name.partition(":")
        if kind == "A" and number:
            return int(guest.state.A[int(number)])
        if kind == "M" and number:
            return guest.ram.mem[MEMORY + int(number)]
        return int(guest.state[name])

    return {name: value(name) for name in case.after}


def passes(guest: Guest, case: Case, wide: Wide) -> bool:
    """Execute ``wide`` for the case in the oracle; a Trap passes on."""
    prepare(guest, case)
    direct.execute(guest.cpu.core, wide)
    return found(guest, case) == dict(case.after)


# --- operands -------------------------------------------------------------------------------------------

def sources(op: Op, numbers: list[int]) -> dict[str, int]:
    """Registers with the sources in slot order: the upper part of more than 64 bits goes to the extension."""
    before = {}
    for slot, number in zip((slot for slot in REGISTER if slot in op.fmt.slots), numbers, strict=True):
        register = REGISTER[slot]
        before[register] = number & M64
        if number >> 64:
            before[f"{register}.ext"] = number >> 64
    return before


def result(op: Op, value: int) -> dict[str, int]:
    """%r8 and its extension, or %pred5, after an operation with this result."""
    match op.sizes[-1]:
        case "B":
            return {PREDICATE: value}
        case "S":
            return {RESULT: POISON & ~M32 | value & M32, f"{RESULT}.ext": POISON_EXT}
        case "D":
            return {RESULT: value & M64, f"{RESULT}.ext": POISON_EXT}
        case _:
            return {RESULT: value & M64, f"{RESULT}.ext": value >> 64}


# --- golden vectors -------------------------------------------------------------------------------------

def _row(name: str, channel: int, model: str) -> Op:
    version = MODELS[model].version
    return next(row for row in by_name(name) if row.in_channel(channel, version))


def _integers() -> Iterator[Case]:
    for vector in json.loads(gzip.decompress((DATA / "semantics.json.gz").read_bytes()))["ops"]:
        if vector.get("signal"):
            continue
        op = _row(vector["op"], vector["alc"], vector["cpu"])
        before = sources(op, [int(text, 16) for text in vector["src"]])
        if "cond" in vector:
            before[f"pred{CONDITION}"] = vector["cond"]
        if op.sizes[-1] != "B":
            before[RESULT] = int(vector["before"], 16)
            after = {RESULT: int(vector["dst"], 16)}
        else:
            after = {PREDICATE: vector["pred"]}
        yield Case(op, vector["cpu"], vector["alc"], before, after, golden=True)


def _packed() -> Iterator[Case]:
    for line in lines("packed.jsonl"):
        for channel, extra, *numbers, value in line["cases"]:
            op = _row(line["op"], channel, line["cpu"])
            before = sources(op, [int(number, 16) for number in numbers])
            more: dict[str, object] = {}
            if op.merges:
                before[f"pred{CONDITION}"] = extra or 0
            elif op.imm8:
                more["imm8"] = extra
            yield Case(op, line["cpu"], channel, before, result(op, int(value, 16)), golden=True, more=more)


def _floats() -> Iterator[Case]:
    for case in floats.cases():
        extended = "fpcr" if case.extended else "pfpfr"
        status, kept = ("fpsr", 0) if case.extended else ("pfpfr", case.control)
        yield Case(case.op, case.cpu, case.alc, {**sources(case.op, list(case.sources)), extended: case.control},
                   {**result(case.op, case.result), status: kept | case.flags}, golden=True)


def golden() -> Iterator[Case]:
    """The vectors that are not in doubt."""
    yield from _integers()
    yield from _packed()
    yield from _floats()
