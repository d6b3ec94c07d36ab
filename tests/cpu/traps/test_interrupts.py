"""Interrupts: which are taken when, in every tier; halted CPUs; what travels."""

from __future__ import annotations

import itertools
import threading

import pytest

from e2kemu import trace
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.interrupts import Halt, maskable_allowed, non_maskable_allowed
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.state import RESET_PC
from tests.cpu.guest import CODE
from tests.cpu.traps.board import ACCELS, ACK, IE, NMI, NMIE, RAISE, SGE, STOP, UIE, UNMIE, Board, moved

SPIN = "turn:\n{ addd %dr0, 1, %dr0 }\n{ ibranch turn }\n"
COUNT = f"""
{{ setwd wsz=8, nfx=1 }}
{{ rrd,0 %tir.hi, %dr0 }}
{{ rrd,0 %psr, %dr1; addd,1 %dg20, 1, %dg20 }}
{{ rrd,0 %cr1.lo, %dr2; std,2 %dr0, [ %dg31 + _f16s 0x100 ] }}
{{ std,2 %dr1, [ %dg31 + _f16s 0x108 ]; std,5 %dr2, [ %dg31 + _f16s 0x110 ] }}
{{ std,2 %dr0, [ %dg31 + {ACK} ] }}
"""
"""A handler that counts in %dg20, says TIR.hi, PSR and CR1.lo, and lowers the pin."""
RETURN = "{ done }\n"
TELL = f"{{ std,2 %dr0, [ %dg31 + {STOP} ] }}\n"
UPSR_IE, UPSR_NMIE = 0x20, 0x80
EXC_INTERRUPT, EXC_NM_INTERRUPT = 1 << 32, 1 << 33


@pytest.mark.parametrize("accel", ACCELS)
def test_an_interrupt_from_another_thread_reaches_a_cpu_in_a_loop(accel: str) -> None:
    board = Board(SPIN, COUNT + TELL + RETURN, accel=accel, psr=1 | SGE | IE)
    board.cpu.run(2000)
    for number in range(1, 21):
        timer = threading.Timer(0.002, board.cpu.interrupts.set_interrupt, (True,))
        timer.start()
        assert board.cpu.run() == "exit"
        timer.join()
        assert board.state["g20"] == number
    assert board.said(0x100) == [EXC_INTERRUPT] * 20
    assert board.said(0x108) == [1] * 20            # privileged, nothing allowed, nothing guarded
    assert {value >> 57 for value in board.said(0x110)} == {1 | SGE | IE}
    assert board.cpu.run(100) == "limit"            # behind done
    assert board.state["psr"] == 1 | SGE | IE


@pytest.mark.parametrize("accel", ACCELS)
def test_psr_and_upsr_mask_interrupts_in_every_combination(accel: str) -> None:
    """PSR.ie allows, PSR.uie leaves it to UPSR.ie; nmie and unmie the same for the non-maskable."""
    board = Board(SPIN, COUNT + RETURN, accel=accel)
    cases = 0
    for psr_bits in itertools.product((0, IE), (0, UIE), (0, NMIE), (0, UNMIE)):
        for upsr in (0, UPSR_IE, UPSR_NMIE, UPSR_IE | UPSR_NMIE):
            psr = 1 | sum(psr_bits)
            for pin, allowed, exc in (
                (board.cpu.interrupts.set_interrupt, psr & IE and (not psr & UIE or upsr & UPSR_IE), EXC_INTERRUPT),
                (board.cpu.interrupts.set_nmi, psr & NMIE and (not psr & UNMIE or upsr & UPSR_NMIE), EXC_NM_INTERRUPT),
            ):
                board.state.pc = CODE
                board.state["psr"], board.state["upsr"], board.state["g20"] = psr, upsr, 0
                board.written.clear()
                pin(True)
                assert board.cpu.run(1) == "limit"
                pin(False)
                assert board.cpu.run(30) == "limit"
                assert board.state["g20"] == int(bool(allowed)), (psr, upsr)
                assert board.said(0x100) == [exc] * int(bool(allowed))
                cases += 1
    assert cases == 128


