"""Traps of the array access unit: elements and prefetch programs whose page is missing, and loops that go on.

Expected values: the fields of TIR.hi (aa 55:52) and %aafstr (a byte for each channel: 0 fault, 6:1 area) as handlers of
Linux read them; an area's index as they compute it.
"""

from __future__ import annotations

import pytest

from e2kemu.cpu.isa.aau import LDS, LDS_ACTIVE, Slot
from tests.cpu.guest import CODE
from tests.cpu.mmu.tables import bits
from tests.cpu.traps.board import SGE, Board, alike
from tests.cpu.traps.test_page_faults import FRAME, NEXT, USER, paged

SAY = """
{ setwd wsz=16, nfx=1; addd,1 %dg20, 1, %dg20 }
{ nop 3; rrd,0 %tir.hi, %dr0 }
{ nop 3; rrd,0 %tir.lo, %dr1 }
{ std,2 %dr0, [ %dg31 + _f16s 0x100 ]; std,5 %dr1, [ %dg31 + _f16s 0x108 ] }
{ nop 5; aaurrd,2 %aafstr, %dr0 }
{ nop 5; aaurrd,2 %aaldm, %dr2; aaurrd,5 %aaldm, %dr3 }
{ nop 5; aaurrd,2 %aaldi0, %dr4; aaurrd,5 %aaldi1, %dr5 }
{ std,2 %dr0, [ %dg31 + _f16s 0x110 ] }
{ std,2 %dr2, [ %dg31 + _f16s 0x118 ]; std,5 %dr3, [ %dg31 + _f16s 0x120 ] }
{ std,2 %dr4, [ %dg31 + _f16s 0x128 ]; std,5 %dr5, [ %dg31 + _f16s 0x130 ] }
"""
"""What a handler finds."""

MAP = """
{ std,2 %dg26, [ %dg25 + 0 ]; std,5 %dg27, [ %dg25 + 8 ] }
{ nop 5; std,2 %dg19, [ %dg19 + 1 ], mas=0x27 }
{ done }
"""
"""Maps both pages at ``USER``, and returns."""

SKIP = """
{ nop 3; rrd,0 %cr0.hi, %dr0 }
{ addd,0 %dr0, 8, %dr0 }
{ nop 5; rwd,0 %dr0, %cr0.hi }
{ done }
"""
"""Returns behind a wide instruction of 8 bytes."""

HANDLER = SAY + MAP
STEPS = 13
MOVA, AINSTR_MISS, AINSTR_PROT = 52, 22, 23

LOOP = """
{ setwd wsz=16, nfx=1; disp %ctpr1, loop }
{ ldisp %ctpr2, program; rwd,0 (1 << 37) | 4, %lsr }
{ aaurwd,2 %dg21, %aad1 }
{ addd,0 %dg21, 0x100, %dr1 }
{ aaurwd,2 %dr1, %aad2; addd,1 0, 1, %dr9 }
{ aaurw,2 %r9, %aaincr1 }
{ nop 5; bap; addd,0 0, 0, %dr4; addd,1 0, 0, %dr5 }
loop:
{ movad,0 area=0, ind=0, am=1, be=0, %dr2; movad,2 area=1, ind=0, am=1, be=0, %dr3 }
{ addd,0 %dr4, %dr2, %dr4; addd,1 %dr5, %dr3, %dr5; alc alcf=0, alct=1; ct %ctpr1 ? %NOT_LOOP_END }
{ nop 1; eap }
{ nop 1 }
program:
{ fapb ct=0, d=1, incr=1, fmt=4, mrng=8, asz=5, disp=0
  fapb dpl=0, fmt=0 }
{ fapb ct=1, fmt=0
  fapb dpl=0, d=2, incr=1, fmt=4, mrng=8, asz=5, disp=0 }
"""
"""Adds up four double words from USER on, and four from USER + 0x100 on: channel 0 with area 0 of the left side,
channel 2 with area 1 of the right one."""


def word(place: int) -> int:
    """The double word that ``paged`` has put at USER + ``place``."""
    return int.from_bytes(bytes(range(256))[place % 256 : place % 256 + 8], "little")


def sums() -> tuple[int, int]:
    total = sum(word(8 * i) for i in range(4)) & (1 << 64) - 1
    return total, total


def finished(board: Board) -> None:
    """The loop has gone through, and gave the right sums."""
    assert (board.state["r4"], board.state["r5"]) == sums()
    assert board.state.A[Slot.AASR] & LDS == 0


def test_elements_whose_page_is_missing_trap_with_their_channels_and_areas() -> None:
    board = alike(LOOP, HANDLER, 7 + 2 * 4 + 1 + STEPS, paged)
    finished(board)
    assert board.said(0x100) == [1 << MOVA | 1 << MOVA + 2]
    assert board.said(0x108) == [board.symbols["loop"]]
    assert board.said(0x110) == [1 | 0 << 1 | (1 | 33 << 1) << 16]
    assert board.state["g20"] == 1


