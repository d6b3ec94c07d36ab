"""Every operation of the table has a case that an operation doing nothing would fail: a walk over all rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import rows
from e2kemu.cpu.isa.unknown import reason
from e2kemu.machine.config import ACCELERATORS
from tests.cpu.guest import CODE, Guest
from tests.guest.cases import Case, found, golden, passes, prepare
from tests.guest.harness import Runner
from tests.guest.own_cases import own

VERSIONS = sorted({model.version for model in MODELS.values()})


@cache
def telling() -> dict[Op, Case]:
    """For every operation a case that it would fail if it did nothing; golden vectors first."""
    chosen: dict[Op, Case] = {}
    for case in (*golden(), *own()):
        if case.op not in chosen and case.tells:
            chosen[case.op] = case
    return chosen


def executed() -> list[Op]:
    """The operations of the CPU models that do something."""
    return [op for op in rows()
            if not op.alias_of and op.meaning is not None and any(op.channels[version] for version in VERSIONS)]


def guests() -> Callable[[str], Guest]:
    """One guest per CPU model."""
    return cache(lambda model: Guest(model=model))


def test_every_operation_has_a_case_that_tells_it_from_one_that_does_nothing() -> None:
    names = [op.name for op in executed() if op not in telling()]
    assert not names
    assert len(executed()) > 1700


def test_an_operation_without_a_meaning_is_one_that_nobody_describes() -> None:
    without = [op for op in rows() if not op.alias_of and op.meaning is None]
    assert [op.name for op in without if reason(op) is None and any(op.channels[version] for version in VERSIONS)] == []


def test_the_case_of_every_operation_passes_and_fails_without_the_operation() -> None:
    """The same wide instruction is executed with the operation, and empty."""
    guest_of, wrong, done = guests(), [], 0
    for op, case in telling().items():
        guest = guest_of(case.model)
        nothing = Wide(guest.cpu.model.version, 8, CODE)
        if not passes(guest, case, case.wide()) or passes(guest, case, nothing):
            wrong.append((op.name, found(guest, case), case.after))
        done += 1
    assert not wrong
    assert done > 1700


def test_all_cases_of_our_own_pass() -> None:
    guest_of, wrong, done = guests(), [], 0
    for case in own():
        if not passes(guest_of(case.model), case, case.wide()):
            wrong.append((case.op.name, found(guest_of(case.model), case), case.after))
        done += 1
    assert not wrong
    assert done > 800


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_cases_of_our_own_pass_in_every_executor(accel: str) -> None:
    """One of every operation; of the executor that compiles each of them long some operations only."""
    chosen = {case.op: case for case in own() if case.tells}
    done = 0
    runners: dict[str, Runner] = {}
    for case in list(chosen.values())[:: 2 if accel == "jit" else 1]:
        if case.model not in runners:
            runners[case.model] = Runner(case.model, accel)
        guest = runners[case.model]
        code = encode(case.wide())
        prepare(guest, case)
        guest.space.write_bytes(CODE, code)
        guest.cpu.invalidate(CODE, len(code))
        assert guest.cpu.run(1) == "limit", (case.op.name, guest.cpu.fatal_message)
        assert found(guest, case) == dict(case.after), case.op.name
        done += 1
    assert done > 40
