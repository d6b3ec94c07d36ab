"""Generated code against the oracle: random wide instructions of every kind, for every instruction set."""

from __future__ import annotations

import random

import pytest

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.decode import decode
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.cpu.isa.table import by_name
from e2kemu.errors import ImageError
from e2kemu.machine.config import ACCELERATORS
from tests.cpu.guest import CODE
from tests.cpu.native.interp_cases import MODEL_OF, random_wide, usable
from tests.cpu.native.jit_cases import Pairs
from tests.framework.seeds import chosen_seed

BUNDLES, STATES = 60, 6


@pytest.mark.parametrize("version", sorted(MODEL_OF))
def test_a_region_of_one_wide_instruction_does_what_the_oracle_does(version: int) -> None:
    seed = chosen_seed()
    rng = random.Random(f"{seed}/{version}")
    pairs, rows = Pairs(MODEL_OF[version], "jit"), usable(version)
    for _ in range(BUNDLES):
        try:
            data = encode(random_wide(rng, version, rows))
        except ImageError:
            continue
        wide = decode(data, version, CODE)
        pairs.load(data)
        for _ in range(STATES):
            pairs.compare(wide, rng.getrandbits(40), rng.choice((None, None, 0.0, 0.02)))
    translator = pairs.tier.cpu.translator
    assert translator is not None
    print(dict(pairs.outcomes), translator.statistics.executed, "in generated code")
    assert translator.statistics.failed == 0
    assert translator.statistics.executed > BUNDLES // 2


def an_access_through_a_pair(src1: Operand, guards: tuple[Guard, ...]) -> bytes:
    """ldapw on channel 2 of instruction set v3."""
    insn = AluInsn(2, by_name("ldapw")[0], src1=src1, src2=Operand(Kind.G, 16), dst=Operand(Kind.R, 9), guards=guards)
    return encode(Wide(3, 8, CODE, alu=(insn,)))


@pytest.mark.parametrize("accel", ACCELERATORS)
@pytest.mark.parametrize("src1", [Operand(Kind.IMM, 28), Operand(Kind.R, 6)])
@pytest.mark.parametrize("guards", [(), (Guard(26, False, True),)])
def test_an_operation_that_always_traps_where_it_happens_is_left_alone_elsewhere(
    accel: str, src1: Operand, guards: tuple[Guard, ...]
) -> None:
    data = an_access_through_a_pair(src1, guards)
    pairs = Pairs(MODEL_OF[3], accel)
    pairs.load(data)
    for seed in range(20):
        pairs.compare(decode(data, 3, CODE), seed, (0.0, 0.3)[seed & 1])
    assert pairs.outcomes.total() == 20


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_the_stack_moves_as_the_last_of_two_getsp_says_even_by_nothing(accel: str) -> None:
    data = assemble("{ getsp,0 _f16s 0x5809, %dr8; getsp,3 %r5, %dg10 }", version=4, base=CODE).data
    pairs = Pairs(MODEL_OF[4], accel)
    pairs.load(data)
    for seed in range(60):
        pairs.compare(decode(data, 4, CODE), seed, (None, 0.0)[seed & 1])
    assert pairs.outcomes["done"] > 20


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_a_load_that_does_not_happen_leaves_a_register_that_enters_the_window_empty(accel: str) -> None:
    data = assemble("{ setwd wsz=0x25; ldd,5 %r2, 8, %dr20 ? ~%pred7 }", version=5, base=CODE).data
    pairs = Pairs(MODEL_OF[5], accel)
    pairs.load(data)
    for seed in range(60):
        pairs.compare(decode(data, 5, CODE), seed, (None, 0.0)[seed & 1])
    assert pairs.outcomes["done"] > 20


@pytest.mark.parametrize("accel", ACCELERATORS)
@pytest.mark.parametrize("version", [5, 6])
def test_a_speculative_store_under_a_mask_is_dropped_where_its_address_is_not_aligned(
    accel: str, version: int
) -> None:
    # 8-aligned addresses: enough from version 6 on
    data = assemble("{ stmqp,5,sm %qpr2, [ %dr8 + %dr9 ] }", version=version, base=CODE).data
    pairs = Pairs(MODEL_OF[version], accel)
    pairs.load(data)
    for seed in range(80):
        pairs.compare(decode(data, version, CODE), seed, 0.0)
    assert pairs.outcomes["done"] > 40