def test_of_two_channels_only_the_one_whose_page_is_missing_traps() -> None:
    def setup(board: Board) -> None:
        paged(board, first=FRAME | bits(False, "P", "VALID", "W", "A", "D"))
        board.state["g21"] = USER + 0xF00 + 0xF8    # the second array begins behind the page

    text = LOOP.replace("rwd,0 (1 << 37) | 4", "rwd,0 (1 << 37) | 1")
    board = alike(text, HANDLER, 7 + 2 + 1 + STEPS, setup)
    assert board.said(0x100) == [1 << MOVA + 2]
    assert board.said(0x110) == [(1 | 33 << 1) << 16]
    assert board.state["r4"] == word(0xF8)
    assert board.state["r5"] == int.from_bytes(bytes(range(255, -1, -1))[0xF8:] , "little")


def test_where_no_page_can_come_an_element_is_diagnostic_and_its_use_traps() -> None:
    board = alike(LOOP, SAY + "{ std,2 %dg19, [ %dg31 + 24 ] }", 7 + 1 + 11, lambda board: paged(board, first=0),
                  end="exit")
    assert board.said(0x100) == [1 << 15 | 3 << 44]
    assert board.said(0x108)[0] > board.symbols["loop"]


@pytest.mark.parametrize(("entry", "exc"), [
    (bits(False, "VALID"), AINSTR_MISS), (0, AINSTR_MISS),
    (FRAME | bits(False, "P", "VALID", "A", "NX"), AINSTR_PROT)])
def test_a_program_whose_page_cannot_be_executed_traps_behind_bap_and_runs_when_it_can(entry: int, exc: int) -> None:
    """The program is copied to USER; the arrays lie at USER + 4096."""
    def setup(board: Board) -> None:
        tables = paged(board, first=entry, second=NEXT | bits(False, "P", "VALID", "W", "A", "D"), rights=("A",))
        code = board.space.read_bytes(board.symbols["program"], 32)
        board.space.write_bytes(FRAME, code)
        board.space.write_bytes(NEXT, bytes(range(256)) * 16)
        board.state["g21"] = USER + 0x1000
        tables.put(tables.place(USER, 0) + 8, NEXT | bits(False, "P", "VALID", "W", "A", "D"))

    text = LOOP.replace("ldisp %ctpr2, program;", "ldisp %ctpr2, program;")
    far = text.replace("{ nop 5; bap;", f"{{ addd,0 0, _f64 {USER | 3 << 54 | 1 << 57:#x}, %dr12 }}\n"
                                        "{ nop 5; rwd,0 %dr12, %ctpr2 }\n{ nop 5; bap;")
    board = alike(far, HANDLER, 9 + 2 * 4 + 1 + STEPS, setup)
    finished(board)
    assert board.said(0x100) == [1 << exc]
    assert board.said(0x108) == [board.symbols["loop"]]


@pytest.mark.parametrize("position", [0, 1, 6, 7])
def test_a_handler_finds_what_the_areas_have_done(position: int) -> None:
    """A software trap at every place of the loop: start + step * (iterations that are over + %aaldm) is the index."""
    body = LOOP.splitlines()
    at = next(number for number, line in enumerate(body) if line.startswith("loop:"))
    iteration, place = divmod(position, 2)
    body.insert(at + 1 + place, "{ setsft } ")
    text = "\n".join(body)

    def setup(board: Board) -> None:
        paged(board, first=FRAME | bits(False, "P", "VALID", "W", "A", "D"))

    board = alike(text, SAY + SKIP, 7 + 2 * 4 + 1 + 4 * 14, setup)
    finished(board)
    left, right = board.said(0x118)[iteration], board.said(0x120)[iteration]
    indices = board.said(0x128)[iteration], board.said(0x130)[iteration]
    assert (left & 1, right >> 1 & 1) == (place, place)
    assert indices == (8 * (iteration + place),) * 2


def test_an_area_that_the_handler_declares_new_starts_at_its_beginning() -> None:
    """As Linux restores an area in the first iteration: index 0, %aaldv 0."""
    new = "{ aaurwd,2 %dg19, %aaldi0; aaurwd,5 %dg19, %aaldi1 }\n{ aaurw,2 %g19, %aaldv; aaurw,5 %g19, %aaldv }\n"
    forget = SAY + new + SKIP
    text = LOOP.replace("loop:", "{ setsft }\nloop:").replace("disp=0", "disp=0x10")

    def setup(board: Board) -> None:
        paged(board, first=FRAME | bits(False, "P", "VALID", "W", "A", "D"))

    board = alike(text, forget, 7 + 2 * 4 + 1 + 16, setup)
    assert board.state["r4"] == sum(word(0x10 + 8 * i) for i in range(4)) & (1 << 64) - 1
    assert board.said(0x128) == [0x10]


def test_the_unit_runs_on_in_another_cpu_that_got_it_stopped() -> None:
    """The state is the registers': a handler that is migrated returns into a loop that goes on."""
    board = Board(LOOP, HANDLER, psr=1 | SGE)
    paged(board)
    board.cpu.run(7 + 2 + 3)
    assert board.state.pc != CODE
    assert board.state.A[Slot.AASR] & LDS == 5 << 7
    assert board.cpu.run(STEPS - 3 + 2) == "limit"
    assert board.state.A[Slot.AASR] & LDS == LDS_ACTIVE
