"""Traps: what a wide instruction raises, what the handler finds, what it comes back to; alike in every tier.

Expected values are those of the tables of exceptions and of TIR, not what the emulator does.
"""

from __future__ import annotations

import pytest

from e2kemu.cpu.isa.traps import BY_NAME
from tests.cpu.guest import CODE
from tests.cpu.traps.board import ACCELS, DATA, IE, NMIE, SGE, TABLE, UIE, UNMIE, Board, alike, moved

TIRS = """
{ setwd wsz=8, nfx=1 }
{ nop 3; rrd,0 %tir.hi, %dr0 }
{ nop 3; rrd,0 %tir.lo, %dr1 }
{ nop 3; rrd,0 %tir.hi, %dr2 }
{ nop 3; rrd,0 %tir.lo, %dr3 }
{ nop 3; rrd,0 %tir.hi, %dr4 }
{ nop 3; rrd,0 %cr0.hi, %dr5 }
{ std,2 %dr0, [ %dg31 + _f16s 0x100 ]; std,5 %dr1, [ %dg31 + _f16s 0x108 ] }
{ std,2 %dr2, [ %dg31 + _f16s 0x110 ]; std,5 %dr3, [ %dg31 + _f16s 0x118 ] }
{ std,2 %dr4, [ %dg31 + _f16s 0x120 ]; std,5 %dr5, [ %dg31 + _f16s 0x128 ] }
"""
"""A handler that says two TIRs, what follows them, and CR0.hi."""
GO_ON = "{ nop 5; rwd,0 %dg24, %cr0.hi }\n{ done }\n"
"""And goes on at the address in %dg24."""
HANDLER_STEPS = 13


def channels(*numbers: int) -> int:
    """TIR.al."""
    return sum(1 << 44 + number for number in numbers)


def exceptions(*names: str) -> int:
    """TIR.exc."""
    return sum(1 << BY_NAME[f"exc_{name}"].bit for name in names)


def setup(board: Board) -> None:
    """%dg16 diagnostic, %dg17 a descriptor's half, %pred4 diagnostic, %pred5 true, %dg18 = 1, %dg19 = 0, GD of 64
    bytes."""
    state = board.state
    for name in ("r0", "r1", "r2", "r3"):
        state[name] = 0
    state["g16"], state["g16.tag"] = 0x4000_0000_4000_0000, 5
    state["g17"], state["g17.tag"] = 1, 10
    state["g18"], state["g19"] = 1, 0
    state["pred4"], state["pred5"] = 2, 1
    state["gd.lo"], state["gd.hi"] = 3 << 59 | DATA, 64 << 32
    state["g24"] = board.symbols["end"]


ROWS = [
    ("puttst,3 %dg18, %dr1", ("illegal_opcode",), (3,)),
    ("setwd wsz=113, nfx=1", ("illegal_opcode",), ()),
    ("addd,0 0, %dr40, %dr1", ("window_bounds",), (0,)),
    ("addd,4 0, %db[40], %dr1", ("window_bounds",), (4,)),
    ("addd,0 %dg16, 0, %dr1", ("diag_operand",), (0,)),
    ("addd,4 %dg16, 0, %dr1", ("diag_operand",), (4,)),
    ("addd,0 %dg17, 0, %dr1", ("illegal_operand",), (0,)),
    ("addd,1 0, 1, %dr1 ? %pred4", ("diag_cond",), (1,)),
    ("ibranch end ? %pred4", ("diag_ct_cond",), ()),
    ("ct %ctpr1", ("illegal_instr_addr",), ()),
    ("udivd,5 %dg18, %dg19, %dr1", ("div",), (5,)),
    ("sdivs,5 %g20, -1, %r1", ("div",), (5,)),
    ("setsft", ("software_trap",), ()),
    ("getsp,0 -0x7ffffff0, %dr1", ("user_stack_bounds",), (0,)),
    ("ldgdd,0 %g19, _f32s 60, %dr1", ("array_bounds",), (0,)),
    ("fdivd,5 %dg21, %dg19, %dr1", ("fp",), (5,)),
]
"""Wide instruction, its exceptions, the channels they came from."""