def test_the_masks_are_functions_of_their_registers() -> None:
    assert [maskable_allowed(psr, 0) for psr in (0, IE, IE | UIE, UIE)] == [False, True, False, False]
    assert maskable_allowed(IE | UIE, UPSR_IE)
    assert not maskable_allowed(UIE, UPSR_IE)
    assert [non_maskable_allowed(psr, 0) for psr in (0, NMIE, NMIE | UNMIE)] == [False, True, False]
    assert non_maskable_allowed(NMIE | UNMIE, UPSR_NMIE)


MASK = """
{ setwd wsz=8, nfx=1; addd 0, 0, %dg21; addd 0, 0, %dg22 }
{ nop 5; addd 0, 0x21, %dr2; addd 0, 1, %dr3 }
turn:
{ nop 5; rwd,0 %dr3, %upsr }
{ addd %dg21, 1, %dg21; std,2 %dg21, [ %dg31 + 8 ] }
{ addd %dg21, 1, %dg21; std,5 %dg20, [ %dg30 + 0 ] }
{ nop 5; rwd,0 %dr2, %upsr }
open:
{ std,2 %dg20, [ %dg30 + 8 ] }
{ ldd,0 [ %dg30 + 0 ], %dr4; ldd,3 [ %dg30 + 8 ], %dr5 }
{ subd %dr5, %dr4, %dr5 }
{ addd %dg22, %dr5, %dg22 }
{ ibranch turn }
"""


@pytest.mark.parametrize("accel", ACCELS)
def test_an_interrupt_held_back_by_upsr_comes_right_after_it_is_allowed(accel: str) -> None:
    """The guest raises its own pin while UPSR.ie is off: it comes behind the write of UPSR, not before, not later."""
    board = Board(MASK, COUNT + RETURN, accel=accel, psr=1 | IE | UIE)
    assert board.cpu.run(3000) == "limit"
    turns = board.state["g21"] // 2
    assert turns > 100
    assert abs(board.state["g20"] - turns) <= 1
    assert board.state["g20"] - board.state["g22"] in (0, 1)    # each seen between the two places


CALLS = """
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0 }
turn:
{ disp %ctpr1, quiet; addd %dg21, 1, %dg21; nop 5 }
{ call %ctpr1, wbs=8 }
{ std,2 %dg20, [ %dg30 + 0 ]; subd,0 %dg20, %dg21, %dr1 }
{ addd %dg22, %dr1, %dg22; ibranch turn }
quiet:
{ setwd wsz=8, nfx=1; addd 0, 1, %dr0; return %ctpr3 }
{ nop 5; rwd,0 %dr0, %psr }
{ std,2 %dr0, [ %dg31 + 8 ] }
{ std,2 %dg20, [ %dg30 + 8 ] }
{ ct %ctpr3 }
"""


@pytest.mark.parametrize("accel", ACCELS)
def test_a_return_that_allows_interrupts_is_followed_by_the_one_that_waits(accel: str) -> None:
    """PSR is a matter of the frame: the callee switches interrupts off and raises the pin, the return takes it."""
    board = Board(CALLS, COUNT + RETURN, accel=accel, psr=1 | IE)
    assert board.cpu.run(3000) == "limit"
    turns = board.state["g21"]
    assert turns > 100
    assert 0 <= turns - board.state["g20"] <= 1
    assert board.state["g22"] == 0                  # at the first wide instruction behind the call it had been


@pytest.mark.parametrize("accel", ACCELS)
def test_the_non_maskable_one_comes_first_and_a_pulse_once(accel: str) -> None:
    board = Board(SPIN, COUNT + RETURN, accel=accel, psr=1 | IE | NMIE)
    pins = board.cpu.interrupts
    pins.set_interrupt(True)
    pins.pulse_nmi()
    pins.pulse_nmi()
    board.state["psr"] = 1
    assert board.cpu.run(100) == "limit"
    assert board.said(0x100) == []
    board.state["psr"] = 1 | IE | NMIE
    assert board.cpu.run(8) == "limit"
    # its handler lowers the maskable pin, too
    assert board.said(0x100) == [EXC_NM_INTERRUPT]
    pins.set_interrupt(True)
    pins.pulse_nmi()
    board.written.clear()
    board.mmio_write = lambda offset, size, value: board.written.append((offset, value))  # type: ignore[method-assign]
    assert board.cpu.run(30) == "limit"
    assert board.said(0x100)[:2] == [EXC_NM_INTERRUPT, EXC_INTERRUPT]


