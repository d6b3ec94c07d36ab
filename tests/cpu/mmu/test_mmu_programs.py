"""Random programs under random page tables, in every tier: loads, stores, speculative loads, entries that change with
a flush behind them, a switch to user code. What must come out is told by a model made from the documents."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from e2kemu.cpu import direct
from e2kemu.cpu.asm import assemble
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, STACKS, Guest
from tests.cpu.mmu.tables import FAULTS, KINDS, MODEL, READ, WRITE, Tables, bits
from tests.framework.seeds import chosen_seed

TIERS = ("oracle", "reference", "interp", "jit")
BASE = 0x7654_0000_0000
PAGES = [BASE + number * 0x1000 for number in range(6)] + [BASE + 0x4000_0000, BASE + 0x4000_1000]
FRAMES = [0x100_0000 + number * 0x1000 for number in range(5)]
LARGE, LARGE_FRAME = BASE + 0x8000_0000, 0x140_0000
ROOT, HIGH_ROOT, LENGTH, FIRST = 0x200_0000, 0x200_1000, 40, 24
CODE_BYTES = 0x4000
ROUNDS = {"oracle": 4, "reference": 3, "interp": 4, "jit": 1}
"""Programs: host code is made anew for each."""
FAILED = 0x4AFAFAFA4AFAFAFA


@dataclass
class Step:
    """A wide instruction: a load or store of ``size`` bytes at ``base`` + ``offset``, a changed entry, "user"."""

    kind: str
    base: int = 0
    offset: int = 0
    size: int = 8
    value: int = 0
    speculative: bool = False

    @property
    def address(self) -> int:
        return self.base + self.offset


Fault = tuple[int, int, frozenset[str]]
"""The step, the address where it faulted, and how."""


@dataclass
class Outcome:
    """What the model says: faults (their steps do nothing else), registers loaded, entries marked or perhaps not."""

    faults: list[Fault] = field(default_factory=list)
    loaded: dict[int, tuple[int, int]] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)


class Model(Tables):
    """Tables of a guest, and a program on them, executed as the documents say."""

    def run(self, steps: list[Step]) -> Outcome:
        """Execute on the memory itself."""
        outcome, privileged = Outcome(), True
        for number, step in enumerate(steps):
            if step.kind == "user":
                privileged = False
            elif step.kind == "entry":
                self.put(step.address, step.value)
            else:
                self._access(outcome, number, step, privileged)
        return outcome

    def _access(self, outcome: Outcome, number: int, step: Step, privileged: bool) -> None:
        access = WRITE if step.kind == "store" else READ
        cells, entries = [], {}
        for at in range(step.address, step.address + step.size):
            faults, level, physical, _ = self.expected(at, access, privileged)
            if faults:
                if step.speculative and "page_miss" not in faults:
                    outcome.loaded[number] = FAILED, 5
                else:
                    outcome.faults.append((number, at, frozenset(faults)))
                # a part that could be reached may be marked or not
                outcome.unsure |= set(entries)
                return
            entries[self.place(at, level)] = bits(self.new, "A", *(("D",) if access == WRITE else ()))
            cells.append(physical | at & 0xFFF)
        for place, marks in entries.items():
            self.put(place, self.read(place) | marks)
        if access == WRITE:
            for cell, byte in zip(cells, step.value.to_bytes(8, "little"), strict=False):
                self.ram.write(cell, bytes((byte,)))
        else:
            outcome.loaded[number] = int.from_bytes(b"".join(self.ram.read(cell, 1) for cell in cells), "little"), 0


def entry(rng: random.Random, tables: Tables) -> int:
    """An entry that usually allows something."""
    names = [name for name in ("W", "A", "D", "G", "NX") if rng.random() < 0.6]
    often = {"P": 0.9, "VALID": 0.93, "PV": 0.25, "INT_PR": 0.05}
    names += [name for name, part in often.items() if rng.random() < part]
    return rng.choice(FRAMES) | bits(tables.new, *names)


def prepare(seed: int, version: int, new: bool, separate: bool, tier: str) -> tuple[Guest, Model]:
    """A guest with its tables; code and stacks are mapped for all. ``separate``: what else is has a root of its own."""
    rng = random.Random(seed)
    guest = Guest(model=MODEL[version], accel=tier if tier in ("interp", "jit") else "jit")
    for frame in FRAMES:
        guest.space.write_bytes(frame, rng.randbytes(0x1000))
    guest.space.write_bytes(LARGE_FRAME, rng.randbytes(0x4000))
    mmu = guest.cpu.mmu
    if version >= 3:
        guest.cpu.core.write_sreg(4, (1 << 5 if new else 0) | (1 << 2 if separate else 0))
    tables = Model(version, new, ROOT, HIGH_ROOT + 0x1000, guest.space, guest.ram, mmu)
    if separate:
        tables.boundary, tables.high_root = 0x1000_0000_0000, HIGH_ROOT
        mmu.write_register(0x35, tables.high_root)
        mmu.write_register(0x4C, tables.boundary)
    for page in PAGES:
        tables.put(tables.place(page, 0), entry(rng, tables))
    tables.map(LARGE, LARGE_FRAME, "W", *(["PV"] if rng.random() < 0.3 else []), level=1)
    if version == 2:
        tables.map(LARGE + 0x20_0000, LARGE_FRAME, "W", level=1)
    for page in range(STACKS, STACKS + 0x30_0000, 0x1000):
        tables.map(page, page, "W", "PV", "A", "D")
    for page in range(CODE, CODE + CODE_BYTES, 0x1000):
        tables.map(page, page, "A")
    return guest, tables


def program(seed: int, tables: Model) -> list[Step]:
    rng = random.Random(seed + 1)
    user_at = rng.randrange(LENGTH // 2, LENGTH + 8)
    steps = []
    near = rng.sample(PAGES, 3)
    while len(steps) < LENGTH:
        if len(steps) == user_at:
            steps.append(Step("user"))
        roll = rng.random()
        if roll < 0.08 and len(steps) < user_at:
            page = rng.choice(PAGES)
            steps.append(Step("entry", tables.place(page, 0), value=entry(rng, tables), offset=0, size=page))
            continue
        size = rng.choice((1, 2, 4, 8))
        base = rng.choice(near) if rng.random() < 0.8 else rng.choice([*PAGES, LARGE])
        offset = rng.choice((rng.randrange(0x1000 - size), rng.randrange(8) * 8, 0x1000 - rng.randrange(1, 8)))
        if roll < 0.5:
            steps.append(Step("load", base, offset, size, speculative=rng.random() < 0.4))
        else:
            steps.append(Step("store", base, offset, size, rng.getrandbits(8 * size)))
    return steps


def text_of(steps: list[Step], bases: dict[int, int]) -> str:
    """The program; bases of pages are in registers. Steps count from the third wide instruction on."""
    lines, letters = [], {1: "b", 2: "h", 4: "w", 8: "d"}
    for number, step in enumerate(steps):
        label = f"s{number}: "
        if step.kind == "user":
            lines.append("{ rwd %dr2, %psr }")
        elif step.kind == "entry":
            lines.append(f"addd 0, {step.value:#x}, %dr3")
            lines.append(f"addd 0, {step.size:#x}, %dr4")
            lines.append(f"std,2 %dr3, 0, {step.address:#x}, mas=1")
            lines.append("std,2 %dr4, 0, 1, mas=0x17")
        elif step.kind == "load":
            kind = f"ld{letters[step.size]},{number % 2 * 3}" + (",sm" if step.speculative else "")
            lines.append(f"{label}{kind} %dr{bases[step.base]}, {step.offset}, %dr{FIRST + number}")
        else:
            kind, source = f"st{letters[step.size]},{2 + number % 2 * 3}", "%dr3" if step.size == 8 else "%r3"
            lines.append(f"addd 0, {step.value:#x}, %dr3")
            lines.append(f"{label}{kind} {source}, %dr{bases[step.base]}, {step.offset}")
    return "\n".join(lines)


def names_of(condition: int) -> frozenset[str]:
    return frozenset(name for name, bit in FAULTS.items() if condition >> bit & 1)


class Machine:
    """A guest that executes a program in a tier, and skips what faults."""

    def __init__(self, guest: Guest, tier: str, steps: list[Step]) -> None:
        self.guest, self.tier = guest, tier
        self.faults: list[Fault] = []
        self.ended = False
        bases = sorted({step.base for step in steps if step.kind in ("load", "store")})
        registers = {base: 8 + number for number, base in enumerate(bases)}
        assert len(bases) <= FIRST - 8
        text = "{ setwd wsz=40, nfx=1 }\n"
        text += "".join(f"addd 0, {base:#x}, %dr{register}\n" for base, register in registers.items())
        text += "rrd %psr, %dr2\nandnd %dr2, 1, %dr2\n" + text_of(steps, registers) + "\n{ setsft }\n"
        image = assemble(text, version=guest.cpu.model.version, base=CODE)
        assert len(image.data) < CODE_BYTES
        guest.space.write_bytes(CODE, image.data)
        self.steps = {address: int(name[1:]) for name, address in image.symbols.items() if name[0] == "s"}
        guest.state.pc = CODE
        guest.cpu.mmu.write_register(4, ROOT)
        guest.cpu.mmu.write_register(0, 1)

    def skip(self, trap: Trap) -> bool:
        """Note a fault and go on behind it."""
        guest = self.guest
        pc = guest.state.pc
        if BY_BIT[trap.exc].name == "exc_software_trap":
            self.ended = True
            guest.cpu.request_exit()
            return True
        assert BY_BIT[trap.exc].name == "exc_data_page", trap
        assert trap.fault is not None
        self.faults.append((self.steps[pc], trap.fault.virtual, names_of(trap.fault.fault_type)))
        guest.state.pc = pc + guest.cpu.reference.fetch(pc).size
        return True

    def run(self) -> None:
        """To the end."""
        guest = self.guest
        if self.tier == "oracle":
            guest.cpu.core.attach_memory()
            while not self.ended:
                try:
                    direct.execute(guest.cpu.core, guest.cpu.reference.fetch(guest.state.pc))
                except Trap as trap:
                    self.skip(trap)
            return
        guest.cpu.core.trap_hook = self.skip
        if self.tier == "reference":
            guest.cpu.translator = None
        if self.tier == "jit":
            assert guest.cpu.translator is not None
            guest.cpu.translator.eager = True
        assert guest.cpu.run(10_000) == "exit"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("version", "new", "separate"), [*((*kind, False) for kind in KINDS), (6, True, True)])
def test_random_programs_under_random_tables(version: int, new: bool, separate: bool, tier: str) -> None:
    start, rounds, faults, done = chosen_seed(), ROUNDS[tier], 0, 0
    for seed in range(start, start + rounds):
        model = prepare(seed, version, new, separate, "reference")[1]
        steps = program(seed, model)
        outcome = model.run(steps)
        guest, tables = prepare(seed, version, new, separate, tier)
        machine = Machine(guest, tier, steps)
        machine.run()
        assert machine.faults == outcome.faults, seed
        for number, (value, tag) in outcome.loaded.items():
            got = guest.state[f"r{FIRST + number}"], guest.state[f"r{FIRST + number}.tag"]
            assert got == (value, tag), (seed, number, steps[number])
        for frame in [*FRAMES, LARGE_FRAME]:
            assert guest.ram.read(frame, 0x4000) == model.ram.read(frame, 0x4000), (seed, hex(frame))
        for page, level in [*((page, 0) for page in PAGES), (LARGE, 1)]:
            place = tables.place(page, level)
            unsure = bits(new, "A", "D") if place in outcome.unsure else 0
            assert tables.read(place) & ~unsure == model.read(place) & ~unsure, (seed, hex(page))
        faults += len(outcome.faults)
        done += len(outcome.loaded)
    assert faults >= rounds
    assert done >= 5 * rounds