@pytest.mark.parametrize(("text", "names", "where"), ROWS, ids=[f"{row[1][0]}-{i}" for i, row in enumerate(ROWS)])
def test_an_exception_is_told_and_nothing_else_has_happened(text: str, names: tuple[str, ...],
                                                            where: tuple[int, ...]) -> None:
    def more(board: Board) -> None:
        setup(board)
        board.state["g20"], board.state["g21"] = 0x8000_0000, 0x3FF0_0000_0000_0000
        board.state["pfpfr"] = 0x1D80               # division by zero is not masked
    board = alike(f"start:\n{{ {text}; addd,2 0, 7, %dr2 }}\nend:\n{{ addd 0, 9, %dr3 }}\n", TIRS + GO_ON,
                  HANDLER_STEPS + 1, more)
    assert board.said(0x100) == [exceptions(*names) | channels(*where)]
    assert board.said(0x108) == [CODE]
    assert board.said(0x110) == board.said(0x120) == [0]        # there is no other TIR
    assert board.said(0x128) == [CODE]                          # CR0.hi
    assert (board.state["r1"], board.state["r2"], board.state["r3"]) == (0, 0, 9)


def test_there_is_a_row_for_each_exception_of_operands_and_transfers() -> None:
    told = {name for _, names, _ in ROWS for name in names}
    assert len(told) >= 12


def test_a_diagnostic_transfer_register() -> None:
    text = "{ nop 5; movtd,0 %dg16, %ctpr1 }\nstart:\n{ ct %ctpr1 }\nend:\n{ addd 0, 9, %dr3 }\n"
    board = alike(text, TIRS + GO_ON, HANDLER_STEPS + 2, setup)
    assert board.said(0x100) == [exceptions("diag_instr_addr")]


@pytest.mark.parametrize(("text", "psr", "name"), [
    ("rwd,0 %dg18, %psr", 0, "priv_action"), ("done", 0, "priv_action"), ("rrd,0 %psr, %dr1", 0, ""),
    ("rrd,0 %osem, %dr1", 0, "priv_action"), ("ldd,0 [ %dg30 + 0 ], %dr1, mas=1", 0, "priv_action"),
    ("rwd,0 %dg18, %osem", 1, ""),
])
def test_users_may_not_do_what_the_system_may(text: str, psr: int, name: str) -> None:
    board = alike(f"start:\n{{ {text} }}\nend:\n{{ addd 0, 9, %dr3 }}\n", TIRS + GO_ON,
                  HANDLER_STEPS + 1 if name else 2, setup, psr=psr)
    wanted = exceptions(name) | (channels(0) if "," in text else 0) if name else None
    assert board.said(0x100) == ([wanted] if wanted is not None else [])
    assert board.state["r3"] == 9


def test_floating_point_that_is_switched_off() -> None:
    def off(board: Board) -> None:
        setup(board)
        board.state["upsr"] = 0
    board = alike("start:\n{ faddd,0 %dg18, %dg19, %dr1 }\nend:\n{ addd 0, 9, %dr3 }\n", TIRS + GO_ON,
                  HANDLER_STEPS + 1, off)
    assert board.said(0x100) == [exceptions("fp_disabled") | channels(0)]


def test_what_is_not_aligned_when_that_is_checked() -> None:
    def check(board: Board) -> None:
        setup(board)
        board.state["upsr"] = 5
    board = alike("start:\n{ ldd,0 [ %dg30 + 4 ], %dr1 }\nend:\n{ addd 0, 9, %dr3 }\n", TIRS + GO_ON,
                  HANDLER_STEPS + 1, check)
    assert board.said(0x100) == [exceptions("addr_not_aligned") | channels(0)]


def test_exceptions_of_one_wide_instruction_come_together() -> None:
    text = "{ addd,0 %dg16, 0, %dr1; udivd,5 %dg18, %dg19, %dr2; addd,1 0, 1, %dr3 ? %pred4; setsft }"
    board = alike(f"start:\n{text}\nend:\n{{ addd 0, 9, %dr0 }}\n", TIRS + GO_ON, HANDLER_STEPS + 1, setup)
    assert board.said(0x100) == [exceptions("diag_operand", "div", "diag_cond", "software_trap") | channels(0, 1, 5)]


