"""The hardware's stacks in memory: bounds that PSR.sge guards, handlers that make them larger, flushes; and what a
return can ask for: last wishes, single steps."""

from __future__ import annotations

import pytest

from e2kemu.cpu.isa.traps import BY_NAME
from tests.cpu.guest import STACKS
from tests.cpu.traps.board import ACCELS, IE, SGE, Board, alike

RECURSE = """
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; disp %ctpr1, f; nop 5 }
{ addd 0, DEPTH, %db[0] }
{ call %ctpr1, wbs=8 }
end: { addd 0, %db[0], %dg20 }
{ ibranch end }
f:
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; cmpedb,3 %dr0, 0, %pred0; disp %ctpr1, f; nop 3 }
{ subd,0 %dr0, 1, %db[0]; addd,3 %dr0, 0, %dr2; return %ctpr3 }
{ ct %ctpr3 ? %pred0 }
{ disp %ctpr1, f; nop 5 }
{ call %ctpr1, wbs=8 }
{ addd,0 %db[0], %dr2, %dr0; return %ctpr3; nop 5 }
{ ct %ctpr3 }
"""
GROW = """
{ setwd wsz=8, nfx=1; addd,1 %dg21, 1, %dg21 }
{ nop 3; rrd,0 %tir.hi, %dr0 }
{ nop 3; rrd,0 %NAME.hi, %dr1; ord,1 %dg22, %dr0, %dg22 }
{ addd,0 %dr1, _f64 0x0000100000000000, %dr1 }
{ nop 5; rwd,0 %dr1, %NAME.hi }
{ done }
"""
"""A handler that gives the stack 4096 bytes more, counts in %dg21 and collects TIR.hi in %dg22."""
DEPTH = 120
PROC, CHAIN = "psp", "pcsp"


def limits(board: Board) -> None:
    board.state["psp.hi"] = board.state["pcsp.hi"] = 0x1000 << 32


