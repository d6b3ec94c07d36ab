"""The native interpreter in a running CPU: programs, code that changes, pages, limits, what is hot."""

from __future__ import annotations

import pytest

from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.native.interp import layout as at
from e2kemu.cpu.native.layout import Status
from tests.cpu.guest import CODE, Guest
from tests.cpu.native.interp_cases import interpreted, interpreter_of

LOOP = """
{ setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, 0, %dr1; disp %ctpr1, turn }
turn:
{ addd %dr0, 1, %dr0; addd %dr1, %dr0, %dr1; disp %ctpr1, turn }
{ cmpedb %dr0, _f32s COUNT, %pred0; xord %dr1, %dr0, %dr1 }
{ ct %ctpr1 ? ~%pred0 }
end:
{ addd %dr1, 0, %dr3 }
"""


def exits(guest: Guest) -> dict[int, int]:
    """How often native code came back, by status."""
    assert guest.cpu.translator is not None
    return guest.cpu.translator.statistics.exits


@pytest.mark.parametrize(("name", "output"), [
    ("alu-small", b"36de24a510e19c08\n"), ("mem-small", b"00000002838c4000\n"), ("call-small", b"89be5361a5bb2d4d\n"),
    ("sieve-small", b"primes below 2000: 303, sum 277050\n"), ("hello", b"hello from e2k\n")])
def test_programs_print_what_they_must(name: str, output: bytes) -> None:
    guest = interpreted()
    guest.load_elf(name)
    assert guest.cpu.run() == "exit"
    assert guest.output == output
    executed = guest.cpu.executed
    assert exits(guest).get(Status.STEP, 0) < executed // 50 + 10
    plain = Guest()
    plain.cpu.translator = None
    plain.load_elf(name)
    assert plain.cpu.run() == "exit"
    assert plain.cpu.executed == executed


def test_a_limit_is_exact_at_every_wide_instruction() -> None:
    whole, parts = (interpreted(text=LOOP.replace("COUNT", "50")) for _ in range(2))
    assert whole.cpu.run(100) == "limit"
    for _ in range(100):
        assert parts.cpu.run(1) == "limit"
    assert bytes(whole.state.buffer) == bytes(parts.state.buffer)
    assert whole.cpu.executed == parts.cpu.executed == 100


def test_a_request_to_exit_ends_an_endless_loop_at_a_transfer() -> None:
    guest = interpreted(text="turn:\n{ addd %dr0, 1, %dr0 }\n{ ibranch turn }")
    guest.cpu.request_exit()
    assert guest.cpu.run() == "exit"
    guest.cpu.run(1000)
    guest.cpu.request_exit()
    assert guest.cpu.run() == "exit"
    assert guest.state.pc in (CODE, CODE + 8, CODE + 16)


def test_code_changed_from_outside_is_decoded_again() -> None:
    guest = interpreted(text="start:\n{ addd %dr0, 1, %dr0 }\n{ ibranch start }")
    guest.state["wd"] = 8 << 19
    guest.state["r0"] = 0
    guest.cpu.run(20)
    assert guest.state["r0"] == 10
    other = Guest("{ addd %dr0, 7, %dr0 }").space.read_bytes(CODE, 8)
    guest.space.write_bytes(CODE, other)
    guest.cpu.invalidate(CODE, 8)
    guest.cpu.run(2)
    assert guest.state["r0"] == 17


def test_a_store_into_the_next_wide_instruction_takes_effect_there() -> None:
    text = """
    { setwd wsz=8, nfx=1; addd 0, _f64 patch, %dr5; addd 0, _f32s 0x55, %dr6; addd 0, 0, %dr1 }
    { stw %r6, [%dr5 + LITERAL] }
    patch:
    { addd %dr1, _f32s 0x11223344, %dr1 }
    { nop }
    """
    probe = Guest(text.replace("LITERAL", "0"))
    literal = probe.space.read_bytes(probe.symbols["patch"], 16).find(bytes.fromhex("44332211"))
    assert literal > 0
    guest = interpreted(text=text.replace("LITERAL", str(literal)))
    before = guest.ram.read(probe.symbols["patch"], 16)
    for _ in range(3):
        guest.space.write_bytes(probe.symbols["patch"], before)
        guest.cpu.invalidate(probe.symbols["patch"], 16)
        guest.state.pc = CODE
        assert guest.cpu.run(3) == "limit"
        assert guest.state["r1"] == 0x55