# --- entry and return ----------------------------------------------------------------------------------------------

LOOK = """
{ setwd wsz=8, nfx=1 }
{ nop 3; rrd,0 %psr, %dr0 }
{ nop 3; rrd,0 %cr1.lo, %dr1 }
{ nop 3; rrd,0 %cr1.hi, %dr2 }
{ nop 3; rrd,0 %cr0.lo, %dr3 }
{ nop 3; rrd,0 %usd.hi, %dr4 }
{ nop 3; rrd,0 %upsr, %dr5 }
{ nop 3; rrd,0 %ctpr1, %dr6 }
{ nop 3; rrd,0 %wd, %dr7 }
{ std,2 %dr0, [ %dg31 + _f16s 0x100 ]; std,5 %dr1, [ %dg31 + _f16s 0x108 ] }
{ std,2 %dr2, [ %dg31 + _f16s 0x110 ]; std,5 %dr3, [ %dg31 + _f16s 0x118 ] }
{ std,2 %dr4, [ %dg31 + _f16s 0x120 ]; std,5 %dr5, [ %dg31 + _f16s 0x128 ] }
{ std,2 %dr6, [ %dg31 + _f16s 0x130 ]; std,5 %dr7, [ %dg31 + _f16s 0x138 ] }
"""


@pytest.mark.parametrize("psr", [0, 1, 1 | SGE, IE | SGE | NMIE, 1 | IE | UIE | NMIE | UNMIE | SGE])
def test_the_handler_is_entered_with_the_whole_window_behind_it(psr: int) -> None:
    """CR1.lo: psr 63:57, wbs 39:33, wpsz 32:26, wfx 25; CR1.hi: ussz 63:36, br 27:0; WD of the handler: 0 up to
    setwd."""
    text = """{ setwd wsz=12, nfx=0; setbn rbs=4, rsz=2, rcur=1; setbp psz=3; disp %ctpr1, end; nop 5 }
    { cmpedb,0 0, 0, %pred1; cmpedb,1 0, 1, %pred2 }
    { getsp,0 -64, %dr0 }
    start:
    { setsft }
    end:
    { addd 0, 9, %dr3 }"""
    board = alike(text, LOOK + GO_ON, 19, setup, psr=psr)
    (new_psr,), (cr1_lo,), (cr1_hi,) = board.said(0x100), board.said(0x108), board.said(0x110)
    assert new_psr == 1
    assert cr1_lo >> 57 == psr
    assert (cr1_lo >> 33 & 127, cr1_lo >> 26 & 127, cr1_lo >> 25 & 1) == (12, 4, 1)
    assert cr1_hi & 0xFFFFFFF == 4 | 2 << 6 | 1 << 12 | 3 << 18
    assert cr1_hi >> 36 << 4 == board.said(0x120)[0] >> 32 == (0x100000 - 64)
    assert board.said(0x118)[0] & 0xFFFF == 0b01_00 | 0b10 << 8 | 1 << 10     # %pred1 true, %pred4 diagnostic, %pred5
    assert board.said(0x128) == [0x81]                          # UPSR is the program's
    assert board.said(0x130)[0] & 0xFFFFFFFFFFFF == board.symbols["end"]
    assert board.said(0x138)[0] >> 16 & 0x7FF == 128
    assert (board.state["psr"], board.state["r3"]) == (psr, 9)


