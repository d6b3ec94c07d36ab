"""The array access unit: prefetch programs, mova, stores and loads by descriptor, its registers."""

from __future__ import annotations

import pytest

from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import Aau, AluInsn, Kind, Operand, Wide
from e2kemu.cpu.isa.aau import LDS, LDS_ACTIVE, Slot
from e2kemu.cpu.isa.table import by_name
from e2kemu.cpu.wide_arrays import MISSING
from e2kemu.wire import BytesReader, Writer
from tests.cpu.guest import RAM, Guest
from tests.cpu.tiers import Setup, both

ARRAY, OUT = 0x20000, 0x30000
M64 = (1 << 64) - 1
FORMATS = {"movab": 1, "movah": 2, "movaw": 3, "movad": 4}
MODELS = ("e8c", "e8c2", "e16c")


def array(values: list[int], size: int, at: int = ARRAY) -> Setup:
    def setup(guest: Guest) -> None:
        guest.space.write_bytes(at, b"".join(value.to_bytes(size, "little") for value in values))

    return setup


def reader(*reads: str, fapb: str = "fapb ct=1, fmt=4, mrng=8, asz=5", base: int = ARRAY, before: str = "",
           after: str = "") -> str:
    """Start a program on %aad0 = base, then one wide instruction with ``reads``."""
    lines = "\n".join(reads)
    return f"""
    {{ setwd wsz=16, nfx=1
      ldisp %ctpr2, program }}
    {{ addd,0 0, {base:#x}, %dr0
      addd,1 0, 8, %dr1
      addd,2 0, 0, %dr20
      addd,3 0, 0, %dr21 }}
    {{ aaurwd,2 %dr0, %aad0 }}
    {before}
    {{ bap }}
    {{ {lines} }}
    {after}
    program:
    {{ {fapb} }}
    """


def steps_of(text: str) -> int:
    """Wide instructions before the program."""
    return text.count("{") - 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("name", "fmt"), FORMATS.items())
def test_a_loop_reads_the_elements_of_an_array_one_after_the_other(name: str, fmt: int, model: str) -> None:
    text = f"""
    {{ setwd wsz=8, nfx=1
      rwd,0 (1 << 37) | 8, %lsr
      ldisp %ctpr2, program }}
    {{ addd,0 0, {ARRAY:#x}, %dr0
      disp %ctpr1, loop }}
    {{ aaurwd,2 %dr0, %aad0 }}
    {{ bap }}
    {{ addd,0 0, 0, %dr0 }}
    loop:
    {{ {name},0 area=0, ind=0, am=1, be=0, %r1 }}
    {{ alc alcf=0, alct=1
      addd,0 %dr0, %dr1, %dr0
      ct %ctpr1 ? %NOT_LOOP_END }}
    {{ eap }}
    {{ nop 1 }}
    program:
    {{ fapb ct=1, fmt={fmt}, mrng=8, asz=1 }}
    """
    values = [1, 20, 3, 40, 5, 60, 7, 80]
    guest, _ = both(text, 5 + 16 + 2, array(values, 1 << fmt - 1), model=model)
    assert guest.state["r0"] == sum(values)
    assert guest.state.A[Slot.AASR] & LDS == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fmt", range(6))
@pytest.mark.parametrize("name", FORMATS)
def test_an_element_narrower_than_mova_is_diagnostic(name: str, fmt: int, model: str) -> None:
    text = reader(f"{name},0 area=0, ind=0, am=1, be=0, %r4", fapb=f"fapb ct=1, fmt={fmt}, mrng=8, asz=1",
                  after="{ addd,0 %dr4, 0, %dr5 }")
    guest, end = both(text, steps_of(text), array([7], 8), model=model)
    if fmt < FORMATS[name]:
        assert end == "exc_diag_operand"
        assert (guest.state["r4"], guest.state["r4.tag"]) == (MISSING, 5)
    else:
        assert end == ""
        assert guest.state["r5"] == 7


@pytest.mark.parametrize(("name", "fmt"), [("movah", 2), ("movaw", 3), ("movad", 4)])
def test_a_misaligned_array_is_diagnostic_up_to_v4(name: str, fmt: int) -> None:
    for model in ("e2s", "e8c", "e8c2", "e16c"):
        text = reader(f"{name},0 area=0, ind=0, am=1, be=0, %r4", base=ARRAY + 1,
                      fapb=f"fapb ct=1, fmt={fmt}, mrng=8, asz=1", after="{ addd,0 %dr4, 0, %dr5 }")
        _, end = both(text, steps_of(text), array([7], 8, ARRAY + 1), model=model)
        assert end == ("exc_diag_operand" if model in ("e2s", "e8c") else ""), model


