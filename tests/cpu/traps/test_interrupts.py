"""Interrupts: which are taken when, in every tier; halted CPUs; what travels."""

from __future__ import annotations

import threading

import pytest

from tests.cpu.traps.board import ACCELS, ACK, IE, SGE, STOP, Board

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
    assert board.said(0x100) == [1 << 32] * 20      # exc_interrupt alone
    assert board.said(0x108) == [1] * 20            # privileged, nothing allowed, nothing guarded
    assert {value >> 57 for value in board.said(0x110)} == {1 | SGE | IE}
    assert board.cpu.run(100) == "limit"            # behind done
    assert board.state["psr"] == 1 | SGE | IE
