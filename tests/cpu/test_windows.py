"""Windows, stacks, traps, system registers and the stream's section, by running code."""

from __future__ import annotations

from e2kemu.cpu.isa.registers import STATE_REGISTERS, WINDOW_DOUBLES
from e2kemu.cpu.state import Slot
from e2kemu.wire import BytesReader, Writer
from tests.cpu.guest import CODE, STACKS, Guest

RECURSION = """
    { setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; disp %ctpr1, sum; nop 5 }
    { addd,0 0, DEPTH, %db[0]; call %ctpr1, wbs=8 }
end:
    { addd,0 0, %db[0], %dr0 }
sum: // r0 = n -> n + sum(n - 1)
    { setwd wsz=16, nfx=1; setbn rbs=8, rsz=7, rcur=0; disp %ctpr1, sum; nop 5 }
    { nop 2; cmpedb,0 %dr0, 0, %pred0; addd,1 0, %dr0, %dr5; subd,3 %dr0, 1, %db[0] }
    { ibranch out ? %pred0 }
    { nop 3 }
    { call %ctpr1, wbs=8 }
    { nop 4; return %ctpr3; addd,0 %db[0], %dr5, %dr0 }
    { ct %ctpr3 }
out:
    { nop 4; return %ctpr3 }
    { ct %ctpr3 }
"""


def recursion(depth: int, *, stacks: bool = True) -> Guest:
    guest = Guest(RECURSION.replace("DEPTH", str(depth)), stacks=stacks)
    guest.cpu.breakpoints.add(guest.symbols["end"])
    return guest


def test_recursion_300_deep_spills_and_fills_registers_and_chain() -> None:
    guest = recursion(300)
    lows: list[int] = []
    guest.cpu.on_block(lambda cpu, pc: lows.append(cpu.state["psp.hi"] & 0xFFFFFFFF))
    assert guest.cpu.run() == "breakpoint"
    guest.cpu.run(1)
    assert guest.state["r0"] == 300 * 301 // 2
    assert max(lows) > 250 * 16 * 16
    assert guest.state["psp.hi"] & 0xFFFFFFFF == 0
    assert guest.state["pcsp.hi"] & 0xFFFFFFFF == 0


def test_no_more_registers_are_live_than_the_hardware_has() -> None:
    guest = recursion(60)
    worst = []

    def look(cpu: object, pc: int) -> None:
        x = guest.state.X
        worst.append(x[Slot.BASE] + guest.state.window_size - x[Slot.BOTTOM])

    guest.cpu.on_block(look)
    assert guest.cpu.run() == "breakpoint"
    assert max(worst) <= WINDOW_DOUBLES


def test_a_spilled_quad_has_the_layout_of_its_instruction_set() -> None:
    for model, order in (("e8c", (1, 2, 11, 12)), ("e8c2", (1, 11, 2, 12))):
        guest = Guest("{ setwd wsz=8, nfx=1; setbn rbs=4, rsz=3, rcur=0; disp %ctpr1, f; nop 5 }\n"
                      "{ call %ctpr1, wbs=4 }\nf:\n{ flushr }", model=model)
        for i in (0, 1):
            guest.state[f"r{i}"], guest.state[f"r{i}.ext"] = 1 + i, 11 + i
        assert guest.cpu.run(3) == "limit"
        words = [guest.space.read(STACKS + 8 * i, 8) for i in range(4)]
        assert tuple(words) == order


def test_without_a_procedure_stack_deep_recursion_raises_the_bounds_trap() -> None:
    guest = recursion(300, stacks=False)
    guest.state["psr"] = 1 | 4      # the bounds are guarded
    assert guest.cpu.run() == "fatal"
    assert guest.cpu.fatal_reason.startswith(("exc_proc_stack_bounds", "exc_chain_stack_bounds"))


def test_a_fresh_register_is_empty_and_traps_when_read() -> None:
    guest = Guest("{ setwd wsz=16, nfx=1 }\n{ addd,0 %dr20, 1, %dr0 }")
    assert guest.cpu.run() == "fatal"
    assert guest.cpu.fatal_reason.startswith(f"exc_diag_operand at {CODE + guest.cpu.reference.fetch(CODE).size:#x}")