@pytest.mark.parametrize("accel", ACCELS)
def test_an_interrupt_that_goes_before_it_is_taken_was_none(accel: str) -> None:
    board = Board(SPIN, COUNT + RETURN, accel=accel, psr=1)
    board.cpu.interrupts.set_interrupt(True)
    assert board.cpu.run(50) == "limit"
    board.cpu.interrupts.set_interrupt(False)
    board.state["psr"] = 1 | IE
    assert board.cpu.run(50) == "limit"
    assert board.written == []


@pytest.mark.parametrize("accel", ACCELS)
def test_many_interrupts_from_a_thread_are_all_taken(accel: str) -> None:
    """A new one as soon as the last was acknowledged; none is lost when it comes just between."""
    wanted = 300
    board = Board(SPIN, COUNT + RETURN, accel=accel, psr=1 | IE)
    pins, acknowledged = board.cpu.interrupts, threading.Semaphore(0)
    plain = board.mmio_write

    def device(offset: int, size: int, value: int) -> None:
        plain(offset, size, value)
        if offset == ACK:
            acknowledged.release()

    board.mmio_write = device  # type: ignore[method-assign]
    lost: list[int] = []

    def source() -> None:
        for number in range(wanted):
            pins.set_interrupt(True)
            if not acknowledged.acquire(timeout=20):
                lost.append(number)
                break
        board.cpu.request_exit()

    thread = threading.Thread(target=source)
    thread.start()
    assert board.cpu.run() == "exit"
    thread.join()
    assert not lost
    assert board.state["g20"] == wanted


# --- halted ------------------------------------------------------------------------------------------------------

WAIT_TRAP = """
{ nop 5; addd 0, 0, %dr0 }
turn:
{ wait trap=1 }
{ addd %dr0, 1, %dr0; ibranch turn }
"""
SKIP = """
{ nop 5; rrd,0 %cr0.hi, %dr3 }
{ addd %dr3, 8, %dr3 }
{ nop 5; rwd,0 %dr3, %cr0.hi }
"""


@pytest.mark.parametrize("accel", ACCELS)
def test_wait_trap_halts_until_a_trap_which_finds_it_not_executed(accel: str) -> None:
    board = Board(WAIT_TRAP, COUNT + SKIP + RETURN, accel=accel, psr=1 | IE)
    for number in range(1, 6):
        assert board.cpu.run() == "halted"
        assert board.cpu.run() == "halted"
        assert board.state.pc == board.symbols["turn"]
        assert board.state["g20"] == board.state["r0"] == number - 1
        board.cpu.interrupts.set_interrupt(True)
    assert board.cpu.run() == "halted"
    plain = Board(WAIT_TRAP, COUNT + RETURN, accel=accel, psr=1 | IE)
    plain.cpu.run()
    plain.cpu.interrupts.set_interrupt(True)
    assert plain.cpu.run() == "halted"
    assert (plain.state["g20"], plain.state["r0"]) == (1, 0)        # done waits again


