"""Regions of generated code in a running CPU: what makes one come, go, stop and change."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from pathlib import Path

import pytest

from e2kemu.cpu.config import Config
from e2kemu.cpu.native.layout import Status
from e2kemu.cpu.native.translator import Translator
from e2kemu.cpu.rights import READ, WRITE
from tests.cpu.guest import CODE, Guest

LOOP = """
{ setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, 0, %dr1; disp %ctpr1, turn }
{ addd 0, [_f64 COUNT], %dr2 }
turn:
{ addd %dr0, 1, %dr0; addd %dr1, %dr0, %dr1; disp %ctpr1, turn }
{ cmpedb %dr0, %dr2, %pred0; xord %dr1, %dr0, %dr1 }
{ ct %ctpr1 ? ~%pred0 }
end:
{ addd %dr1, 0, %dr3 }
"""


def loop(count: int) -> Guest:
    """A hot loop of ``count`` turns; it ends at ``end``."""
    return Guest(LOOP.replace("[_f64 COUNT]", f"_f64 {count:#x}"))


def translator_of(guest: Guest) -> Translator:
    """The JIT tier of a guest's CPU."""
    assert guest.cpu.translator is not None
    return guest.cpu.translator


def wait_for_region(guest: Guest, pc: int) -> None:
    """Run until the region at ``pc`` is there."""
    translator = translator_of(guest)
    end = time.monotonic() + 60
    guest.cpu.run(100_000)
    while not any(region.pc == pc for region in translator.regions.values()):
        assert time.monotonic() < end, "no region came"
        guest.cpu.run(300)
        time.sleep(0.002)


def run_to(guest: Guest, symbol: str) -> None:
    """Run up to a label."""
    guest.cpu.breakpoints.add(guest.symbols[symbol])
    assert guest.cpu.run() == "breakpoint"
    guest.cpu.breakpoints.clear()


def expected(count: int) -> tuple[int, int]:
    """%dr0 and %dr1 after ``count`` turns of LOOP."""
    a = b = 0
    for _ in range(count):
        a, b = a + 1, b + a
        a, b = a, b ^ a
    return a, b & (1 << 64) - 1


def test_a_hot_loop_runs_in_generated_code_and_counts_every_wide_instruction() -> None:
    count = 2_000_000
    guest = loop(count)
    wait_for_region(guest, guest.symbols["turn"])
    assert guest.cpu.run(2 + 3 * count - guest.cpu.executed) == "limit"
    assert guest.state.pc == guest.symbols["end"]
    assert (guest.state["r0"], guest.state["r1"]) == expected(count)
    assert guest.cpu.executed == 2 + 3 * count
    assert translator_of(guest).statistics.executed > count


def test_a_loop_stopped_ten_thousand_times_computes_the_same() -> None:
    stops = 10_000
    guest = loop(1 << 60)
    wait_for_region(guest, guest.symbols["turn"])
    done = 0
    asked = threading.Semaphore(0)

    def ask() -> None:
        for _ in range(stops):
            asked.acquire()
            guest.cpu.request_exit()

    thread = threading.Thread(target=ask)
    thread.start()
    while done < stops:
        asked.release()
        assert guest.cpu.run() == "exit"
        done += 1
    thread.join()
    turns = guest.state["r0"]
    while guest.state.pc != guest.symbols["turn"]:
        guest.cpu.step()
    assert guest.state["r0"] >= turns > 1000
    fresh = loop(guest.state["r0"])
    assert fresh.cpu.run(2 + 3 * guest.state["r0"]) == "limit"
    assert fresh.state["r1"] == guest.state["r1"]


def test_a_trap_in_the_last_wide_instruction_of_a_hot_loop_shows_the_exact_state() -> None:
    text = """
    { setwd wsz=8, nfx=1; addd 0, _f64 0x30000, %dr0; disp %ctpr1, turn }
    { addd 0, _f64 300000, %dr2; addd 0, 0, %dr1 }
    turn:
    { addd %dr1, 1, %dr1; subd %dr2, 1, %dr2; disp %ctpr1, turn }
    { std %dr1, [%dr0 + 0] }
    { sdivd %dr1, %dr2, %dr3; addd %dr1, 5, %dr4; ct %ctpr1 }
    """
    states = []
    for accel in ("jit", "reference"):
        guest = Guest(text)
        if accel == "reference":
            guest.cpu.translator = None
        else:
            translator_of(guest).eager = True
        assert guest.cpu.run() == "fatal"
        assert guest.cpu.fatal_reason.startswith("exc_div")
        states.append((bytes(guest.state.buffer), guest.ram.read(0x30000, 8), guest.cpu.executed))
        if accel == "jit":
            assert translator_of(guest).statistics.executed > 800_000
    assert states[0] == states[1]


