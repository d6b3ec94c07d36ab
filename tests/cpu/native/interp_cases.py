"""One wide instruction at a time in the native interpreter and in the oracle, from random states."""

from __future__ import annotations

import random
import struct
from collections import Counter

from e2kemu.cpu import direct
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.insn import AluInsn, Clp, Condition, Cs0, Cs1, Elp, Guard, Kind, Operand, Stub, Wide
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.native.interp.build import HostCode
from e2kemu.cpu.native.interp.interpreter import Interpreter
from e2kemu.cpu.native.layout import Status
from e2kemu.cpu.state import CTPR1, LSR, CpuState, Slot
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest

SCRATCH, SCRATCH_BYTES = 0x20000, 8192
MODEL_OF = {model.version: name for name, model in MODELS.items()}
PARTS = "RTEPSXCA"


def interpreted(model: str = "e8c", text: str = "") -> Guest:
    """A guest whose CPU runs in the native interpreter."""
    guest = Guest(text, model)
    pc = guest.state.pc
    guest.space.listeners.remove(guest.cpu.invalidate)
    guest.cpu = Cpu(0, MODELS[model], guest.space, accel="interp")
    guest.space.listeners.append(guest.cpu.invalidate)
    guest.state = guest.cpu.state
    guest.give_stacks()
    guest.state.pc = pc
    return guest


def interpreter_of(guest: Guest) -> Interpreter:
    """The native interpreter of a guest's CPU."""
    assert guest.cpu.interpreter is not None
    return guest.cpu.interpreter


