"""Tags of registers on the procedure stack; what kernels write to PSHTP and PCSHTP."""

from __future__ import annotations

import pytest

from e2kemu.wire import BytesReader, Writer
from tests.cpu.guest import STACKS, Guest
from tests.cpu.tiers import both

SPILLED = """
    { setwd wsz=16, nfx=1
      disp %ctpr1, sub }
    { ldd,0,sm [ %dg0 + 0 ], %dr3
      addd,1 0, 7, %dr4
      puttagd,2 0, 10, %dr5 }
    { call %ctpr1, wbs=8 }
    { addd,0,sm %dr3, 0, %dr8
      addd,1 %dr4, 0, %dr9 }
    { addd,0 %dr3, 0, %dr8 }
    sub:
    { setwd wsz=8, nfx=1
      return %ctpr3 }
    { flushr }
    { ct %ctpr3 }
"""


def nowhere(guest: Guest) -> None:
    guest.state["g0"] = 1 << 50


@pytest.mark.parametrize("model", ["e8c", "e8c2"])
def test_a_register_comes_back_from_memory_with_its_tag(model: str) -> None:
    guest, end = both(SPILLED, 7, nowhere, model=model)
    assert end == ""
    state = guest.state
    assert (state["r3.tag"], state["r4.tag"], state["r5.tag"], state["r9"]) == (5, 0, 10, 7)
    assert both(SPILLED, 8, nowhere, model=model)[1] == "exc_diag_operand"


def test_tags_travel_with_the_memory_they_are_in() -> None:
    source, target = Guest(SPILLED), Guest(SPILLED)
    nowhere(source)
    assert source.cpu.run(5) == "limit"
    writer = Writer()
    source.cpu.section().save(writer)
    target.space.write_bytes(STACKS, source.space.read_bytes(STACKS, 0x1000))
    target.cpu.section().load(BytesReader(writer.getvalue()), 1)
    assert target.cpu.run(1) == "limit"
    assert (target.state["r3.tag"], target.state["r5.tag"]) == (5, 10)


def test_what_is_stored_on_the_stack_later_has_no_tag() -> None:
    guest = Guest(SPILLED)
    nowhere(guest)
    assert guest.cpu.run(5) == "limit"
    guest.space.write_bytes(STACKS, bytes(0x1000))
    assert guest.cpu.run(1) == "limit"
    assert (guest.state["r3.tag"], guest.state["r3"]) == (0, 0)


@pytest.mark.parametrize("model", ["e8c", "e8c2"])
def test_many_registers_keep_their_tags_and_extensions_across_pages(model: str) -> None:
    text = "{ setwd wsz=112, nfx=1\n disp %ctpr1, sub }\n{ call %ctpr1, wbs=112 }\nsub:\n{ flushr }"
    guest = Guest(text, model=model)
    assert guest.cpu.run(1) == "limit"
    guest.state["psp.hi"] = guest.state["psp.hi"] | 0xF00
    base = guest.state.X[1]
    tags = bytes(number % 16 for number in range(224))
    extensions = [number * 0x1F3 & 0xFFFF for number in range(224)]
    guest.state.T[base : base + 224] = tags
    for number, extension in enumerate(extensions):
        guest.state.E[base + number] = extension
    assert guest.cpu.run(2) == "limit"
    guest.cpu.core.prepare_return()
    bottom = guest.state.X[2]
    assert bytes(guest.state.T[bottom : bottom + 224]) == tags
    assert guest.state.E[bottom : bottom + 224].tolist() == extensions


@pytest.mark.parametrize(("kept", "live"), [(0, 0), (0x40, 8), (0x80, 16), (0x100, 16)])
def test_pshtp_lets_go_of_the_oldest_registers(kept: int, live: int) -> None:
    text = "{ setwd wsz=16, nfx=1\n disp %ctpr1, sub }\n{ call %ctpr1, wbs=8 }\nsub:\n"
    guest, _ = both(text + f"{{ rwd,0 {kept:#x}, %pshtp }}\n{{ rrd,0 %pshtp, %dr0 }}", 4)
    assert guest.state["r0"] == 8 * live


@pytest.mark.parametrize(("kept", "entries"), [(0, 0), (32, 1), (64, 2), (96, 2)])
def test_pcshtp_lets_go_of_the_oldest_entries(kept: int, entries: int) -> None:
    text = """
    { setwd wsz=16, nfx=1
      disp %ctpr1, sub }
    { call %ctpr1, wbs=4 }
    sub:
    { disp %ctpr1, leaf }
    { call %ctpr1, wbs=4 }
    leaf:
    """
    plain, _ = both(text, 4)
    guest, _ = both(text + f"{{ rwd,0 {kept:#x}, %pcshtp }}\n{{ rrd,0 %pcshtp, %dr0 }}", 6)
    assert guest.state["r0"] == 32 * entries
    chain = plain.state.C[:8].tolist()
    assert guest.state.C[: 4 * entries].tolist() == chain[8 - 4 * entries :]