@pytest.mark.parametrize(("psr", "named"), [(1, True), (1 | IE, False), (1 | NMIE, False), (1 | IE | UIE, True)])
def test_a_wait_that_nothing_can_end_is_named(psr: int, named: bool, capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("{ wait trap=1 }", COUNT + RETURN, psr=psr)
    board.state["upsr"] = 1
    trace.set_items("guest_errors")
    try:
        assert board.cpu.run() == "halted"
    finally:
        trace.set_items("none")
    told = f"CPU 0: waits for a trap at {CODE:#x} with all interrupts off: only INIT or a reset ends that\n"
    assert capsys.readouterr().err == (told if named else "")


@pytest.mark.parametrize("accel", ACCELS)
def test_wait_trap_is_not_over_with_a_masked_interrupt_and_no_matter_of_users(accel: str) -> None:
    board = Board(WAIT_TRAP, COUNT + RETURN, accel=accel, psr=1)
    assert board.cpu.run() == "halted"
    board.cpu.interrupts.set_interrupt(True)
    assert board.cpu.run() == "halted"
    board.cpu.interrupts.pulse_nmi()
    assert board.cpu.run() == "halted"
    user = Board(WAIT_TRAP, COUNT + RETURN, accel=accel, psr=0)
    assert user.cpu.run(100) == "limit"
    assert user.state["r0"] > 40


@pytest.mark.parametrize("accel", ACCELS)
def test_wait_int_is_over_with_a_pending_interrupt_masked_or_not(accel: str) -> None:
    text = "{ nop 5; addd 0, 0, %dr0 }\nturn:\n{ wait int=1 }\n{ addd %dr0, 1, %dr0; ibranch turn }\n"
    board = Board(text, COUNT + RETURN, accel=accel, psr=1, model="e16c")
    assert board.cpu.run() == "halted"
    assert board.cpu.halted == Halt.WAITS
    assert board.state.pc == board.symbols["turn"] + board.cpu.reference.fetch(board.symbols["turn"]).size
    board.cpu.interrupts.set_interrupt(True)
    assert board.cpu.run(21) == "limit"             # it stays pending: no wait is one
    assert board.state["r0"] > 5
    board.cpu.interrupts.set_interrupt(False)
    assert board.cpu.run() == "halted"
    before = board.state["r0"]
    board.cpu.interrupts.pulse_nmi()
    assert board.cpu.run(1) == "limit"
    assert board.state["r0"] == before + 1
    assert board.written == []


def test_a_cpu_but_the_first_is_stopped_after_reset_and_started_at_a_page() -> None:
    board = Board(SPIN, COUNT)
    cpu = Cpu(1, MODELS["e8c"], board.space, accel="reference")
    cpu.reset()
    assert cpu.run() == "halted"
    cpu.interrupts.set_interrupt(True)
    cpu.interrupts.pulse_nmi()
    assert cpu.run() == "halted"
    assert cpu.halted == Halt.STOPPED
    cpu.interrupts.startup(0)
    cpu.interrupts.set_interrupt(False)
    cpu.obey()
    assert cpu.state.pc == RESET_PC
    cpu.interrupts.init()
    cpu.interrupts.startup(CODE >> 12)
    assert cpu.run(10) == "limit"
    assert cpu.state["r0"] == 5
    cpu.interrupts.startup(0)                       # it runs: nothing
    assert cpu.run(10) == "limit"
    assert cpu.state["r0"] == 10
    cpu.interrupts.init()
    assert cpu.run(10) == "halted"
    assert cpu.state.pc == RESET_PC


def test_who_may_wake_a_cpu_is_told_and_an_idle_one_wakes_for_what_it_takes() -> None:
    board = Board(SPIN, COUNT + RETURN, psr=1)
    calls: list[int] = []
    board.cpu.interrupts.wake = lambda: calls.append(1)
    board.cpu.idle_until = 1000
    board.cpu.interrupts.set_interrupt(True)
    assert board.cpu.run() == "idle"                # masked
    board.state["psr"] = 1 | IE
    assert board.cpu.run(20) == "limit"
    assert board.state["g20"] == 1
    board.cpu.idle_until = 1000
    board.cpu.interrupts.set_interrupt(True)
    assert board.cpu.idle_until is None
    board.cpu.interrupts.set_interrupt(False)
    assert len(calls) == 2


# --- what travels ------------------------------------------------------------------------------------------------

def test_pins_and_halts_travel() -> None:
    board = Board(WAIT_TRAP, COUNT + RETURN, accel="interp", psr=1)
    assert board.cpu.run() == "halted"
    board.cpu.interrupts.set_interrupt(True)
    board.cpu.interrupts.pulse_nmi()
    cpu = moved(board)
    assert cpu.halted == Halt.TRAPPED
    pins = cpu.interrupts
    assert (pins.level, pins.nmi_level, pins.nmi_pulse) == (True, False, True)
    cpu.state["psr"] = 1 | NMIE
    assert cpu.run(3) == "limit"
    assert cpu.state["g20"] == 1


def test_a_startup_that_was_not_obeyed_yet_is_obeyed_before_the_state_leaves() -> None:
    board = Board(SPIN, COUNT)
    board.cpu.index = 1
    board.cpu.reset()
    board.cpu.interrupts.startup(CODE >> 12)
    cpu = moved(board, 1)
    assert cpu.halted == Halt.RUNS
    assert cpu.run(10) == "limit"
    assert cpu.state["r0"] == 5


def test_a_reset_forgets_pulses_and_commands_and_stops_all_but_the_first() -> None:
    board = Board(SPIN, COUNT)
    pins = board.cpu.interrupts
    pins.pulse_nmi()
    pins.startup(5)
    board.cpu.reset()
    assert not pins.pending
    assert not pins.commands
    assert board.cpu.halted == Halt.RUNS
    assert RAISE != NMI
