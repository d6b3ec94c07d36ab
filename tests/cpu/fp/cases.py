"""Golden vectors of floating point, and a CPU to try one operation on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import AluInsn, Kind, Operand, Wide
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.notation import Op
from tests.cpu.guest import CODE, Guest
from tests.cpu.vectors import lines

M64 = (1 << 64) - 1
BEFORE, BEFORE_EXT = 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210
"""%r4 and its extension before the operation."""
ILLEGAL = bytes.fromhex("0000002c00000000")
"""No wide instruction: its header and its length disagree."""
SOURCES = ("src1", "src2", "src3")


@dataclass(frozen=True)
class Case:
    """One operation on numbers with a control register; the result and the flags it must give.

    ``golden``: as the public e2k port of QEMU computes; else as x86 does where that is in doubt (docs/semantics.md).
    """

    op: Op
    cpu: str
    alc: int
    control: int
    sources: tuple[int, ...]
    result: int
    flags: int
    golden: bool

    @property
    def extended(self) -> bool:
        """FPCR and FPSR count, not PFPFR."""
        return "X" in self.op.sizes


@cache
def cases() -> tuple[Case, ...]:
    """All vectors; those of one operation in one channel are neighbours."""
    found = []
    for line in lines("floats.jsonl"):
        for golden in (True, False):
            for text in line["golden" if golden else "model"]:
                alc, *numbers = text.split()
                control, *sources, result, flags = (int(number, 16) for number in numbers)
                version = {"e8c": 4, "e8c2": 5, "e16c": 6}[line["cpu"]]
                (op,) = (row for row in table.by_name(line["op"]) if row.in_channel(int(alc), version))
                assert op.sizes == line["sz"]
                found.append(Case(op, line["cpu"], int(alc), control, tuple(sources), result, flags, golden))
    return tuple(found)


def described() -> list[Op]:
    """The operations under test."""
    modules = ("e2kemu.cpu.isa.floats", "e2kemu.cpu.isa.floats_packed")
    return [op for op in table.rows() if op.meaning and op.meaning.__module__ in modules and not op.alias_of]


def instruction(op: Op, alc: int, **more: Any) -> AluInsn:
    """The operation from %r1 %r2 %r3 to %r4 or %pred0."""
    slots = [slot for slot in op.fmt.slots if slot in SOURCES]
    operands = {slot: Operand(Kind.R, index + 1) for index, slot in enumerate(slots)}
    target: dict[str, Any] = {"pred": 0} if "pred" in op.fmt.slots else {"dst": Operand(Kind.R, 4)}
    return AluInsn(alc, op, **{**operands, **target, **more})


def load(guest: Guest, *insns: AluInsn) -> bytes:
    """Put one wide instruction at CODE, with an illegal one behind it; its bytes."""
    data = encode(Wide(guest.cpu.model.version, 0, alu=insns))
    guest.space.write_bytes(CODE, data + ILLEGAL)
    guest.cpu.invalidate(CODE, len(data))
    return data


def prepare(guest: Guest, case: Case) -> None:
    """The registers before the operation."""
    state = guest.state
    state.pc = CODE
    for index, number in enumerate(case.sources, 1):
        state[f"r{index}"], state[f"r{index}.ext"] = number & M64, number >> 64
    state["r4"], state["r4.ext"], state["pred0"] = BEFORE, BEFORE_EXT, 0
    state["pfpfr"], state["fpcr"], state["fpsr"] = 0x1F80, 0x37F, 0
    state["fpcr" if case.extended else "pfpfr"] = case.control


def expected(case: Case) -> tuple[int, ...]:
    """%r4, its extension, %pred0 and the three registers of floating point afterwards."""
    low, high, predicate = BEFORE, BEFORE_EXT, 0
    match case.op.sizes[-1]:
        case "B":
            predicate = case.result
        case "S":
            low = BEFORE & ~0xFFFF_FFFF | case.result
        case "D":
            low = case.result
        case _:
            low, high = case.result & M64, case.result >> 64
    if case.extended:
        return low, high, predicate, 0x1F80, case.control, case.flags
    return low, high, predicate, case.control | case.flags, 0x37F, 0


def found(guest: Guest) -> tuple[int, ...]:
    """What ``expected`` tells, from the CPU."""
    return tuple(guest.state[name] for name in ("r4", "r4.ext", "pred0", "pfpfr", "fpcr", "fpsr"))


def by_code(chosen: tuple[Case, ...]) -> Iterator[tuple[Guest, Case, bytes]]:
    """Cases with a CPU that has their instruction at CODE."""
    guests: dict[str, Guest] = {}
    last, data = None, b""
    for case in chosen:
        if case.cpu not in guests:
            guests[case.cpu] = Guest(model=case.cpu)
        guest = guests[case.cpu]
        if (case.op, case.cpu, case.alc) != last:
            last, data = (case.op, case.cpu, case.alc), load(guest, instruction(case.op, case.alc))
        yield guest, case, data