def test_code_that_changes_itself_in_a_hot_loop_does_what_it_says_now() -> None:
    # every 1000 turns the loop puts another literal into the wide instruction at ``patch``
    text = """
    { setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, 0, %dr1; disp %ctpr1, turn }
    { addd 0, _f64 patch, %dr5; addd 0, _f32s 100000, %dr2 }
    { addd 0, 1000, %dr6 }
    turn:
    { addd %dr0, 1, %dr0; subd %dr6, 1, %dr6; disp %ctpr1, turn }
    patch:
    { addd %dr1, _f32s 0x11223344, %dr1 }
    { cmpedb %dr6, 0, %pred1; cmpedb %dr0, %dr2, %pred0 }
    { stw %r0, [%dr5 + 12] ? %pred1; addd 0, 1000, %dr6 ? %pred1 }
    { ct %ctpr1 ? ~%pred0 }
    end:
    { addd %dr1, 0, %dr3 }
    """
    results = []
    for accel in ("jit", "reference"):
        guest = Guest(text)
        if accel == "reference":
            guest.cpu.translator = None
        literal = guest.space.read_bytes(guest.symbols["patch"], 24).find(bytes.fromhex("44332211"))
        assert literal > 0
        guest = Guest(text.replace("%dr5 + 12", f"%dr5 + {literal}"))
        if accel == "reference":
            guest.cpu.translator = None
        assert guest.cpu.run(3 + 5 * 100_000) == "limit"
        assert guest.state.pc == guest.symbols["end"]
        results.append(guest.state["r1"])
        if accel == "jit":
            # each change drops what was made of the page, by the translator or the interpreter
            statistics = translator_of(guest).statistics
            assert statistics.dropped + statistics.exits[Status.PAGE] >= 50
    assert results[0] == results[1]


def test_a_breakpoint_set_while_a_hot_loop_runs_stops_it() -> None:
    guest = loop(1 << 60)
    wait_for_region(guest, guest.symbols["turn"])
    place = guest.symbols["turn"]

    def set_it() -> None:
        time.sleep(0.05)
        guest.cpu.breakpoints.add(place)
        guest.cpu.request_exit()

    thread = threading.Thread(target=set_it)
    thread.start()
    while (reason := guest.cpu.run()) == "exit":
        pass
    thread.join()
    assert (reason, guest.state.pc) == ("breakpoint", place)


def test_memory_written_from_outside_is_code_from_then_on() -> None:
    guest = loop(1 << 60)
    wait_for_region(guest, guest.symbols["turn"])
    other = Guest("{ addd 0, 77, %dr7 }\nagain: { ibranch again }")
    guest.space.write_bytes(guest.symbols["turn"], other.space.read_bytes(CODE, 64))
    guest.state.pc = guest.symbols["turn"]
    assert guest.cpu.run(10_000) == "limit"
    assert guest.state["r7"] == 77


def test_a_page_that_becomes_code_leaves_the_fast_way_of_stores() -> None:
    text = """
    { setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, _f64 0x40000, %dr5; disp %ctpr1, turn }
    turn:
    { addd %dr0, 1, %dr0; std %dr0, [%dr5 + 0]; disp %ctpr1, turn }
    { ct %ctpr1 }
    """
    guest = Guest(text)
    wait_for_region(guest, guest.symbols["turn"])
    seen: list[tuple[int, int]] = []
    guest.cpu.core.drop_code = lambda address, size: seen.append((address, size))
    guest.cpu.core.mark_code(0x40)
    guest.cpu.run(100)
    assert (0x40000, 8) in seen


