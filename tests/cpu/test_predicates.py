"""Predicate logic, guards and conditions, with diagnostic predicates."""

from __future__ import annotations

import pytest

from tests.cpu.guest import Guest

FALSE, TRUE, DIAG, DIAG1 = 0, 1, 2, 3


def logic(name: str, a: int, b: int, old: int = FALSE) -> int:
    guest = Guest(f"{{ pass %pred1, @p0; pass %pred2, @p1; {name} @p0, @p1, @p4; pass @p4, %pred3 }}")
    guest.state["pred1"], guest.state["pred2"], guest.state["pred3"] = a, b, old
    assert guest.cpu.step() == "limit"
    return guest.state["pred3"]


@pytest.mark.parametrize(("a", "b", "expected"), [
    (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1), (DIAG, 1, DIAG), (1, DIAG, DIAG), (0, DIAG, DIAG), (DIAG, 0, DIAG)])
def test_andp_is_strict(a: int, b: int, expected: int) -> None:
    assert logic("andp", a, b) & (expected | 2) == expected


@pytest.mark.parametrize(("a", "b", "expected"), [
    (0, 1, 0), (1, 1, 1), (0, DIAG, 0), (0, DIAG1, 0), (1, DIAG, DIAG), (DIAG, 1, DIAG)])
def test_landp_does_not_look_at_the_second_when_the_first_is_false(a: int, b: int, expected: int) -> None:
    assert logic("landp", a, b) & (expected | 2) == expected


@pytest.mark.parametrize(("a", "b", "old", "expected"), [
    (1, 1, 0, 1), (1, 0, 1, 0), (0, 1, 0, 0), (0, 0, 1, 1), (0, DIAG, 1, 1), (1, DIAG, 1, DIAG), (DIAG, 1, 1, DIAG)])
def test_movep_writes_only_when_the_first_is_true(a: int, b: int, old: int, expected: int) -> None:
    assert logic("movep", a, b, old) & (expected | 2) == expected


@pytest.mark.parametrize(("text", "exc"), [
    ("addd,0 0, 1, %dr0 ? %pred0", "exc_diag_cond"),
    ("ibranch 8 ? %pred0", "exc_diag_ct_cond"),
    ("addd,0 0, 1, %dr0 ? ~%pred0, %pcnt3", "exc_diag_cond")])
def test_a_diagnostic_predicate_traps_what_is_not_speculative(text: str, exc: str) -> None:
    guest = Guest(f"{{ {text} }}")
    guest.state["pred0"] = DIAG
    assert guest.cpu.step() == "fatal"
    assert guest.cpu.fatal_reason.startswith(exc)


def test_a_speculative_operation_under_a_diagnostic_predicate_has_a_diagnostic_result() -> None:
    guest = Guest("{ addd,0,sm 0, 1, %dr0 ? %pred0 }")
    guest.state["pred0"] = DIAG
    assert guest.cpu.step() == "limit"
    assert (guest.state["r0"], guest.state["r0.tag"]) == (0x4000000040000001, 5)


def test_a_false_pcnt_hides_a_diagnostic_predicate() -> None:
    guest = Guest("{ addd,0 0, 1, %dr0 ? %pred0, %pcnt0 }")
    guest.state["pred0"], guest.state["r0"], guest.state["lsr"] = DIAG, 9, 1 << 48
    assert guest.cpu.step() == "limit"
    assert guest.state["r0"] == 9


def test_a_failed_speculative_load_is_diagnostic_and_its_use_traps() -> None:
    guest = Guest("{ ldd,0,sm %dr1, 0, %dr0 }\n{ addd,0 %dr0, 1, %dr2 }")
    guest.state["r1"] = 0xDEAD_0000_0000
    assert guest.cpu.step() == "limit"
    assert (guest.state["r0"], guest.state["r0.tag"]) == (0x4AFAFAFA4AFAFAFA, 5)
    assert guest.cpu.step() == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_diag_operand")


def test_the_higher_channel_wins_and_reads_see_old_values() -> None:
    guest = Guest("{ addd,0 %dr0, 1, %dr0; addd,1 %dr0, 2, %dr1; addd,3 %dr1, 100, %dr0 }")
    guest.state["r0"], guest.state["r1"] = 10, 20
    assert guest.cpu.step() == "limit"
    assert (guest.state["r0"], guest.state["r1"]) == (120, 12)


def test_the_higher_channel_wins_over_a_load_and_over_conditions() -> None:
    guest = Guest("{ ldd,0 %dg1, 0, %dr0; addd,1 0, 3, %dr0; addd,3 0, 4, %dr0 ? %pred0; addd,4 0, 5, %dr0 ? %pred1 }")
    for pred0, pred1, expected in ((0, 0, 3), (1, 0, 4), (0, 1, 5), (1, 1, 5)):
        guest.state.pc = 0x10000
        guest.state["g1"], guest.state["pred0"], guest.state["pred1"] = 0x20000, pred0, pred1
        assert guest.cpu.step() == "limit"
        assert guest.state["r0"] == expected