def test_the_four_channels_read_two_sides_and_a_pair_advances_once() -> None:
    text = reader("movad,0 area=0, ind=0, am=1, be=0, %r4", "movad,1 area=0, ind=8, am=1, be=0, %r5",
                  "movaw,2 area=1, ind=0, am=1, be=0, %r6", "movab,3 area=1, ind=3, am=0, be=0, %r7",
                  before="{ aaurwd,2 %dr1, %aaincr1; aaurwd,5 %dr1, %aaind1 }",
                  fapb="fapb ct=0, fmt=1; fapb dpl=0, fmt=0",
                  after="{ movad,1 area=0, ind=0, am=0, be=0, %r8\n movaw,3 area=1, ind=0, am=0, be=0, %r9 }")
    # the array of the left side steps by 16 bytes, that of the right one by 8 words
    text = text.replace("{ fapb ct=0, fmt=1; fapb dpl=0, fmt=0 }", """
    { fapb ct=0, fmt=5, mrng=16, asz=5
      fapb dpl=0, fmt=0 }
    { fapb ct=1, fmt=0
      fapb dpl=0, fmt=3, mrng=4, asz=5, incr=1, ind=1, disp=8 }
    """)
    data = [0x0101010101010101 * i for i in range(1, 9)]
    guest, end = both(text, steps_of(text) - 1, array(data, 8))
    state = guest.state
    assert end == ""
    assert [state[f"r{i}"] for i in (4, 5, 8)] == [data[0], data[1], data[2]]
    assert [state[f"r{i}"] for i in (6, 7, 9)] == [data[2] & 0xFFFFFFFF, data[2] & 0xFF, data[6] & 0xFFFFFFFF]


def test_double_length_gives_the_right_side_the_elements_of_the_left_one() -> None:
    text = reader("movad,0 area=0, ind=0, am=1, be=0, %r4", "movad,2 area=0, ind=0, am=1, be=0, %r5",
                  fapb="fapb ct=1, fmt=4, mrng=8\n fapb dpl=1, fmt=0")
    guest, _ = both(text, steps_of(text), array([5, 6], 8))
    assert (guest.state["r4"], guest.state["r5"]) == (5, 5)


def test_a_pair_and_a_128_bit_register_take_16_bytes() -> None:
    text = reader("movaq,0 area=0, ind=0, am=1, be=0, %r4", "movaqp,2 area=0, ind=0, am=1, be=0, %r6",
                  fapb="fapb ct=1, fmt=5, mrng=16\n fapb dpl=1")
    guest, _ = both(text, steps_of(text), array([5, 6], 8), model="e8c2")
    state = guest.state
    assert (state["r4"], state["r5"], state["r6"], state["r6.ext"]) == (5, 6, 5, 6)
    assert state.A[Slot.AALDI] == state.A[Slot.AALDI + 32] == 16


def test_bytes_beyond_those_prefetched_are_not_there() -> None:
    text = reader("movad,0 area=0, ind=0, am=0, be=0, %r4", "movad,1 area=0, ind=8, am=0, be=0, %r5",
                  "movad,2 area=0, ind=24, am=0, be=0, %r6", fapb="fapb ct=1, fmt=4, mrng=8\n fapb fmt=4, mrng=0")
    guest, _ = both(text, steps_of(text), array([1, 2, 3, 4], 8))
    assert [guest.state[f"r{i}.tag"] for i in (4, 5, 6)] == [0, 5, 0]
    assert guest.state["r6"] == 4


def test_a_fault_of_the_prefetch_is_put_off_until_the_value_is_used() -> None:
    text = reader("movad,0 area=0, ind=0, am=1, be=0, %r4", base=RAM - 8, after="""
        { movad,0 area=0, ind=0, am=1, be=0, %r5 }
        { addd,0 %dr4, 0, %dr6 }
        { addd,0,sm %dr5, 0, %dr6 }
        { addd,0 %dr5, 0, %dr6 }""")
    guest, end = both(text, steps_of(text), array([9], 8, RAM - 8))
    assert end == "exc_diag_operand"
    assert (guest.state["r4"], guest.state["r5"], guest.state["r5.tag"]) == (9, MISSING, 5)