def test_harvesting_dirty_marks_makes_stores_mark_again() -> None:
    text = """
    { setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, _f64 0x40000, %dr5; disp %ctpr1, turn }
    turn:
    { addd %dr0, 1, %dr0; std %dr0, [%dr5 + 0]; disp %ctpr1, turn }
    { ct %ctpr1 }
    """
    guest = Guest(text)
    wait_for_region(guest, guest.symbols["turn"])
    for _ in range(50):
        guest.cpu.run(1000)
        assert guest.ram.harvest_dirty()[0x40]


def test_regions_made_and_dropped_leave_memory_as_it_was() -> None:
    guest = loop(1 << 60)
    translator = translator_of(guest)
    translator.level = 0
    cfg = Config.of(guest.state)
    guest.cpu.step(3)
    cfg = Config.of(guest.state)

    def some(count: int) -> None:
        for _ in range(count):
            translator.clear()
            assert translator.translate_now(guest.symbols["turn"], cfg)
            translator.clear()
            translator.boundary()

    def resident() -> int:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free counts for nothing
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    some(60)
    before = resident()
    some(200)
    assert resident() - before < 4 << 20
    assert translator.statistics.dropped >= 260


@pytest.mark.parametrize("accel", ["jit", "reference"])
def test_a_guest_moved_in_the_middle_of_a_hot_region_computes_the_same(accel: str) -> None:
    count = 300_000
    source = loop(count)
    if accel == "reference":
        source.cpu.translator = None
    hops = 100 if accel == "jit" else 10
    total = 2 + 3 * count
    for hop in range(hops):
        share = total // hops + (total % hops if hop == 0 else 0)
        assert source.cpu.run(share) == "limit"
        target = loop(count)
        if accel == "reference":
            target.cpu.translator = None
        target.state.buffer[:] = source.state.buffer
        target.ram.mem[: 1 << 20] = source.ram.mem[: 1 << 20]
        source = target
    assert source.state.pc == source.symbols["end"]
    assert (source.state["r0"], source.state["r1"]) == expected(count)


WATCHED = """
{ setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, _f64 0x40000, %dr5; disp %ctpr1, turn }
turn:
{ addd %dr0, 1, %dr0; ldd [%dr5 + 64], %dr1; disp %ctpr1, turn }
{ std %dr0, [%dr5 + 8]; shld %dr0, 48, %dr2 }
{ cmpedb %dr2, 0, %pred0; addd %dr0, 0, %dr3 }
{ std %dr0, [%dr5 + _f32s 0x10010] ? %pred0 }
{ ct %ctpr1 }
"""


@pytest.mark.parametrize("accel", ["jit", "interp", "reference"])
def test_a_watchpoint_stops_behind_the_wide_instruction_that_touches_it(accel: str) -> None:
    guest = Guest(WATCHED, accel=accel)
    guest.cpu.run(1000)
    guest.cpu.core.watch(0x50010, 8, WRITE)
    assert guest.cpu.run() == "watchpoint"
    assert guest.cpu.core.watch_hit == (0x50010, 8, WRITE)
    assert guest.state["r0"] == 1 << 16
    assert guest.space.read(0x50010, 8) == 1 << 16
    guest.cpu.core.unwatch(0x50010, 8, WRITE)
    guest.cpu.core.watch(0x40044, 1, READ)
    assert guest.cpu.run() == "watchpoint"
    assert guest.cpu.core.watch_hit == (0x40040, 8, READ)
    assert guest.state["r0"] == (1 << 16) + 1
    guest.cpu.core.unwatch(0x40044, 1, READ)
    assert guest.cpu.run(100_000) == "limit"


@pytest.mark.parametrize("accel", ["jit", "interp", "reference"])
def test_a_return_to_where_no_wide_instruction_can_be_is_a_trap(accel: str) -> None:
    guest = Guest("""
    { setwd wsz=8, nfx=1; setbn rbs=4, rsz=3, rcur=0; disp %ctpr1, callee }
    { call %ctpr1, wbs=4 }
    { addd 0, 0, %dr0 }
    callee:
    { setwd wsz=4, nfx=1; rrd %cr0.hi, %dr0 }
    { addd %dr0, 4, %dr0 }
    { rwd %dr0, %cr0.hi }
    { return %ctpr3; nop 4 }
    { ct %ctpr3 }
    """, accel=accel)
    if accel == "jit":
        translator_of(guest).eager = True
    assert guest.cpu.run(1000) == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_illegal_instr_addr")
