"""Programs under page tables, in each tier: what they compute, what faults, whose code is executed."""

from __future__ import annotations

import random

import pytest

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.state import PSR
from tests.cpu.guest import CODE, STACKS, Guest
from tests.cpu.paging import PAGE, TABLES, Tables
from tests.framework.seeds import chosen_seed

TIERS = ("jit", "interp", "reference")

HIGH = 0x4000_0000_0000
"""Virtual addresses that are no physical ones."""

DATA = HIGH + 0x20_0000
FRAMES = range(0x100_0000, 0x180_0000, PAGE)

SUM = f"""
{{ setwd wsz=8, nfx=1 }}
{{ addd 0, 0x{DATA:x}, %dr0 ; addd 0, 0, %dr1 ; addd 0, 0, %dr2 ; disp %ctpr1, again }}
again:
{{ nop 3 ; ldd,0 %dr0, %dr1, %dr3 }}
{{ addd,0 %dr2, %dr3, %dr2 }}
{{ std,2 %dr2, %dr0, %dr1 }}
{{ addd,0 %dr1, 8, %dr1 }}
{{ nop 2 ; cmplsb,0 %dr1, 0x8000, %pred0 }}
{{ ct %ctpr1 ? %pred0 }}
{{ setsft }}
"""
"""Running sums of 8 pages of double words at DATA, in place."""


def guest_at(text: str, accel: str, *, base: int = HIGH, user: bool = False) -> tuple[Guest, Tables]:
    """A guest with code linked at a virtual address, which is mapped to CODE; its stacks are mapped as they are."""
    guest = Guest(accel=accel)
    put(guest, text, CODE, base)
    guest.state.pc = base
    if guest.cpu.translator is not None:
        guest.cpu.translator.eager = accel == "jit"
    if user:
        guest.state.S[PSR] &= ~1
    tables = Tables(guest)
    tables.map(base, CODE, 4)
    tables.map(STACKS, STACKS, 768, user=False)
    return guest, tables


def put(guest: Guest, text: str, where: int, base: int) -> None:
    """Assemble for a virtual address, store at a physical one."""
    image = assemble(text, version=guest.cpu.model.version, base=base)
    guest.space.write_bytes(where, image.data)
    guest.symbols.update(image.symbols)


def ended(guest: Guest, name: str) -> None:
    """The guest has no trap table: the exception ends it."""
    assert guest.cpu.run() == "fatal"
    assert guest.cpu.core.paging
    assert guest.cpu.fatal_reason.startswith(name), guest.cpu.fatal_message


@pytest.mark.parametrize("accel", TIERS)
@pytest.mark.parametrize("large", [False, True])
def test_a_program_works_on_scattered_pages(accel: str, large: bool) -> None:
    guest, tables = guest_at(SUM, accel)
    rng = random.Random(chosen_seed())
    values = [rng.getrandbits(64) for _ in range(4096)]
    if large:
        frames = list(FRAMES[:8])
        tables.map(DATA, FRAMES[0], large=True)
    else:
        frames = rng.sample(FRAMES, 8)
        for number, frame in enumerate(frames):
            tables.map(DATA + PAGE * number, frame)
    for number, frame in enumerate(frames):
        guest.space.write_bytes(frame, b"".join(v.to_bytes(8, "little") for v in values[512 * number :][:512]))
    tables.use()
    ended(guest, "exc_software_trap")
    total, wrong = 0, []
    for number, frame in enumerate(frames):
        found = memoryview(guest.space.read_bytes(frame, PAGE)).cast("Q")
        for index in range(512):
            total = total + values[512 * number + index] & (1 << 64) - 1
            if found[index] != total:
                wrong.append((number, index))
    assert not wrong


@pytest.mark.parametrize("accel", TIERS)
@pytest.mark.parametrize(("missing", "exc"), [("page", "exc_data_page"), ("write", "exc_data_page")])
def test_a_page_that_forbids_it_stops_the_program_at_its_first_address(accel: str, missing: str, exc: str) -> None:
    guest, tables = guest_at(SUM, accel)
    for number in range(8):
        if number != 5 or missing != "page":
            tables.map(DATA + PAGE * number, FRAMES[number], write=number != 5)
    tables.use()
    ended(guest, exc)
    assert guest.state["r1"] == 5 * PAGE
    assert f"{DATA + 5 * PAGE:#x}" in guest.cpu.fatal_message