def test_rotation_moves_names_and_wraps() -> None:
    guest = Guest("""{ setwd wsz=12, nfx=1; setbn rbs=4, rsz=2, rcur=0 }
        { addd,0 0, 7, %db[0] }
        { abn abnf=1, abnt=1 }
        { addd,0 0, %db[2], %dr0 }
        { abn abnf=1, abnt=1 }
        { abn abnf=1, abnt=1 }
        { addd,0 0, %db[0], %dr1 }""")
    assert guest.cpu.run(7) == "limit"
    assert (guest.state["r0"], guest.state["r1"]) == (7, 7)


def test_loop_counts_agree_with_the_reference() -> None:
    for lcnt, ecnt, turns in ((0, 0, 1), (1, 0, 1), (2, 0, 2), (3, 0, 3), (8, 0, 8), (8, 2, 10), (0, 8, 9)):
        guest = Guest(f"""{{ addd,0 0, 0, %dr0; disp %ctpr1, top }}
            {{ nop 7; rwd,0 {1 << 37 | ecnt << 32 | lcnt:#x}, %lsr }}
        top:
            {{ addd,0 %dr0, 1, %dr0; alc alcf=1, alct=1; ct %ctpr1 ? #NOT_LOOP_END }}
        end: {{ nop 1 }}""")
        guest.cpu.breakpoints.add(guest.symbols["end"])
        assert guest.cpu.run(100) == "breakpoint"
        assert guest.state["r0"] == turns, (lcnt, ecnt)


def test_a_trap_enters_the_table_and_done_repeats_the_instruction() -> None:
    guest = Guest("""    { udivd,5 %dr0, %dr1, %dr2; addd,0 %dr3, 1, %dr3 }
    { nop 1 }
    .align 0x800
    table:
    { setwd wsz=4, nfx=1 }
    { nop 3; rrd,0 %tir.hi, %dr0 }
    { rrd,0 %cr0.hi, %dr1 }
    { rrd,0 %psr, %dr2 }
    { done }""")
    state = guest.state
    state["oscud.lo"], state["oscud.hi"] = guest.symbols["table"], 0x10000 << 32
    state["r0"], state["r1"], state["r3"] = 12, 0, 5
    psr = state["psr"] = 3
    assert guest.cpu.run(4) == "limit"
    assert (state["r0"], state["r1"], state["r2"]) == (1 << 34 | 1 << 44 + 5, CODE, 1)
    assert guest.cpu.step() == "limit"
    assert (state.pc, state["r3"], state["psr"]) == (CODE, 5, psr)
    state["r1"] = 4
    assert guest.cpu.step() == "limit"
    assert (state["r2"], state["r3"]) == (3, 6)


def test_user_code_may_not_touch_privileged_registers() -> None:
    guest = Guest("{ rwd,0 %dr0, %psr }")
    guest.state["psr"] = 0
    assert guest.cpu.step() == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_priv_action")


def test_registers_by_name_and_every_state_register_can_be_read() -> None:
    state = Guest().state
    state["%b[1]"] = 5
    assert state["b1"] == state["r9"] == 5
    assert len([state.get(r.name) for r in STATE_REGISTERS if r.since <= 4 <= r.until]) > 60


def test_a_cpu_goes_on_from_its_section_as_if_nothing_had_happened() -> None:
    whole, first, second = (recursion(120) for _ in range(3))
    for guest in (whole, first):
        assert guest.cpu.run(500) == "limit"
    w = Writer()
    first.cpu.section().save(w)
    data = w.getvalue()
    second.space.write_bytes(0, bytes(first.ram.mem))
    second.cpu.section().load(BytesReader(data), 1)
    again = Writer()
    second.cpu.section().save(again)
    assert again.getvalue() == data
    for guest in (whole, second):
        assert guest.cpu.run() == "breakpoint"
        guest.cpu.run(1)
    results = []
    for guest in (whole, second):
        w = Writer()
        guest.cpu.section().save(w)
        results.append(w.getvalue())
    assert results[0] == results[1]
    assert second.state["r0"] == 120 * 121 // 2
