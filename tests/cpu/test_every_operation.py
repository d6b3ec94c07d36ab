"""Every operation of the table does something: a walk over all rows, in the oracle.

Each row that has a meaning is executed on its latest CPU model, on numbers of many kinds, until one of them changes
what the operation writes: a register with its extension and tag, a predicate, memory, a state register or a register
of the array access unit. An operation that did nothing would never do so. What the results must be, other tests tell.
"""

from __future__ import annotations

import random
import struct

from e2kemu.cpu import direct
from e2kemu.cpu.insn import Aau, AluInsn, Condition, Guard, Kind, Operand, Stub, Wide
from e2kemu.cpu.isa.aau import Slot
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.isa.table import rows
from e2kemu.cpu.isa.unknown import reason
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest

MODEL_OF = {model.version: name for name, model in MODELS.items()}
SCRATCH = 0x30000
SOURCES = {"src1": 0, "src2": 2, "src3": 4, "src4": 6}
DST, PREDICATE, ATTEMPTS = 8, 5, 40
POISON = 0x0123_4567_89AB_CDEF


def instruction(op: Op, version: int) -> AluInsn:
    channel = int(op.channels[version][0])
    slots: dict[str, object] = {}
    for slot in op.fmt.slots:
        if slot in SOURCES and op.fmt.name != "ALOPF19":
            slots[slot] = Operand(Kind.R, SOURCES[slot])
    if "dst" in op.fmt.slots or op.fmt.name == "ALOPF19":
        slots["dst"] = Operand(Kind.EMPTY) if op.family == "transfer" else Operand(Kind.R, DST)
    if "pred" in op.fmt.slots:
        slots["pred"] = PREDICATE
    if "sreg" in op.fmt.slots:
        slots["sreg"] = BY_NAME["lsr"].number
    if op.family == "aau":
        slots["aau"] = Aau(3 << 11 | 2 << 7 if op.load or op.store else 2 << 7 | 1 << 2)
    if op.imm8:
        slots["imm8"] = 1
    merge = (Guard(PREDICATE),) if op.merges else ()
    pair = next((int(p.replace(str(channel), "")) for p in op.pair.split("/") if str(channel) in p), None)
    return AluInsn(channel, op, mas=op.mas_code or 0, pair_channel=pair, merge=merge, **slots)  # type: ignore[arg-type]


def number(rng: random.Random) -> int:
    """64 bits: integers small and large, floating-point numbers of both widths."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randrange(1, 64)
    if kind == 1:
        return rng.getrandbits(64)
    if kind == 2:
        return int.from_bytes(struct.pack("<d", rng.uniform(-8, 8)), "little")
    if kind == 3:
        return int.from_bytes(struct.pack("<ff", rng.uniform(-8, 8), rng.uniform(-8, 8)), "little")
    if kind == 4:
        return int.from_bytes(struct.pack("<d", rng.uniform(1, 8) * 2.0 ** rng.randrange(-40, 40)), "little")
    return 1 << 63 | rng.getrandbits(63)      # a normal mantissa of 80 bits


def prepare(guest: Guest, op: Op, rng: random.Random) -> None:
    state = guest.state
    state.reset()
    guest.give_stacks()
    state.pc = CODE
    for register in range(8):
        state[f"r{register}"] = number(rng)
        exponent = 0x3FFF + rng.randrange(-10, 10) | rng.randrange(2) << 15
        state[f"r{register}.ext"] = exponent if "X" in op.sizes else number(rng)
    for register in (DST, DST + 1):
        state[f"r{register}"], state[f"r{register}.ext"] = POISON, POISON >> 40
    state[f"pred{PREDICATE}"] = rng.randrange(2)
    state["lsr"] = 0x2_0000_0005
    guest.space.write_bytes(SCRATCH, rng.randbytes(64))
    if op.family == "aau":
        state.A[Slot.AAD + 6], state.A[Slot.AASTI + 2] = SCRATCH | 6 << 54, 8
    elif op.family == "pointer":
        state["r0"], state["r1"], state["r2"] = SCRATCH | 3 << 59, 64 << 32, rng.randrange(40)
        state["r0.tag"], state["r1.tag"] = 15, 12
    elif op.family == "segment":
        for name in ("cs", "ds", "es", "fs", "gs", "ss", "gd", "cud"):
            state[f"{name}.lo"], state[f"{name}.hi"] = SCRATCH | 3 << 59, 64 << 32
        state["r0"], state["r2"] = 16, rng.randrange(8, 24)
    elif op.family == "record":
        state["r0"], state["r2"] = SCRATCH, 8 | (5 if "P" in op.sizes else rng.randrange(1, 5)) << 40
    elif op.load or op.store:
        state["r0"], state["r2"] = SCRATCH, rng.randrange(1, 24)
        if "mqp" in op.name:
            state["r2"] = 0xFFFF
    elif op.name in ("udivx", "sdivx", "umodx", "smodx", "udivs", "sdivs", "udivd", "sdivd"):
        state["r0"], state["r2"] = rng.randrange(1 << 20), rng.randrange(1, 999)


def trace_of(guest: Guest) -> tuple[object, ...]:
    """What an operation may change."""
    state = guest.state
    registers = tuple(state[f"r{r}{part}"] for r in (DST, DST + 1) for part in ("", ".ext", ".tag"))
    gone = state.pc not in (CODE, CODE + 8)
    memory = guest.space.read_bytes(SCRATCH, 64)
    return (gone, registers, state[f"pred{PREDICATE}"], memory, state["lsr"], state.A.tolist())


def does_something(guest: Guest, op: Op, version: int) -> bool:
    insn = instruction(op, version)
    stub = Stub(condition=Condition(1)) if op.family == "transfer" else None
    wide = Wide(version, 8, CODE, alu=(insn,), stub=stub)
    rng = random.Random(op.name)
    for _ in range(ATTEMPTS):
        prepare(guest, op, rng)
        before = trace_of(guest)
        try:
            direct.execute(guest.cpu.core, wide)
        except Trap:
            continue
        if trace_of(guest) != before:
            return True
    return False


def test_no_operation_of_the_table_does_nothing() -> None:
    guests = {version: Guest(model=name) for version, name in MODEL_OF.items()}
    idle, walked, unexplained = [], 0, []
    for op in rows():
        version = max((v for v in MODEL_OF if op.channels[v]), default=0)
        if op.alias_of or not version:
            continue
        if op.meaning is None:
            if reason(op) is None:
                unexplained.append(op.name)
            continue
        walked += 1
        if not does_something(guests[version], op, version):
            idle.append(op.name)
    assert not unexplained
    assert not idle
    assert walked > 1700