LOOP = """
{ setwd wsz=16, nfx=1; setbn rbs=4, rsz=3, rcur=0; setbp psz=3; disp %ctpr1, body; addd 0, 0, %dr0; addd 0, 0, %dr1 }
{ nop 7; rwd,0 _f64 0x0000002000000014, %lsr }
{ addd 0, 1, %db[0]; addd 0, 2, %db[1]; addd 0, 0, %db[2]; addd 0, 0, %db[3]; addd 0, 0, %db[4]; addd 0, 0, %db[5] }
{ addd 0, 0, %db[6]; addd 0, 0, %db[7]; cmpedb,0 0, 0, %pred0; cmpedb,1 0, 1, %pred1 }
{ cmpedb,0 0, 1, %pred2; cmpedb,1 0, 0, %pred3 }
body:
{ loop_mode; alc alcf=1, alct=1; abn abnf=1, abnt=1; abp abpf=1, abpt=1
  addd,0 %db[0], %db[2], %db[6]; addd,1 %dr0, %db[4], %dr0; addd,3 %dr1, 1, %dr1 ? %pred0
  udivd,5 %dr0, %dg25, %dr2; ct %ctpr1 ? #NOT_LOOP_END }
end:
{ addd 0, 9, %dr3 }
"""
FIX = "{ setwd wsz=4, nfx=1; addd,0 0, 1, %dg25; addd,1 %dg26, 1, %dg26 }\n{ done }\n"


@pytest.mark.parametrize("bad", range(0, 20, 3))
def test_done_goes_on_in_the_middle_of_a_loop_with_rotation(bad: int) -> None:
    """The divisor is 0 in one turn; what the loop computes does not depend on which."""
    def plain(board: Board) -> None:
        setup(board)
        board.state["g25"] = 1
    good = alike(LOOP, FIX, 26, plain)
    assert good.state["r3"] == 9
    boards = [Board(LOOP, FIX, accel=accel) for accel in ACCELS]
    for board in boards:
        plain(board)
        assert board.cpu.run(5 + bad) == "limit"
        board.state["g25"] = 0
        assert board.cpu.run(26 - 5 - bad + 3) == "limit"
        assert board.state["g26"] == 1
        for name in ("r0", "r1", "r2", "r3", "lsr", "br", "psr", "pred0", "pred1", "pred2", "pred3"):
            assert board.state[name] == good.state[name], name


def test_a_trap_in_a_handler_is_nested_and_both_return() -> None:
    handler = """
    { setwd wsz=8, nfx=1; addd,1 %dg20, 1, %dg20 }
    { nop 3; rrd,0 %tir.lo, %dr0 }
    { nop 2; cmpedb,3 %dg20, 1, %pred0; cmpedb,4 %dg20, 2, %pred1 }
    { nop 3; std,2 %dr0, [ %dg31 + _f16s 0x100 ]; addd,1 0, 1, %dg19 ? %pred1 }
    inner: { udivd,5 %dg18, %dg19, %dr2 ? %pred0 }
    { nop 5; rwd,0 %dg24, %cr0.hi ? %pred0 }
    { done }
    """
    board = alike("start:\n{ setsft }\nend:\n{ addd 0, 9, %dr3 }\n", handler, 17, setup)
    assert board.said(0x100) == [CODE, board.symbols["inner"]]
    assert (board.state["g20"], board.state["r3"], board.state["psr"]) == (2, 9, 1 | SGE)
    assert board.state["pcshtp"] == 0


def test_a_speculative_load_defers_its_fault_to_who_uses_the_value() -> None:
    text = """{ ldd,0,sm [ %dg22 + 0 ], %dr1 }
    { addd,0,sm %dr1, 1, %dr2 }
    start: { addd,0 %dr2, 0, %dr3; addd,1 0, 1, %dr4 }
    end: { addd 0, 9, %dr5 }"""

    def far(board: Board) -> None:
        setup(board)
        board.state["g22"] = 1 << 45
    board = alike(text, TIRS + GO_ON, HANDLER_STEPS + 3, far)
    assert board.said(0x100) == [exceptions("diag_operand") | channels(0)]
    assert board.said(0x108) == [board.symbols["start"]]


def test_writing_tir_forgets_and_a_second_look_finds_nothing() -> None:
    handler = """{ setwd wsz=8, nfx=1 }
    { nop 5; rwd,0 0, %tir.lo }
    { nop 3; rrd,0 %tir.hi, %dr0 }
    { std,2 %dr0, [ %dg31 + _f16s 0x100 ] }
    """ + GO_ON
    board = alike("start:\n{ setsft }\nend:\n{ addd 0, 9, %dr3 }\n", handler, 7, setup)
    assert board.said(0x100) == [0]


# --- system calls ----------------------------------------------------------------------------------------------------