ACCESSES = f"""
{{ setwd wsz=8, nfx=1 }}
{{ addd 0, 0x{DATA:x}, %dr0 }}
{{ nop 3 ; ldd,0 %dr0, 0, %dr3 }}
{{ setsft }}
"""


@pytest.mark.parametrize("accel", TIERS)
def test_a_privileged_page_is_for_privileged_code(accel: str) -> None:
    for user, exc in ((False, "exc_software_trap"), (True, "exc_data_page")):
        guest, tables = guest_at(ACCESSES, accel, user=user)
        tables.map(DATA, FRAMES[0], user=False)
        tables.use()
        ended(guest, exc)


@pytest.mark.parametrize("accel", TIERS)
def test_what_privileged_code_has_touched_stays_closed_to_user_code(accel: str) -> None:
    # the page is in the TLBs of privileged code when user code comes
    guest, tables = guest_at(ACCESSES, accel)
    tables.map(DATA, FRAMES[0], user=False)
    tables.use()
    ended(guest, "exc_software_trap")
    guest.state.pc = HIGH
    guest.state.S[PSR] &= ~1
    ended(guest, "exc_data_page")


@pytest.mark.parametrize("accel", TIERS)
def test_user_code_cannot_go_on_in_a_privileged_page_that_was_executed_before(accel: str) -> None:
    guest, tables = guest_at("{ setsft }", accel)
    tables.map(HIGH, CODE, user=False)
    tables.use()
    ended(guest, "exc_software_trap")
    guest.state.pc = HIGH
    guest.state.S[PSR] &= ~1
    ended(guest, "exc_instr_page_prot")


@pytest.mark.parametrize("accel", TIERS)
def test_code_that_is_not_to_be_executed_is_not(accel: str) -> None:
    guest, tables = guest_at("{ setsft }", accel)
    tables.map(HIGH, CODE, execute=False)
    tables.use()
    ended(guest, "exc_instr_page_prot")
    guest.state.pc = HIGH + (1 << 30)
    ended(guest, "exc_instr_page_miss")


COUNT = """
{ setwd wsz=8, nfx=1 }
{ addd 0, 0, %dr1 ; addd 0, 0, %dr2 ; disp %ctpr1, again }
again:
{ addd,0 %dr1, STEP, %dr1 ; addd,3 %dr2, 1, %dr2 }
{ nop 2 ; cmplsb,0 %dr2, 1000, %pred0 }
{ ct %ctpr1 ? %pred0 }
{ setsft }
"""


@pytest.mark.parametrize("accel", TIERS)
def test_two_address_spaces_have_their_own_code_at_one_address(accel: str) -> None:
    guest, first = guest_at(COUNT.replace("STEP", "3"), accel)
    put(guest, COUNT.replace("STEP", "5"), CODE + 4 * PAGE, HIGH)
    second = Tables(guest, TABLES + 0x10_0000)
    second.map(HIGH, CODE + 4 * PAGE, 4)
    second.map(STACKS, STACKS, 768, user=False)
    for _ in range(4):
        for tables, step in ((first, 3), (second, 5)):
            tables.use()
            guest.state.pc = HIGH
            ended(guest, "exc_software_trap")
            assert guest.state["r1"] == 1000 * step
    if accel == "jit":
        assert guest.cpu.translator is not None
        assert guest.cpu.translator.statistics.regions >= 2


