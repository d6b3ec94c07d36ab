"""Every floating-point operation against golden vectors, in the oracle and in translated code."""

from __future__ import annotations

from collections import Counter

from e2kemu.cpu.decode import decode
from e2kemu.cpu.direct import execute
from e2kemu.cpu.isa import table
from tests.cpu.fp.cases import by_code, cases, described, expected, found, prepare
from tests.cpu.guest import CODE

WITHOUT_VECTORS = {
    *(f"fscale{size}" for size in "sd"), "fxscalesx", "frcps", "frsqrts", "fsqrtid",
    *(f"fxsqrt{step}{form}" for step in "iu" for form in ("sx", "dx", "xx")),
}
"""Nothing independent tells what these give; test_doubts.py has them."""


def test_every_operation_has_twenty_vectors() -> None:
    count = Counter(case.op.name for case in cases())
    # the first instruction set had a second multiplication
    names = {op.name for op in described() if op.channels[6]} - WITHOUT_VECTORS
    assert len(names) >= 330
    assert [name for name in sorted(names) if count[name] < 20] == []


def test_no_row_of_floating_point_is_without_a_meaning() -> None:
    rows = [op for op in table.rows() if op.family.startswith("fp")]
    assert len(rows) >= 350
    assert [op.name for op in rows if op.meaning is None] == []


def test_the_oracle_gives_the_golden_results_and_flags() -> None:
    golden = 0
    for guest, case, data in by_code(cases()):
        prepare(guest, case)
        execute(guest.cpu.core, decode(data, guest.cpu.model.version, CODE))
        assert found(guest) == expected(case), case
        golden += case.golden
    assert golden >= 15_800


def test_translated_code_gives_the_golden_results_and_flags() -> None:
    golden = 0
    for guest, case, _ in by_code(cases()):
        prepare(guest, case)
        assert guest.cpu.run(1) == "limit", guest.cpu.fatal_message
        assert found(guest) == expected(case), case
        golden += case.golden
    assert golden >= 15_800


def test_host_code_gives_the_golden_results_and_flags() -> None:
    """Every sixth; what host code leaves to the other tiers comes from there."""
    golden, before, translators = 0, None, set()
    for guest, case, data in by_code(cases()[::6]):
        translator = guest.cpu.translator
        assert translator is not None
        if data != before:
            translator.clear()
            translator.eager, translator.level, before = True, 0, data
            translators.add(translator)
        prepare(guest, case)
        assert guest.cpu.run(1) == "limit", guest.cpu.fatal_message
        assert found(guest) == expected(case), case
        golden += case.golden
    assert golden >= 2_600
    assert sum(translator.statistics.executed for translator in translators) >= 300