SYSTEM = """
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; sdisp %ctpr1, ENTRY; nop 5 }
{ addd 0, 77, %db[0] }
call: { call %ctpr1, wbs=8 }
back: { addd 0, %db[0], %dr3 }
end: { nop 1 }
"""
ENTRY = """
{ setwd wsz=8, nfx=1 }
{ nop 3; rrd,0 %psr, %dr1 }
{ nop 3; rrd,0 %cr1.lo, %dr2 }
{ std,2 %dr0, [ %dg31 + _f16s 0x100 ]; std,5 %dr1, [ %dg31 + _f16s 0x108 ] }
{ addd 0, 78, %dr0; std,2 %dr2, [ %dg31 + _f16s 0x110 ] }
{ return %ctpr3; nop 5 }
{ ct %ctpr3 }
"""


@pytest.mark.parametrize("number", [1, 3, 7])
@pytest.mark.parametrize("psr", [SGE | IE | NMIE, IE])
def test_a_system_call_enters_its_slot_privileged_and_returns_to_the_user(number: int, psr: int) -> None:
    """Interrupts are off as in a trap; the bounds of stacks stay guarded if they were."""
    def entry(board: Board) -> None:
        setup(board)
        board.put(ENTRY, TABLE + 0x800 * number)
        board.state["osem"] = 1 << number
    board = alike(SYSTEM.replace("ENTRY", str(number)), TIRS + GO_ON, 11, entry, psr=psr)
    assert board.said(0x100) == [77]
    assert board.said(0x108) == [1 | psr & SGE]
    assert board.said(0x110)[0] >> 57 == psr
    assert (board.state["r3"], board.state["psr"]) == (78, psr)


def test_an_entry_that_osem_does_not_name_is_an_illegal_address() -> None:
    def closed(board: Board) -> None:
        setup(board)
        board.state["osem"] = ~(1 << 3) & 0xFFFFFFFF
    board = alike(SYSTEM.replace("ENTRY", "3"), TIRS + GO_ON, HANDLER_STEPS + 2, closed, psr=0)
    assert board.said(0x100) == [exceptions("illegal_instr_addr")]
    assert board.said(0x108) == [board.symbols["call"]]


# --- what cannot be handled -----------------------------------------------------------------------------------------

def test_a_trap_without_a_table_is_one_line() -> None:
    board = alike("start:\n{ setsft }\nend:\n{ nop 1 }\n", "{ nop 1 }\n", 5, lambda b: b.state.set("oscud.hi", 0),
                  end="fatal")
    assert board.cpu.fatal_message == f"cpu 0: exc_software_trap at {CODE:#x} (setsft) and no trap table is set"


def test_a_handler_whose_first_wide_instruction_traps_is_one_line_and_no_endless_loop() -> None:
    board = alike("start:\n{ setsft }\nend:\n{ nop 1 }\n", "{ addd,0 %dg16, 0, %dr0 }\n", 50, setup, end="fatal")
    assert board.cpu.fatal_message == (
        f"cpu 0: exc_window_bounds at {TABLE:#x} (register 0 of a window of 0), the first wide instruction of the trap "
        "handler")


def test_a_handler_without_code_is_one_line() -> None:
    def nowhere(board: Board) -> None:
        setup(board)
        board.state["oscud.lo"] = 1 << 44
    board = alike("start:\n{ setsft }\nend:\n{ nop 1 }\n", "{ nop 1 }\n", 50, nowhere, end="fatal")
    assert board.cpu.fatal_message.startswith(f"cpu 0: exc_illegal_instr_addr at {1 << 44:#x}")


def test_a_cpu_goes_on_from_its_section_between_two_tirs() -> None:
    board = Board("{ nop 1 }", "{ nop 1 }", accel="interp")
    board.state["tir.hi"], board.state["tir.lo"] = 1 << 56 | 1 << 29, 0x1000
    board.state.X[4], board.state.X[5], board.state.X[6], board.state.X[7] = 1, 5, 0x2000, 1
    cpu = moved(board)
    assert cpu.state.X[4:8].tolist() == [1, 5, 0x2000, 1]