@pytest.mark.parametrize("accel", TIERS)
def test_code_changed_through_another_address_is_the_new_code(accel: str) -> None:
    writer = f"""
start:
    {{ setwd wsz=8, nfx=1 }}
    {{ addd 0, 0x{DATA:x}, %dr0 ; disp %ctpr1, start + {PAGE} }}
    {{ nop 3 ; ldd,0 %dr0, 0, %dr3 }}
    {{ std,2 %dr3, %dr0, 0x800 }}
    {{ nop 5 }}
    {{ ct %ctpr1 }}
    """
    guest, tables = guest_at(writer, accel)
    old, new = (assemble(text, version=guest.cpu.model.version, base=HIGH + PAGE).data
                for text in ("{ addd,0 0, 1, %dr4 } { setsft }", "{ addd,0 0, 2, %dr4 } { setsft }"))
    guest.space.write_bytes(CODE + PAGE, old)
    tables.map(DATA, CODE + PAGE)               # the same page as HIGH + PAGE
    tables.use()
    guest.state.pc = HIGH + PAGE
    ended(guest, "exc_software_trap")
    assert guest.state["r4"] == 1
    # 0x800 bytes behind the code, then over it
    guest.space.write_bytes(CODE + PAGE + 0x100, new[:8])
    text = writer.replace("%dr0, 0, %dr3", "%dr0, 0x100, %dr3").replace("0x800", "0")
    put(guest, text, CODE, HIGH)
    guest.state.pc = HIGH
    ended(guest, "exc_software_trap")
    assert guest.state["r4"] == 2


@pytest.mark.parametrize("accel", TIERS)
def test_a_wide_instruction_may_cross_into_a_page_that_lies_elsewhere(accel: str) -> None:
    pair = "{ addd,0 0, 0x123456789abcdef, %dr1 ; addd,3 0, 0xfedcba987654321, %dr2 }\n"
    text = "{ setwd wsz=8, nfx=1 }\n" + 300 * pair
    guest, tables = guest_at(text + "{ setsft }", accel)
    size = len(assemble(text, version=guest.cpu.model.version, base=HIGH).data)
    assert size > PAGE
    code = guest.space.read_bytes(CODE, 4 * PAGE)
    for number, frame in enumerate((FRAMES[9], FRAMES[3], FRAMES[5], FRAMES[1])):
        guest.space.write_bytes(frame, code[PAGE * number :][:PAGE])
        tables.map(HIGH + PAGE * number, frame)
    tables.use()
    ended(guest, "exc_software_trap")
    assert (guest.state["r1"], guest.state["r2"]) == (0x123456789abcdef, 0xfedcba987654321)


@pytest.mark.parametrize("accel", TIERS)
def test_a_flush_of_a_page_ends_its_old_translation(accel: str) -> None:
    guest, tables = guest_at(SUM, accel)
    for number in range(8):
        tables.map(DATA + PAGE * number, FRAMES[number])
    tables.use()
    ended(guest, "exc_software_trap")
    guest.space.write_bytes(FRAMES[20], bytes([7]) + bytes(PAGE - 1))
    tables.map(DATA, FRAMES[20])
    guest.cpu.core.mmu.flush_page(DATA)
    guest.state.pc = HIGH
    ended(guest, "exc_software_trap")
    assert guest.space.read(FRAMES[20], 8) == guest.space.read(FRAMES[20] + 8, 8) == 7


@pytest.mark.parametrize("accel", TIERS)
def test_an_access_across_two_pages_reaches_both(accel: str) -> None:
    text = f"""
    {{ setwd wsz=8, nfx=1 }}
    {{ addd 0, 0x{DATA + PAGE - 3:x}, %dr0 ; addd,3 0, 0x1122334455667788, %dr1 }}
    {{ std,2 %dr1, %dr0, 0 }}
    {{ nop 4 ; ldd,0 %dr0, 0, %dr2 }}
    {{ setsft }}
    """
    guest, tables = guest_at(text, accel)
    tables.map(DATA, FRAMES[8])
    tables.map(DATA + PAGE, FRAMES[2])
    tables.use()
    ended(guest, "exc_software_trap")
    assert guest.state["r2"] == 0x1122334455667788
    assert guest.space.read_bytes(FRAMES[8] + PAGE - 3, 3) == b"\x88\x77\x66"
    assert guest.space.read_bytes(FRAMES[2], 5) == b"\x55\x44\x33\x22\x11"
    tables.unmap(DATA + PAGE)
    guest.cpu.core.mmu.flush_all()
    guest.space.write_bytes(FRAMES[8] + PAGE - 3, bytes(3))
    guest.state.pc = HIGH
    ended(guest, "exc_data_page")
    assert guest.space.read_bytes(FRAMES[8] + PAGE - 3, 3) == bytes(3)