def test_mova_without_a_running_program_is_diagnostic() -> None:
    for text in ("{ movad,0 area=3, ind=0, am=1, be=0, %r4 }",
                 reader("eap").replace("program:", "{ movad,0 area=0, ind=0, am=1, be=0, %r4 }\nprogram:")):
        guest, end = both(text, text.count("{") - text.count("fapb"), array([9], 8))
        assert end == ""
        assert (guest.state["r4"], guest.state["r4.tag"]) == (MISSING, 5)


@pytest.mark.parametrize(("model", "step", "found"), [("e8c", -1, [3, 2, 1, None]), ("e8c2", -1, [3, 2, 1, 0])])
def test_an_index_runs_backwards_and_below_zero_only_from_v5(model: str, step: int, found: list[int | None]) -> None:
    text = reader("movad,0 area=0, ind=0, am=1, be=0, %r4", fapb="fapb ct=1, fmt=4, mrng=8, incr=2, ind=2, disp=8",
                  before=f"{{ addd,0 0, {step}, %dr2; addd,1 0, 8, %dr3 }}\n"
                         "{ aaurwd,2 %dr2, %aaincr2; aaurwd,5 %dr3, %aaind2 }",
                  after="\n".join(f"{{ movad,0 area=0, ind=0, am=1, be=0, %r{r} }}" for r in (5, 6, 7)))
    guest, _ = both(text, steps_of(text), array([0, 1, 2, 3], 8, ARRAY - 8), model=model)
    for register, value in zip(range(4, 8), found, strict=True):
        if value is None:
            assert guest.state[f"r{register}.tag"] == 5
        else:
            assert guest.state[f"r{register}"] == value


@pytest.mark.parametrize(("prepare", "exception"), [
    ("", "exc_illegal_instr_addr"), ("{ disp %ctpr2, program }", "exc_illegal_instr_addr"),
    ("{ ldd,0,sm [ %dr0 + 0 ], %dr0 }\n{ movtd,0 %dr0, %ctpr2 }", "exc_diag_instr_addr")])
def test_bap_needs_a_program_prepared_by_ldisp(prepare: str, exception: str) -> None:
    def nowhere(guest: Guest) -> None:
        guest.state["r0"] = 1 << 50

    text = f"{prepare}\n{{ bap }}\nprogram:\n{{ fapb ct=1 }}"
    assert both(text, prepare.count("{") + 1, nowhere)[1] == exception


def test_stores_by_descriptor_advance_their_indices() -> None:
    text = f"""
    {{ setwd wsz=8, nfx=1
      disp %ctpr1, loop
      addd,1 0, 0, %dr0
      rwd,0 (1 << 37) | 8, %lsr }}
    {{ addd,0 0, {OUT:#x}, %dr4; addd,1 0, {OUT + 0x100:#x}, %dr5; addd,2 0, 2, %dr8 }}
    {{ addd,0 0, {OUT + 0x200:#x}, %dr6; addd,1 0, {OUT + 0x300:#x}, %dr7 }}
    {{ aaurwd,2 %dr0, %aasti0; aaurwd,5 %dr0, %aasti1 }}
    {{ aaurwd,2 %dr0, %aasti2; aaurwd,5 %dr0, %aasti3 }}
    {{ aaurwd,2 %dr4, %aad0; aaurwd,5 %dr5, %aad1 }}
    {{ aaurwd,2 %dr6, %aad2; aaurwd,5 %dr7, %aad3 }}
    {{ aaurw,2 %r8, %aaincr3 }}
    loop:
    {{ staab,2 %r0, %aad0 [ %aasti0 ]
      incr,2 %aaincr0
      staah,5 %r0, %aad1 [ %aasti1 + 4 ]
      incr,5 %aaincr0 }}
    {{ addd,0 %dr0, 1, %dr0
      staaw,2 %r0, %aad2 [ %aasti2 ]
      incr,2 %aaincr0
      staad,5 %dr0, %aad3 [ %aasti3 ]
      incr,5 %aaincr3
      alc alcf=1, alct=1
      ct %ctpr1 ? %NOT_LOOP_END }}
    """
    guest, end = both(text, 8 + 16)
    assert end == ""
    read = guest.space.read_bytes
    assert list(read(OUT, 8)) == list(range(8))
    assert [guest.space.read(OUT + 0x104 + 2 * i, 2) for i in range(8)] == list(range(8))
    assert [guest.space.read(OUT + 0x200 + 4 * i, 4) for i in range(8)] == list(range(8))
    assert [guest.space.read(OUT + 0x300 + 16 * i, 8) for i in range(8)] == list(range(8))


