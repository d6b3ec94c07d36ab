"""The native interpreter against the oracle: every operation it has, and random wide instructions of every kind."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from e2kemu.cpu.check import check
from e2kemu.cpu.decode import decode
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.native.interp.build import HostCode
from e2kemu.cpu.native.interp.interpreter import tables
from e2kemu.errors import ImageError
from tests.cpu.guest import CODE
from tests.cpu.native.interp_cases import MODEL_OF, Twins, random_wide, usable
from tests.cpu.test_every_operation import instruction
from tests.framework.seeds import chosen_seed
from tests.fuzz.code import random_bundle

BUNDLES = 200
"""Random wide instructions for each instruction set, executed from four states."""
VERSIONS = sorted(MODEL_OF)
"""Instruction sets that a CPU model has."""


def newest(version: int) -> list[Op]:
    """The rows that this instruction set is the last one to have."""
    return [op for op in table.rows() if op.meaning and not op.alias_of and op.channels[version]
            and not any(op.channels[later] for later in VERSIONS if later > version)]


@pytest.mark.parametrize("part", range(4))
def test_every_operation_does_natively_what_the_oracle_does(part: int) -> None:
    seed = chosen_seed()
    rng = random.Random(f"{seed}/{part}")
    done: set[str] = set()
    met: set[str] = set()
    code = HostCode.get()
    for version in VERSIONS:
        twins = Twins(MODEL_OF[version])
        for op in newest(version)[part::4]:
            if not code.find(op):
                continue
            insn = instruction(op, version)
            wide = Wide(version, 8, CODE, alu=(insn,))
            data = encode(wide)
            twins.load(data + b"\xff" * 64)
            wide = decode(data, version, CODE)
            met.add(op.name)
            for attempt in range(12):
                if twins.compare(wide, rng.getrandbits(40), None if attempt < 8 else 0.0 if attempt < 10 else 0.1):
                    done.add(op.name)
    print(f"{len(met)} operations, {len(met - done)} never clean: {sorted(met - done)[:40]}")
    assert len(met) > 350
    assert len(met - done) < len(met) // 20


@pytest.mark.parametrize("version", VERSIONS)
def test_random_wide_instructions_do_natively_what_the_oracle_does(version: int) -> None:
    seed = chosen_seed()
    rng = random.Random(f"{seed}/{version}")
    twins, rows = Twins(MODEL_OF[version]), usable(version)
    kinds: Counter[str] = Counter()
    for _ in range(BUNDLES):
        try:
            data = encode(random_wide(rng, version, rows))
        except ImageError:
            continue
        wide = decode(data, version, CODE)
        assert check(wide) is None
        twins.load(data + b"\xff" * 64)
        native = sum(twins.compare(wide, rng.getrandbits(40), rng.choice((None, None, 0.0, 0.02))) for _ in range(4))
        kinds["native" if native else "left to the reference tier"] += 1
    print(dict(kinds), dict(twins.outcomes))
    assert kinds["native"] > kinds.total() // 3


@pytest.mark.parametrize("version", VERSIONS)
def test_wide_instructions_of_random_syllables_are_done_right_or_left_alone(version: int) -> None:
    seed = chosen_seed()
    rng = random.Random(f"{seed}/{version}")
    twins = Twins(MODEL_OF[version])
    kinds: Counter[str] = Counter()
    for _ in range(150):
        try:
            data = random_bundle(rng, version)
            wide = decode(data, version, CODE)
        except ImageError:
            continue
        twins.load(data + b"\xff" * 64)
        legal = check(wide) is None
        native = sum(twins.compare(wide, rng.getrandbits(40), rng.choice((None, 0.02))) for _ in range(2))
        assert legal or not native, data.hex()
        kinds["native" if native else "legal, left to the reference tier" if legal else "illegal"] += 1
    print(dict(kinds), dict(twins.outcomes))
    assert kinds["illegal"] > 5


def test_most_of_the_description_has_handlers() -> None:
    for version in VERSIONS:
        made = tables(version)
        print(f"v{version}: {made.covered} of {made.rows} rows")
        assert made.covered > made.rows * 4 // 5