def test_a_wide_instruction_across_two_pages_runs_and_follows_changes_of_the_second() -> None:
    text = "start:\n{ addd %dr0, _f64 0x1122334455667788, %dr0 }\n{ ibranch start }"
    start = CODE + 0x1000 - 8
    guest = interpreted()
    guest.state["wd"] = 8 << 19
    guest.load(text, start)
    guest.state["r0"] = 0
    guest.cpu.run(4)
    assert guest.state["r0"] == 2 * 0x1122334455667788
    assert exits(guest)[Status.CROSS] == 1
    at_literal = start + guest.space.read_bytes(start, 24).find((0x11223344).to_bytes(4, "little"))
    assert at_literal >= CODE + 0x1000
    guest.space.write_bytes(at_literal, bytes(4))
    guest.cpu.invalidate(at_literal, 4)
    guest.state["r0"] = 0
    guest.cpu.run(2)
    assert guest.state["r0"] == 0x55667788


def test_all_of_memory_may_change_at_once_under_code_that_reaches_into_a_second_page() -> None:
    text = "start:\n{ addd %dr0, _f64 0x1122334455667788, %dr0 }\n{ ibranch start }"
    start = CODE + 0x1000 - 8
    guest = interpreted()
    guest.state["wd"] = 8 << 19
    guest.load(text, start)
    for count in (1, 1, 2, 1):
        guest.state.pc = start
        guest.state["r0"] = 0
        guest.cpu.run(count)
        assert guest.state["r0"] == 0x1122334455667788
        guest.cpu.invalidate(0, 64 << 20)


def test_code_at_the_end_of_memory_goes_as_far_as_it_can() -> None:
    end = 64 << 20
    guest = interpreted()
    guest.state["wd"] = 8 << 19
    guest.load("{ addd %dr0, 1, %dr0 }", end - 8)
    guest.state["r0"] = 1
    assert guest.cpu.run(2) == "fatal"
    assert guest.state["r0"] == 2
    assert guest.cpu.fatal_reason.startswith("exc_illegal_instr_addr")


def test_a_trap_leaves_the_state_as_before_its_wide_instruction() -> None:
    guest = interpreted(text="{ setwd wsz=8, nfx=1; addd 0, 5, %dr0; addd 0, 0, %dr1 }\n"
                             "{ addd %dr0, 1, %dr0; udivd,5 %dr0, %dr1, %dr2 }")
    assert guest.cpu.run(5) == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_div")
    assert guest.state["r0"] == 5
    assert guest.state.pc == guest.cpu.reference.fetch(CODE).size + CODE


def test_records_that_do_not_fit_are_dropped_and_made_again() -> None:
    guest = interpreted(text=LOOP.replace("COUNT", "1000"))
    interpreter = interpreter_of(guest)
    interpreter.context.interpreter[at.CAPACITY >> 3] = 110
    guest.cpu.run(500)
    far = interpreted(text=LOOP.replace("COUNT", "1000"))
    far.cpu.run(500)
    assert bytes(guest.state.buffer) == bytes(far.state.buffer)
    guest.load("\n".join(["{ addd %dr0, 1, %dr0 }"] * 200), CODE + 0x4000)
    guest.state["r0"] = 0
    guest.cpu.run(200)
    assert guest.state["r0"] == 200
    assert exits(guest)[Status.FULL] >= 1


def test_hot_places_are_told_only_to_the_translator() -> None:
    quiet = interpreted(text=LOOP.replace("COUNT", "20000"))
    quiet.cpu.run(50_000)
    assert Status.HOT not in exits(quiet)
    told = Guest(LOOP.replace("COUNT", "20000"))        # more than ``HOT`` times
    told.cpu.run(60_000)
    assert exits(told)[Status.HOT] >= 1


def test_two_cpus_share_host_code_and_nothing_else() -> None:
    first, second = interpreted(text=LOOP.replace("COUNT", "9")), interpreted(text=LOOP.replace("COUNT", "30"))
    for _ in range(10):
        first.cpu.run(2)
        second.cpu.run(3)
    assert first.cpu.executed == 20
    assert second.cpu.executed == 30
    assert interpreter_of(first).tables is interpreter_of(second).tables
    assert first.state["r0"] != second.state["r0"]


def test_every_model_can_be_interpreted() -> None:
    count = 0
    for name in MODELS:
        guest = interpreted(name, LOOP.replace("COUNT", "5"))
        assert guest.cpu.run(1 + 3 * 5) == "limit"
        assert guest.state["r0"] == 5
        assert isinstance(guest.cpu, Cpu)
        count += 1
    assert count >= 8