DESCRIBED = f"""
    {{ setwd wsz=16, nfx=1 }}
    {{ addd,0 0, {OUT:#x}, %dr0; addd,1 0, 16, %dr1; addd,2 0, 77, %dr4; addd,3 0, 78, %dr5 }}
    {{ aaurwd,2 %dr0, %aad7; aaurwd,5 %dr1, %aasti9 }}
"""


@pytest.mark.parametrize("model", MODELS)
def test_loads_by_descriptor_and_quads(model: str) -> None:
    text = DESCRIBED + """
    { staaq,2 %qr4, %aad7 [ %aasti9 - 16 ] }
    { staad,2 %dr5, %aad7 [ %aasti9 ] }
    { ldaad,2 %aad7 [ %aasti9 - 16 ], %dr8; ldaab,5 %aad7 [ %aasti9 - 8 ], %r9 }
    { ldaaq,2 %aad7 [ %aasti9 - 16 ], %qr10
      incr,2 %aaincr0 }
    { aaurrd,2 %aasti9, %dr12 }
    """

    def junk(guest: Guest) -> None:
        guest.state["r9"] = M64

    guest, end = both(text.replace("- 16", "+ 0xfffffff0").replace("- 8", "+ 0xfffffff8"), 8, junk, model=model)
    assert end == ""
    state = guest.state
    assert [state[f"r{i}"] for i in (8, 9, 10, 11, 12)] == [77, M64 & ~0xFFFFFFFF | 78, 77, 78, 32]
    assert guest.space.read(OUT + 16, 8) == 78


@pytest.mark.parametrize(("condition", "stored", "advanced"), [
    ("? %pred0", False, False), ("? ~%pred0", True, True), ("", True, True)])
def test_incr_has_a_condition_of_its_own(condition: str, stored: bool, advanced: bool) -> None:
    """The predicate of the store and that of the increment are different half-words."""
    text = DESCRIBED + f"{{ staad,2 %dr4, %aad7 [ %aasti9 ] {condition}\n incr,2 %aaincr0 ? ~%pred1 }}"
    guest, _ = both(text, 4)
    assert (guest.space.read(OUT + 16, 8) == 77) is stored
    assert guest.state.A[Slot.AASTI + 9] == 24
    text = DESCRIBED + f"{{ staad,2 %dr4, %aad7 [ %aasti9 ]\n incr,2 %aaincr0 {condition} }}"
    guest, _ = both(text, 4)
    assert guest.space.read(OUT + 16, 8) == 77
    assert guest.state.A[Slot.AASTI + 9] == (24 if advanced else 16)


@pytest.mark.parametrize(("line", "exception"), [
    ("staad,2 %dr4, %aad6 [ %aasti9 ]", "exc_illegal_operand"),            # never written
    ("ldaad,2 %aad6 [ %aasti9 ], %dr8", "exc_illegal_operand"),
    ("staad,2 %dr20, %aad7 [ %aasti9 ]", "exc_diag_operand"),              # an empty register
    ("aaurwd,2 %dr20, %aad7", "exc_diag_operand"),
    ("staad,2,sm %dr4, %aad6 [ %aasti9 ]", ""),
    ("staad,2 %dr4, %aad7 [ %aasti9 ]\nstaad,5 %dr4, %aad7 [ %aasti9 ]", "")])
def test_descriptors_and_values_are_checked(line: str, exception: str) -> None:
    assert both(DESCRIBED + f"{{ {line} }}", 4)[1] == exception


def test_a_diagnostic_address_makes_the_descriptor_diagnostic() -> None:
    text = DESCRIBED + "{ aaurwd,2,sm %dr20, %aad5; aaurwd,5,sm %dr20, %aasti1 }\n"
    assert both(text + "{ staad,2 %dr4, %aad5 [ %aasti9 ] }", 5)[1] == "exc_diag_operand"
    assert both(text + "{ staad,2 %dr4, %aad7 [ %aasti1 ] }", 5)[1] == "exc_diag_operand"


