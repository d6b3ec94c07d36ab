"""Page faults of data, code and the hardware's stacks: TIRs, records of the trap cellar, going on after the handler.

The machine translates. Code, table, stacks, the device and the tables themselves lie where they are; the pages at
``USER`` are mapped by the handler: it writes the entry in %dg26 to the place in %dg25 and returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2kemu.cpu.isa.traps import BY_NAME
from tests.cpu.guest import CODE, STACKS
from tests.cpu.mmu.tables import Tables, bits
from tests.cpu.traps.board import DATA, DEVICE, SGE, TABLE, Board, alike

USER, FRAME, NEXT, ROOT, CELLAR = 0x7000_0000, 0x500000, 0x501000, 0x600000, 0x402000
MISS, NWRITE, PRIV, ILLEGAL = 1 << 45, 1 << 44, 1 << 42, 1 << 43
HANDLER = """
{ setwd wsz=16, nfx=1; addd,1 %dg20, 1, %dg20 }
{ nop 3; rrd,0 %tir.hi, %dr0 }
{ nop 3; rrd,0 %tir.lo, %dr1 }
{ nop 3; rrd,0 %tir.hi, %dr2 }
{ nop 3; rrd,0 %tir.lo, %dr3 }
{ std,2 %dr0, [ %dg31 + _f16s 0x100 ]; std,5 %dr1, [ %dg31 + _f16s 0x108 ] }
{ std,2 %dr2, [ %dg31 + _f16s 0x110 ]; std,5 %dr3, [ %dg31 + _f16s 0x118 ] }
{ nop 5; ldd,2 [ %dg19 + _f16s 0x60 ], %dr0, mas=0x47 }
{ std,2 %dr0, [ %dg31 + _f16s 0x120 ] }
{ nop 3; ldd,0 [ %dg18 + 0 ], %dr0; ldd,3 [ %dg18 + 8 ], %dr1 }
{ nop 3; ldd,0 [ %dg18 + 16 ], %dr2; ldd,3 [ %dg18 + 24 ], %dr3 }
{ nop 3; ldd,0 [ %dg18 + 32 ], %dr4; ldd,3 [ %dg18 + 40 ], %dr5 }
{ std,2 %dr0, [ %dg31 + _f16s 0x128 ]; std,5 %dr1, [ %dg31 + _f16s 0x130 ] }
{ std,2 %dr2, [ %dg31 + _f16s 0x138 ]; std,5 %dr3, [ %dg31 + _f16s 0x140 ] }
{ std,2 %dr4, [ %dg31 + _f16s 0x148 ]; std,5 %dr5, [ %dg31 + _f16s 0x150 ] }
{ std,2 %dg19, [ %dg19 + _f16s 0x60 ], mas=0x47 }
{ std,2 %dg26, [ %dg25 + 0 ]; std,5 %dg27, [ %dg25 + 8 ] }
{ nop 5; std,2 %dg19, [ %dg19 + 1 ], mas=0x27 }
{ done }
"""
"""Says both TIRs, %trap_count (MMU register 6) and two records; empties the cellar, maps two pages, flushes."""
HANDLER_STEPS = 19
EXC_DATA_PAGE = 1 << BY_NAME["exc_data_page"].bit


def paged(board: Board, *, rights: tuple[str, ...] = ("W", "A", "D"), first: int = 1 << 40, second: int = 1 << 40,
          code: tuple[str, ...] = ("A",)) -> Tables:
    """Switch translation on; ``first`` and ``second`` are the entries of the pages at ``USER`` before anything (VALID
    alone: missing)."""
    tables = Tables(4, False, ROOT, ROOT + 0x1000, board.space, board.ram, board.cpu.mmu)
    for page in (CODE, TABLE, DATA, CELLAR, *range(STACKS, STACKS + 0x8000, 0x1000), *range(STACKS + 0x100000, STACKS
                 + 0x108000, 0x1000), STACKS + 0x2FF000, *range(ROOT, ROOT + 0x10000, 0x1000)):
        tables.map(page, page, *(code if page == CODE else ("W", "A", "D")))
    tables.map(DEVICE, DEVICE, "W", "A", "D")
    place = tables.place(USER, 0)
    tables.put(place, first)
    tables.put(place + 8, second)
    state = board.state
    state["g18"], state["g19"], state["g21"] = CELLAR, 0, USER
    state["g25"] = place
    state["g26"], state["g27"] = (frame | bits(False, "P", "VALID", *rights) for frame in (FRAME, NEXT))
    board.space.write_bytes(FRAME, bytes(range(256)) * 16)
    board.space.write_bytes(NEXT, bytes(range(255, -1, -1)) * 16)
    board.cpu.mmu.write_register(5, CELLAR)
    board.cpu.mmu.write_register(4, ROOT)
    board.cpu.mmu.write_register(0, 1)
    return tables


def run(text: str, steps: int, setup: Callable[[Board], Any] = paged, *, psr: int = 1 | SGE) -> Board:
    """``text``, with a handler that maps what was missing."""
    return alike(text + "\nend: { nop 1 }\n", HANDLER, steps, setup, psr=psr)


def said(board: Board) -> tuple[list[int], list[int], int, list[tuple[int, int, int]]]:
    """The first trap: TIR.hi and TIR.lo of two TIRs, %trap_count, the records (as many as there are, two at most)."""
    values = [board.said(offset)[0] for offset in range(0x100, 0x158, 8)]
    records = [(values[i], values[i + 1], values[i + 2]) for i in (5, 8)][: values[4] // 3]
    return [values[0], values[2]], [values[1], values[3]], values[4], records


def condition(*, channel: int, fmt: int, fault: int, level: int = 0, store: int = 0, spec: int = 0, pm: int = 1,
              dst: int = 0, mas: int = 0, second: int = 0) -> int:
    """The condition of a record of the cellar, by the layout: dst 7:0 vr 8 vl 9 fmt 12:10 store 17 mas 26:20 scal 28
    spec 30 pm 31 chan 33:32 fault_type 47:35 miss_lvl 49:48 num_align 50."""
    return (dst | fmt << 10 | store << 17 | mas << 20 | 1 << 28 | spec << 30 | pm << 31 | channel << 32 | fault
            | level << 48 | second << 50)


BOTH = 3 << 8
"""vl and vr."""


@pytest.mark.parametrize(("access", "size", "channel"), [
    ("ldb,0 [ %dg21 + 8 ], %dr1", 1, 0), ("ldh,2 [ %dg21 + 8 ], %dr1", 2, 1), ("ldw,3 [ %dg21 + 8 ], %dr1", 4, 2),
    ("ldd,5 [ %dg21 + 8 ], %dr1", 8, 3)])
def test_a_load_from_a_missing_page_is_recorded_and_done_again(access: str, size: int, channel: int) -> None:
    board = run(f"start: {{ {access}; addd,1 0, 5, %dr2 }}", HANDLER_STEPS + 3)
    hi, lo, count, records = said(board)
    al = 1 << 44 + (0, 2, 3, 5)[channel]
    assert hi == [1 << 56 | EXC_DATA_PAGE | al, 0]
    assert lo == [CODE, CODE]
    assert count == 3
    fmt = {1: 1, 2: 2, 4: 3, 8: 4}[size]
    assert records == [(USER + 8, 0, condition(channel=channel, fmt=fmt, fault=MISS, dst=1 | BOTH))]
    assert board.state["r1"] == int.from_bytes(bytes(range(8, 8 + size)), "little")
    assert (board.state["r2"], board.state["g20"]) == (5, 1)


@pytest.mark.parametrize(("size", "letter"), [(1, "b"), (2, "h"), (4, "w"), (8, "d")])
def test_a_store_to_a_missing_page_is_recorded_with_its_data(size: int, letter: str) -> None:
    value = 0x1122334455667788
    register = "%r1" if letter in "bhw" else "%dr1"
    board = run(f"{{ addd,0 0, _f64 {value:#x}, %dr1 }}\nstart: {{ st{letter},5 {register}, [ %dg21 + 16 ] }}",
                HANDLER_STEPS + 4)
    _, lo, count, records = said(board)
    stored = value & (1 << 8 * size) - 1
    assert lo[0] == board.symbols["start"]
    fmt = {1: 1, 2: 2, 4: 3, 8: 4}[size]
    assert (count, records) == (3, [(USER + 16, stored, condition(channel=3, fmt=fmt, fault=MISS, store=1))])
    assert board.space.read(FRAME + 16, size) == stored


def test_every_access_of_a_wide_instruction_has_a_record_in_the_order_of_channels() -> None:
    text = "start: { ldd,0 [ %dg21 + 8 ], %dr1; ldw,3 [ %dg21 + _f16s 0x1000 ], %r2; addd,4 %dr4, 1, %dr4 }"
    board = run(text, HANDLER_STEPS + 3)
    hi, _, count, records = said(board)
    assert hi[0] == 1 << 56 | EXC_DATA_PAGE | 1 << 44 | 1 << 47
    assert count == 6
    assert records == [(USER + 8, 0, condition(channel=0, fmt=4, fault=MISS, dst=1 | BOTH)),
                       (USER + 0x1000, 0, condition(channel=2, fmt=3, fault=MISS, dst=2 | BOTH))]
    assert board.state["g20"] == 1
    assert board.state["r4"] == 1


def test_an_access_across_two_missing_pages_has_two_records_the_second_one_access_further_on() -> None:
    board = run("start: { ldd,0 [ %dg21 + _f16s 0xffc ], %dr1 }", HANDLER_STEPS + 3)
    _, _, count, records = said(board)
    assert count == 6
    assert records == [(USER + 0xFFC, 0, condition(channel=0, fmt=4, fault=MISS, dst=1 | BOTH)),
                       (USER + 0xFFC + 8, 0, condition(channel=0, fmt=4, fault=MISS, dst=1 | BOTH, second=1))]
    assert board.state["r1"] == int.from_bytes(bytes([0xFC, 0xFD, 0xFE, 0xFF, 0xFF, 0xFE, 0xFD, 0xFC]), "little")


def test_a_page_that_may_not_be_written_and_one_that_is_the_systems() -> None:
    def readonly(board: Board) -> None:
        paged(board, first=FRAME | bits(False, "P", "VALID", "A"))
    board = run("start: { std,2 %dg26, [ %dg21 + 0 ] }", HANDLER_STEPS + 3, readonly)
    records = said(board)[3]
    assert records == [(USER, board.state["g26"], condition(channel=1, fmt=4, fault=NWRITE, store=1))]

    def system(board: Board) -> None:
        paged(board, first=FRAME | bits(False, "P", "VALID", "W", "A", "D", "PV"))
    board = run("start: { ldd,0 [ %dg21 + 0 ], %dr1 }", HANDLER_STEPS + 3, system, psr=SGE)
    records = said(board)[3]
    assert records == [(USER, 0, condition(channel=0, fmt=4, fault=PRIV, dst=1 | BOTH, pm=0))]


def test_a_speculative_load_of_a_page_that_is_only_missing_traps_like_any_other() -> None:
    def absent(board: Board) -> None:
        paged(board, first=bits(False, "VALID"))
    board = run("start: { ldd,0,sm [ %dg21 + 8 ], %dr1 }", HANDLER_STEPS + 3, absent)
    records = said(board)[3]
    assert records == [(USER + 8, 0, condition(channel=0, fmt=4, fault=MISS, spec=1, dst=1 | BOTH))]
    assert board.state["r1"] == int.from_bytes(bytes(range(8, 16)), "little")


def test_a_speculative_load_of_no_valid_address_gives_a_diagnostic_value() -> None:
    def none(board: Board) -> None:
        paged(board)
        board.state["g21"] = 0x1234_0000_0000
    board = run("start: { ldd,0,sm [ %dg21 + 8 ], %dr1 }", 2, none)
    assert board.state["r1.tag"] == 5
    assert board.written == []


# --- code --------------------------------------------------------------------------------------------------------

def test_code_in_a_missing_page_faults_at_its_own_address() -> None:
    def jump(board: Board) -> None:
        paged(board, rights=("A",))
        board.put("{ addd 0, 9, %dr3 }\n{ addd 0, 10, %dr4 }\n", FRAME)
        board.space.write_bytes(FRAME, board.space.read_bytes(FRAME, 64))
    board = run("{ nop 5; movtd,0 %dg21, %ctpr1 }\nstart: { ct %ctpr1 }", HANDLER_STEPS + 5, jump)
    hi, lo, count, _ = said(board)
    assert hi == [1 << BY_NAME["exc_instr_page_miss"].bit, 0]
    assert lo == [USER, 0]
    assert count == 0
    assert (board.state["r3"], board.state["r4"]) == (9, 10)


def test_code_that_may_not_be_executed() -> None:
    def forbidden(board: Board) -> None:
        paged(board, rights=("A",), first=FRAME | bits(False, "P", "VALID", "A", "NX"))
        board.put("{ addd 0, 9, %dr3 }\n", FRAME)
    board = run("{ nop 5; movtd,0 %dg21, %ctpr1 }\nstart: { ct %ctpr1 }", HANDLER_STEPS + 4, forbidden)
    hi, lo, _, _ = said(board)
    assert hi[0] == 1 << BY_NAME["exc_instr_page_prot"].bit
    assert lo[0] == USER
    assert board.state["r3"] == 9


def test_a_wide_instruction_that_goes_on_in_a_missing_page_faults_at_its_beginning() -> None:
    def across(board: Board) -> None:
        first = FRAME | bits(False, "P", "VALID", "A")
        paged(board, rights=("A",), first=first)
        board.put("{ addd,0 0, _f64 0x123456789abcdef0, %dr3 }\n{ addd 0, 9, %dr4 }\n", FRAME + 0xFF8)
        data = board.space.read_bytes(FRAME + 0xFF8, 64)
        board.space.write_bytes(NEXT, data[8:])
        board.state["g21"] = USER + 0xFF8
    board = run("{ nop 5; movtd,0 %dg21, %ctpr1 }\nstart: { ct %ctpr1 }", HANDLER_STEPS + 5, across)
    hi, lo, _, _ = said(board)
    assert hi[0] == 1 << BY_NAME["exc_instr_page_miss"].bit
    assert lo[0] == USER + 0xFF8
    assert (board.state["r3"], board.state["r4"]) == (0x123456789ABCDEF0, 9)


# --- the hardware's stacks -------------------------------------------------------------------------------------------

DEEP = """
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; disp %ctpr1, f; nop 5 }
{ addd 0, DEPTH, %db[0] }
{ call %ctpr1, wbs=8 }
{ addd 0, %db[0], %dg17 }
stay: { ibranch stay }
f:
{ setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; cmpedb,3 %dr0, 0, %pred0; disp %ctpr1, f; nop 3 }
{ subd,0 %dr0, 1, %db[0]; addd,3 %dr0, 0, %dr2; return %ctpr3 }
{ ct %ctpr3 ? %pred0 }
{ disp %ctpr1, f; nop 5 }
{ call %ctpr1, wbs=8 }
{ addd,0 %db[0], %dr2, %dr0; return %ctpr3; nop 5 }
{ ct %ctpr3 }
"""


@pytest.mark.parametrize(("stack", "psr"), [("psp", SGE), ("psp", 1 | SGE), ("pcsp", SGE), ("pcsp", 1 | SGE)])
def test_a_missing_page_of_a_stack_comes_while_it_is_needed(stack: str, psr: int) -> None:
    """The register file is full when the spill faults: the handler has room all the same. The record says that it was
    the hardware (s_f 19, sru 29), a store, privileged."""
    def missing(board: Board) -> None:
        paged(board)
        board.state[f"{stack}.lo"] = USER
    depth = 40
    board = run(DEEP.replace("DEPTH", str(depth)), 1200, missing, psr=psr)
    hi, _, count, records = said(board)
    assert hi == [1 << 56 | EXC_DATA_PAGE, 0]
    assert count == 3
    ((address, data, word),) = records
    assert (address, data) == (USER, 0)
    assert word == 4 << 10 | 1 << 17 | 1 << 19 | 1 << 29 | 1 << 31 | MISS
    assert board.state["g17"] == depth * (depth + 1) // 2
    assert 1 <= board.state["g20"] <= 2


def test_an_interrupt_while_the_chain_cannot_be_spilled_has_its_frame_all_the_same() -> None:
    def full(board: Board) -> None:
        paged(board)
        board.state["pcsp.lo"] = USER
        board.state.X[3] = 31
        board.cpu.interrupts.set_interrupt(True)
    plain = Board.mmio_write

    def lower(self: Board, offset: int, size: int, value: int) -> None:
        plain(self, offset, size, value)
        self.cpu.interrupts.set_interrupt(False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Board, "mmio_write", lower)
        board = run("start: { addd,0 %dr1, 1, %dr1 }\n{ ibranch start }", HANDLER_STEPS + 4, full, psr=1 | SGE | 2)
    hi, _, count, _ = said(board)
    assert hi[0] == 1 << BY_NAME["exc_interrupt"].bit
    assert count == 0
    assert board.state["pcshtp"] == 31 * 32
    assert board.state["r1"] >= 2


def test_when_nothing_is_left_it_is_one_line_and_no_endless_loop() -> None:
    """A handler that faults again and again because the chain's page never comes."""
    def full(board: Board) -> None:
        paged(board)
        board.state["pcsp.lo"] = USER + 0x10_0000
        board.state.X[3] = 31
        board.put("{ setwd wsz=4, nfx=1 }\n{ nop 3; rrd,0 %tir.lo, %dr0 }\n{ udivd,5 %dg19, %dg19, %dr0 }\n", TABLE)
    board = alike("start: { setsft }\n", HANDLER, 100, full, end="fatal")
    assert "exc_data_page while entering the handler of exc_div" in board.cpu.fatal_message