@pytest.mark.parametrize(("grown", "other", "name"), [(PROC, CHAIN, "proc"), (CHAIN, PROC, "chain")])
def test_a_handler_enlarges_a_stack_and_the_call_goes_on(grown: str, other: str, name: str) -> None:
    """120 calls put 120 * 8 quads on the procedure stack, less what stays in registers, 120 entries on the chain."""
    def setup(board: Board) -> None:
        limits(board)
        board.state[f"{other}.hi"] = 0x80000 << 32
        if grown == CHAIN:
            board.state["pcsp.hi"] = 0x200 << 32
    board = alike(RECURSE.replace("DEPTH", str(DEPTH)), GROW.replace("NAME", grown), 1400, setup)
    assert board.state["g20"] == DEPTH * (DEPTH + 1) // 2
    assert board.state["g22"] & (1 << 44) - 1 == 1 << BY_NAME[f"exc_{name}_stack_bounds"].bit
    assert board.state["g21"] == (-(-(DEPTH * 256 - 224 * 16 - 0x1000) // 0x1000) if grown == PROC else 1)
    assert board.state["psp.hi"] & 0xFFFFFFFF == board.state["pcsp.hi"] & 0xFFFFFFFF == 0


def test_without_sge_the_bounds_do_not_count() -> None:
    board = alike(RECURSE.replace("DEPTH", str(DEPTH)), GROW.replace("NAME", "psp"), 1400, limits, psr=1)
    assert board.state["g20"] == DEPTH * (DEPTH + 1) // 2
    assert board.state["g21"] == 0


@pytest.mark.parametrize("accel", ACCELS)
def test_a_return_below_the_bottom_is_a_bounds_trap(accel: str) -> None:
    """There is nothing under the first frame: chain entry and window are asked for in this order."""
    board = Board("{ return %ctpr3; nop 5 }\nout:\n{ ct %ctpr3 }\n", "{ setwd wsz=4, nfx=1 }\n"
                  "{ nop 3; rrd,0 %tir.hi, %dg20 }\n{ nop 3; rrd,0 %tir.lo, %dg21 }\nstay:\n{ ibranch stay }\n",
                  accel=accel)
    board.state["cr1.lo"] = 4 << 33
    assert board.cpu.run(6) == "limit"
    assert board.state["g20"] == 1 << BY_NAME["exc_chain_stack_bounds"].bit
    assert board.state["g21"] == board.symbols["out"]


def test_flushes_leave_everything_in_memory_and_returns_find_it_there() -> None:
    text = """
    { setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; addd 0, 11, %dr0; addd 0, 12, %dr1; disp %ctpr1, f; nop 5 }
    { call %ctpr1, wbs=8 }
    { addd,0 %dr0, %dr1, %dg20 }
    stay: { ibranch stay }
    f:
    { setwd wsz=16, nfx=1; addd 0, 13, %dr0 }
    { flushr }
    { flushc }
    { nop 3; rrd,0 %pshtp, %dr2 }
    { nop 3; rrd,0 %pcshtp, %dr3 }
    { std,2 %dr2, [ %dg31 + _f16s 0x100 ]; std,5 %dr3, [ %dg31 + _f16s 0x108 ] }
    { nop 3; rrd,0 %psp.hi, %dr2 }
    { nop 3; rrd,0 %pcsp.hi, %dr3 }
    { std,2 %dr2, [ %dg31 + _f16s 0x100 ]; std,5 %dr3, [ %dg31 + _f16s 0x108 ] }
    { return %ctpr3; nop 5 }
    { ct %ctpr3 }
    """
    board = alike(text, "{ nop 1 }", 18)
    assert board.said(0x100) == [0, 0x100000 << 32 | 8 * 32]
    assert board.said(0x108) == [0, 0x100000 << 32 | 32]
    assert board.state["g20"] == 23
    assert board.space.read(STACKS, 8) == 11


def test_a_flush_that_finds_no_room_is_repeated_after_the_trap() -> None:
    """flushr and flushc are precise: nothing was written, and done executes them again."""
    text = """
    { setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; addd 0, 11, %dr0; disp %ctpr1, f; nop 5 }
    { call %ctpr1, wbs=8 }
    f:
    { setwd wsz=16, nfx=1; addd 0, 13, %dr0 }
    { flushr; addd,0 %dr0, 1, %dr0 }
    { addd,0 %dr0, 0, %dg20 }
    stay: { ibranch stay }
    """

    def none(board: Board) -> None:
        board.state["psp.hi"] = 16 << 32
    board = alike(text, GROW.replace("NAME", "psp"), 14, none)
    assert (board.state["g20"], board.state["g21"]) == (14, 1)


# --- last wish, single step ----------------------------------------------------------------------------------------

WISH = """
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0 }
turn:
{ disp %ctpr1, f; addd,1 %dg21, 1, %dg21; nop 5 }
{ call %ctpr1, wbs=8 }
back: { addd,0 %dg22, 1, %dg22; ibranch turn }
f:
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; disp %ctpr1, g; nop 5 }
{ call %ctpr1, wbs=8 }
{ nop 5; rrd,0 %psr, %dr0 }
{ ord,0 %dr0, 8, %dr0; disp %ctpr1, g; nop 5 }
{ nop 5; rwd,0 %dr0, %psr }
{ call %ctpr1, wbs=8 }
{ return %ctpr3; nop 5 }
{ ct %ctpr3 }
g: { setwd wsz=8, nfx=1; return %ctpr3; nop 5 }
{ ct %ctpr3 }
"""
NOTE = """
{ setwd wsz=8, nfx=1; addd,1 %dg20, 1, %dg20 }
{ nop 3; rrd,0 %tir.hi, %dr0 }
{ nop 3; rrd,0 %tir.lo, %dr1 }
{ nop 3; rrd,0 %cr1.lo, %dr2 }
{ ord,0 %dg23, %dr0, %dg23; addd,1 %dr1, 0, %dg24; ord,3 %dg25, %dr2, %dg25 }
{ done }
"""


def test_a_last_wish_is_the_return_from_that_frame_alone() -> None:
    """f sets PSR.lw and calls g, whose return is no matter of f's wish; the trap is at the return address of f."""
    board = alike(WISH, NOTE, 1500, psr=1 | SGE | IE)
    turns = board.state["g21"]
    assert turns > 50
    assert 0 <= turns - board.state["g20"] <= 1
    assert 0 <= turns - board.state["g22"] <= 1
    assert board.state["g23"] == 1 << 56 | 1 << BY_NAME["exc_last_wish"].bit
    assert board.state["g24"] == board.symbols["back"]
    assert board.state["g25"] >> 57 == 1 | SGE | IE     # the wish is fulfilled


STEPPED = """
{ nop 5; addd 0, 0, %dr0 }
turn:
{ addd,0 %dr0, 1, %dr0 }
{ addd,0 %dr0, 1, %dr0 }
{ ibranch turn }
"""
STEP = """
{ setwd wsz=8, nfx=1; addd,1 %dg20, 1, %dg20 }
{ nop 3; rrd,0 %tir.hi, %dr0 }
{ nop 3; rrd,0 %tir.lo, %dr1 }
{ nop 3; rrd,0 %dibsr, %dr2 }
{ nop 3; rrd,0 %cr1.lo, %dr3 }
{ ord,0 %dr3, _f32s 0x1000000, %dr3 }
{ nop 5; rwd,0 %dr3, %cr1.lo }
{ std,2 %dr0, [ %dg31 + _f16s 0x100 ]; std,5 %dr1, [ %dg31 + _f16s 0x108 ] }
{ std,2 %dr2, [ %dg31 + _f16s 0x110 ] }
{ nop 5; rwd,0 0, %dibsr }
{ nop 5; rwd,0 0, %dibcr }
{ done }
"""
"""A handler that asks for the next step: CR1.lo.ss."""


def test_single_steps_from_a_breakpoint_on() -> None:
    """DIBAR0 and DIBCR stop before a wide instruction, CR1.lo.ss behind the next one; DIBSR tells which it was."""
    def at(board: Board) -> None:
        board.state["dibar0"], board.state["dibcr"] = board.symbols["turn"], 3
    board = alike(STEPPED, STEP, 1 + 14 * 6, at)
    exc = 1 << BY_NAME["exc_instr_debug"].bit
    start = board.symbols["turn"]
    assert board.said(0x100)[:5] == [exc] * 5
    assert board.said(0x108)[:5] == [start, start + 8, start + 16, start, start + 8]
    assert board.said(0x110)[:5] == [1, 1 << 7, 1 << 7, 1 << 7, 1 << 7]
    assert board.state["r0"] >= 3 or board.state.pc > 0x20000


def test_a_single_step_over_a_wide_instruction_with_tags_is_one_step() -> None:
    text = STEPPED.replace("{ addd,0 %dr0, 1, %dr0 }", "{ addd,0,sm %dg16, 1, %dr5 }", 1)

    def at(board: Board) -> None:
        board.state["dibar0"], board.state["dibcr"] = board.symbols["turn"], 3
        board.state["g16"], board.state["g16.tag"] = 1, 5
    board = alike(text, STEP, 1 + 14 * 3, at)
    start = board.symbols["turn"]
    assert board.said(0x108)[:3] == [start, start + 8, start + 16]


@pytest.mark.parametrize("accel", ACCELS)
def test_a_breakpoint_that_is_switched_on_in_a_loop_is_met(accel: str) -> None:
    text = STEPPED + "arm:\n{ nop 5; rwd,0 3, %dibcr }\n{ ibranch turn }\n"
    board = Board(text, STEP, accel=accel)
    board.state["dibar0"] = board.symbols["turn"] + 8
    assert board.cpu.run(3000) == "limit"
    assert board.written == []
    board.state.pc = board.symbols["arm"]
    assert board.cpu.run(30) == "limit"
    assert board.said(0x108)[0] == board.symbols["turn"] + 8