def test_the_registers_read_back() -> None:
    text = DESCRIBED + """
    { aaurwd,2 %dr4, %aaind3; aaurwd,5 %dr5, %aaincr3 }
    { aaurwd,2 %dr4, %aaind0; aaurwd,5 %dr5, %aaincr0 }
    { aaurrd,2 %aaind3, %dr6; aaurrd,5 %aaincr3, %dr7 }
    { aaurr,2 %aaind0, %r8; aaurr,5 %aaincr0, %r9 }
    { aaurrq,2 %aadr7, %qr10 }
    { aaurr,2 %aasr, %r12; aaurr,5 %aafstr, %r13 }
    { aaurw,2 %r4, %aabf0 }
    { aaurr,2 %aasr, %r14 }
    """

    def zeroed(guest: Guest) -> None:
        guest.state["r8"] = 0

    guest, end = both(text, 11, zeroed)
    state = guest.state
    assert end == ""
    assert [state[f"r{i}"] for i in (6, 7, 8, 9, 11, 13, 14)] == [77, 78, 0, 1, 0, 0, 0]
    assert state["r10"] == OUT | 6 << 54 | 3 << 59
    assert state["r12"] == 3 << 5


def test_aaurw_narrower_than_a_register_does_nothing() -> None:
    guest = Guest(DESCRIBED)
    insn = AluInsn(2, by_name("staab")[0], src4=Operand(Kind.R, 4), aau=Aau(9 << 7 | 1 << 2), mas=0x3F)
    guest.cpu.run(3)
    guest.space.write_bytes(guest.state.pc, encode(Wide(4, 0, guest.state.pc, alu=(insn,))))
    assert guest.cpu.run(1) == "limit"
    assert guest.state.A[Slot.AASTI + 9] == 16


def test_stores_of_a_loop_wait_for_the_prologue_and_so_do_their_indices() -> None:
    text = DESCRIBED + """
    { rwd,0 (1 << 37) | (2 << 48) | 5, %lsr
      disp %ctpr1, loop }
    loop:
    { loop_mode
      alc alcf=1, alct=1
      addd,0 %dr4, 1, %dr4
      staad,2 %dr4, %aad7 [ %aasti9 ]
      incr,2 %aaincr0
      ct %ctpr1 ? %NOT_LOOP_END }
    """
    guest, _ = both(text, 4 + 5)
    # turns 3 and 4 store; 1 and 2 are the prologue, 5 is the last
    assert [guest.space.read(OUT + 16 + 8 * i, 8) for i in range(3)] == [79, 80, 0]
    assert guest.state.A[Slot.AASTI + 9] == 32


def test_a_trap_stops_the_program_and_done_resumes_it() -> None:
    text = reader("movad,0 area=0, ind=0, am=1, be=0, %r4",
                  after="{ setsft }\n{ movad,0 area=0, ind=0, am=1, be=0, %r5 }")

    def handler(guest: Guest) -> None:
        guest.load("{ setwd wsz=4, nfx=1 }\n{ aaurr,2 %aasr, %r1; movad,0 area=0, ind=0, am=0, be=0, %r2 }\n"
                   "{ rrd,0 %cr0.hi, %dr3 }\n{ addd,0 %dr3, 8, %dr3 }\n{ rwd,0 %dr3, %cr0.hi }\n{ done }",
                   base=0x40000)
        guest.state["oscud.lo"], guest.state["oscud.hi"] = 0x40000, 0x1000 << 32
        guest.state.pc = 0x10000

    plain = Guest(text)
    array([9, 10], 8)(plain)
    handler(plain)
    plain.cpu.breakpoints.add(plain.symbols["program"])
    assert plain.cpu.run(100) == "breakpoint", plain.cpu.fatal_message
    state = plain.state
    assert (state["r4"], state["r5"], state["r5.tag"]) == (9, 10, 0)
    assert state.A[Slot.AASR] & LDS == LDS_ACTIVE


@pytest.mark.parametrize("running", [False, True])
def test_the_unit_travels_with_the_cpu(running: bool) -> None:
    text = reader("movad,0 area=0, ind=0, am=1, be=0, %r4", after="{ movad,0 area=0, ind=0, am=1, be=0, %r5 }")
    source, target = Guest(text), Guest(text)
    for guest in (source, target):
        array([9, 10], 8)(guest)
    target.cpu.run(steps_of(text))
    source.cpu.run(steps_of(text) - 1 if running else 1)
    writer = Writer()
    source.cpu.section().save(writer)
    stream = writer.getvalue()
    assert (b"cpu/aau" in stream) is running
    target.cpu.section().load(BytesReader(stream), 1)
    assert target.state.A.tolist() == source.state.A.tolist()
    if running:
        assert target.cpu.run(1) == "limit"
        assert target.state["r5"] == 10