def number(rng: random.Random) -> int:
    """64 bits: integers small and large, addresses of scratch memory, floating-point numbers of both widths."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randrange(1, 64)
    if kind == 1:
        return rng.getrandbits(64)
    if kind == 2:
        (bits,) = struct.unpack("<Q", struct.pack("<d", rng.choice((rng.uniform(-8, 8), rng.uniform(-1e9, 1e9)))))
        return int(bits)
    if kind == 3:
        bits, more = struct.unpack("<II", struct.pack("<ff", rng.uniform(-8, 8), rng.uniform(-1e6, 1e6)))
        return int(bits | more << 32)
    if kind < 6:
        return SCRATCH + 64 + rng.randrange(SCRATCH_BYTES // 8 - 32) * rng.choice((8, 8, 8, 1))
    return rng.choice((0, 1, 2, 31, 32, 63, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1))


def floating(rng: random.Random, single: bool) -> int:
    """A floating-point number, or a pair of short ones, whose arithmetic has no surprises."""
    if single:
        bits, more = struct.unpack("<II", struct.pack("<ff", rng.uniform(1, 8), rng.uniform(-9, 9)))
        return int(bits | more << 32)
    return int(struct.unpack("<Q", struct.pack("<d", rng.uniform(1, 9) * rng.choice((-1, 1))))[0])


SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "cud", "gd")


def tame(state: CpuState, rng: random.Random) -> None:
    """A state in which most operations are clean: numbers of one kind, everything masked, segments of all memory."""
    kind = rng.randrange(3)
    base = state.X[Slot.BASE]
    for index in (*range(32), *range(base, base + 64)):
        state.T[index] = 0
        if kind:
            state.R[index] = state.E[index] = floating(rng, kind == 1)
        elif rng.random() < 0.5:
            state.R[index] = rng.randrange(64)
    for index in range(32):
        state.P[index] &= 1
    state["pfpfr"], state["upsr"] = 0x1FA0, 1
    for name in SEGMENTS:
        state[f"{name}.lo"], state[f"{name}.hi"] = 3 << 59 | SCRATCH, 0x100000 << 32


def prepare(state: CpuState, rng: random.Random, dirty: float) -> None:
    """A random state, with tags of probability ``dirty``."""
    state.reset()
    base = state.X[Slot.BASE]
    size = rng.choice((224, 224, 224, 64, 40, 12))
    state.S[state._find("wd")[1]] = size << 19 | rng.choice((0, 8, 12)) << 35 | 1 << 48 | (rng.random() < 0.1) << 49
    for index in (*range(32), *range(base, base + 64)):
        state.R[index] = number(rng)
        state.E[index] = rng.choice((0, rng.getrandbits(16), rng.getrandbits(64)))
        if rng.random() < dirty:
            state.T[index] = rng.choice((1, 4, 5, 5, 5, 2, 8, 10))
    for index in range(32):
        state.P[index] = rng.choice((2, 3)) if rng.random() < dirty else rng.randrange(2)
    rbs, rsz = rng.randrange(16), rng.randrange(16)
    psz = rng.choice((0, rng.randrange(32)))
    state["br"] = rbs | rsz << 6 | rng.randrange(rsz + 1) << 12 | psz << 18 | rng.randrange(psz + 1) << 23
    state["bgr"] = rng.choice((0, rng.randrange(8) << 8))
    state.S[LSR] = rng.randrange(4) | rng.randrange(3) << 32 | 1 << 37 | rng.choice((0, 0, 1, 2)) << 48
    state["pfpfr"] = rng.choice((0x1F80, 0x1FA0, 0x1FA0, 0x1FA0, 0x5F80, 0x1FBF))
    state["upsr"] = rng.choice((1, 1, 1, 1, 5, 0))
    state["psr"] = rng.choice((0, 1))
    state["cr0.hi"] = CODE + 0x800
    state["usd.lo"], state["usd.hi"] = 0x900000, rng.choice((0x10000, 0x40)) << 32
    for i in range(3):
        state.S[CTPR1 + i] = rng.choice((3, 3, 4, 2, 1)) << 54 | CODE + 8 * rng.randrange(512)
    if rng.random() < 0.5:
        state.X[Slot.CHAIN] = 2
        state.X[Slot.BOTTOM] = base - 32
        state["cr1.lo"] = rng.randrange(8) << 33 | 8 << 26
    for name, value in (("psp.lo", 0x800000), ("psp.hi", 0x100000 << 32), ("pcsp.lo", 0x900000),
                        ("pcsp.hi", 0x100000 << 32)):
        state[name] = value


COMMON = ("alc_int", "alc_cmp", "alc_mem")
"""Modules of the operations that programs are mostly made of."""


def usable(version: int) -> dict[int, list[Op]]:
    """Channel -> operations that have a handler there."""
    code = HostCode.get()
    return {channel: [op for op in table.rows() if op.meaning and not op.alias_of and op.in_channel(channel, version)
                      and code.find(op) and not op.pair] for channel in range(6)}


def random_wide(rng: random.Random, version: int, rows: dict[int, list[Op]]) -> Wide:
    """A legal wide instruction of operations that have handlers, with guards, logic, loops and transfers."""
    def register(slot: str) -> Operand:
        kind = rng.choice((Kind.R, Kind.R, Kind.B, Kind.G))
        if slot == "src1" and rng.random() < 0.15:
            return Operand(Kind.IMM, rng.randrange(32))
        if slot == "src2" and rng.random() < 0.3:
            bits = rng.choice((16, 32, 64))
            kinds = {16: Kind.LIT16, 32: Kind.LIT32, 64: Kind.LIT64}
            return Operand(kinds[bits], rng.getrandbits(bits))
        return Operand(kind, rng.randrange(12 if kind is not Kind.G else 32))

    def guards() -> tuple[Guard, ...]:
        return tuple(Guard(rng.randrange(32), rng.random() < 0.2, rng.random() < 0.5)
                     for _ in range(rng.choice((1, 1, 1, 2))))

    alu: list[AluInsn] = []
    memory: set[int] = set()
    for channel in range(6):
        if rng.random() < 0.5:
            continue
        common = [op for op in rows[channel] if op.meaning and op.meaning.__module__.endswith(COMMON)]
        op = rng.choice(common if rng.random() < 0.6 and common else rows[channel])
        if op.load or op.store:
            if {0: 5, 5: 0, 3: 2, 2: 3}.get(channel) in memory:
                continue
            memory.add(channel)
        fields: dict[str, object] = {slot: register(slot) for slot in ("src1", "src2", "src3", "src4", "dst")
                                     if slot in op.fmt.slots}
        if "pred" in op.fmt.slots:
            fields["pred"] = rng.randrange(32)
        if op.merges:
            fields["merge"] = (Guard(rng.randrange(32), False, rng.random() < 0.5),)
        elif rng.random() < 0.25:
            fields["guards"] = guards()
        alu.append(AluInsn(channel, op, rng.random() < 0.2, **fields))  # type: ignore[arg-type]
    stub, cs0, cs1 = None, None, []
    roll = rng.random()
    if roll < 0.4:
        condition = Condition(rng.choice((1, 2, 3, 4, 5, 6, 7, 14, 15)), rng.randrange(32))
        ctop = rng.randrange(4)
        flags = {name: rng.random() < 0.4 for name in ("abnf", "abnt", "abpf", "abpt", "alcf", "alct")}
        stub = Stub(ctop=ctop, condition=condition, **flags)
        if not ctop:
            cs0 = Cs0("ibranch", disp=8 * rng.randrange(-64, 64))
        elif rng.random() < 0.3:
            cs1.append(Cs1("call", {"wbs": rng.randrange(6)}))
    elif roll < 0.6:
        cs0 = Cs0("disp", rng.randrange(1, 4), disp=8 * rng.randrange(-64, 64)) if rng.random() < 0.7 \
            else Cs0("return", 3)
    if not cs1 and rng.random() < 0.2:
        if rng.random() < 0.4:
            cs1.append(Cs1("setwd", {"wsz": rng.randrange(4, 40), "nfx": rng.randrange(2), "dbl": 0, "mcn": 0}))
        if rng.random() < 0.7 or not cs1:
            cs1.append(Cs1("setbn", {"rbs": rng.randrange(4), "rsz": rng.randrange(8), "rcur": 0}))
        if rng.random() < 0.5:
            cs1.append(Cs1("setbp", {"psz": rng.randrange(32)}))
    elps: tuple[Elp | None, ...] = ()
    clps: tuple[Clp | None, ...] = ()
    if rng.random() < 0.25:
        elps = (Elp(0x60 + rng.randrange(32)), Elp(rng.choice((0, 0x60 + rng.randrange(32)))))
        clps = (Clp(rng.choice((0, 1, 3)), 0, rng.random() < 0.5, 1, rng.random() < 0.5, rng.randrange(32)),)
    return Wide(version, 8, CODE, loop_mode=rng.random() < 0.1, alu=tuple(alu), stub=stub, cs0=cs0, cs1=tuple(cs1),
                elps=elps, clps=clps)


class Twins:
    """An oracle and a native interpreter of one model."""

    def __init__(self, model: str) -> None:
        self.plain, self.native = Guest(model=model), interpreted(model)
        self.outcomes: Counter[str] = Counter()

    def load(self, data: bytes, address: int = CODE) -> None:
        """Code for both."""
        for guest in (self.plain, self.native):
            guest.space.write_bytes(address, data)

    def compare(self, wide: Wide, seed: int, dirty: float | None) -> bool:
        """Execute the wide instruction from a random state (None: a tame one); whether it was done natively."""
        for guest in (self.plain, self.native):
            rng = random.Random(seed)
            prepare(guest.state, rng, dirty or 0.0)
            if dirty is None:
                tame(guest.state, rng)
            guest.state.pc = wide.address
            guest.ram.mem[SCRATCH : SCRATCH + SCRATCH_BYTES] = rng.randbytes(SCRATCH_BYTES)
            guest.ram.harvest_dirty()
            assert guest.cpu.translator is not None
            guest.cpu.translator.fresh_memory()
        told = f"seed {seed}, tags {dirty}: {'; '.join(disassemble(wide))}"
        before = bytes(self.native.state.buffer)
        native = interpreter_of(self.native)
        left = 1
        while True:
            status, left = native.run(left)
            if not left or status not in (Status.PAGE, Status.CROSS, Status.FULL):
                break
            if not native.resolve(status, self.native.state.pc):
                break
        self.outcomes[status.name] += 1
        if left:
            assert status in (Status.STEP, Status.RAISE, Status.PAGE, Status.CROSS), (status, told)
            assert bytes(self.native.state.buffer) == before, f"{told}: it did something"
            self._same_memory(told, status == Status.RAISE)
            return False
        try:
            direct.execute(self.plain.cpu.core, wide)
        except Trap as trap:
            raise AssertionError(f"{told}: the oracle traps ({trap.exc} {trap.detail})") from None
        for part in PARTS:
            ours, theirs = (getattr(guest.state, part).tolist() for guest in (self.native, self.plain))
            assert ours == theirs, f"{told}: {part} " + ", ".join(
                f"[{index}] {a:#x} for {b:#x}" for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        assert (self.plain.ram.dirty == self.native.ram.dirty).all(), told
        self._same_memory(told, False)
        return True

    def _same_memory(self, told: str, raised: bool) -> None:
        """What was written is the same; after a trap of the second of two stores it is made the same."""
        plain, native = self.plain.ram.mem, self.native.ram.mem
        for page in self.native.ram.dirty.nonzero()[0].tolist():
            part = slice(page << 12, page + 1 << 12)
            if raised:
                native[part] = plain[part]
            assert native[part] == plain[part], f"{told}: memory at {page << 12:#x}"
