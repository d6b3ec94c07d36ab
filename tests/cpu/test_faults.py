"""What must trap does, with the right exception, in the oracle and in the tiers; golden vectors of memory.

The programs are deliberate faults (static Linux executables: system calls write and exit); the table below them has a
line per rule. Pages have rights, as in a process.
"""

from __future__ import annotations

import base64
import io
import json
import lzma
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from e2kemu.cpu import direct
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import AluInsn, Kind, Operand, Wide
from e2kemu.cpu.isa.table import by_name
from e2kemu.cpu.isa.traps import BY_BIT, BY_NAME
from e2kemu.cpu.rights import EXECUTE, READ, WRITE
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, DATA, STACKS, Guest
from tests.cpu.tiers import both

PROGRAMS: list[dict[str, Any]] = json.loads(lzma.decompress((DATA / "faults.json.xz").read_bytes()))
MEMORY: list[dict[str, Any]] = [
    json.loads(line) for line in lzma.decompress((DATA / "memory.jsonl.xz").read_bytes()).splitlines()]


class Pages:
    """Rights of ranges of pages; there is nothing elsewhere."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, int]] = []

    def allow(self, start: int, size: int, rights: int) -> None:
        self.ranges.append((start >> 12, start + size - 1 >> 12, rights))

    def of(self, page: int) -> int:
        return next((rights for first, last, rights in self.ranges if first <= page <= last), 0)


class Process(Guest):
    """A guest whose pages have rights, in user mode."""

    def __init__(self, model: str = "e8c", accel: str = "reference") -> None:
        super().__init__(model=model, accel=accel)
        self.pages = Pages()
        self.pages.allow(STACKS, 0x300000, READ | WRITE)
        self.cpu.core.protect(self.pages)
        if self.cpu.translator is not None:
            self.cpu.translator.eager = accel == "jit"
        self.state["psr"] = 0

    def load_program(self, data: bytes) -> None:
        elf = ELFFile(io.BytesIO(data))
        for segment in elf.iter_segments("PT_LOAD"):
            flags = segment["p_flags"]
            rights = (READ if flags & 4 else 0) | (WRITE if flags & 2 else 0) | (EXECUTE if flags & 1 else 0)
            self.space.write_bytes(segment["p_paddr"], segment.data())
            self.pages.allow(segment["p_paddr"], segment["p_memsz"], rights)
        self.state.pc = elf.header["e_entry"]
        self.cpu.core.syscall_hook = self._system_call

    def run_oracle(self) -> str:
        """Until it exits or traps; the name of the exception, or ""."""
        while self.status is None:
            try:
                direct.execute(self.cpu.core, self.cpu.reference.fetch(self.state.pc))
            except Trap as trap:
                return BY_BIT[trap.exc].name
        return ""

    def run_tier(self) -> str:
        return self.cpu.fatal_reason.split()[0] if self.cpu.run(1000) == "fatal" else ""


@pytest.mark.parametrize("tier", ["oracle", "reference", "interp", "jit"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program["name"])
def test_a_program_ends_as_it_must(program: dict[str, Any], tier: str) -> None:
    guest = Process(accel="reference" if tier == "oracle" else tier)
    guest.load_program(base64.b64decode(program["elf"]))
    end = guest.run_oracle() if tier == "oracle" else guest.run_tier()
    assert guest.output.decode() == program["stdout"]
    expected = program["result"]
    assert (end or guest.status) == expected, program["what"]


def test_there_are_25_programs() -> None:
    assert len(PROGRAMS) == 25


# --- one line per rule ------------------------------------------------------------------------------

BAD = "{ ldd,0,sm [ %dg0 + 0 ], %dg16 }\n"
"""Makes %g16 diagnostic: %g0 is an address without memory."""
BAD_PREDICATE = BAD + "{ cmpedb,0,sm 0, %dg16, %pred0 }\n"
OK = ""


def logic(op: str, first: str, second: str) -> str:
    """%pred0 and %pred1 are diagnostic, %pred4 is true, %pred5 false; the result is used."""
    marks = ["~" if name.startswith("~") else "" for name in (first, second)]
    names = [name.lstrip("~") for name in (first, second)]
    return BAD + f"""
    {{ cmpedb,0,sm %dg16, 0, %pred0; cmpedb,1,sm %dg16, 0, %pred1; cmpedb,3 0, 0, %pred4; cmpedb,4 0, 1, %pred5 }}
    {{ cmpedb,0 0, 0, %pred2 }}
    {{ pass {names[0]}, @p0
      pass {names[1]}, @p1
      {op} {marks[0]}@p0, {marks[1]}@p1, @p4
      pass @p4, %pred2 }}
    {{ addd,0 0, 0, %dr1 ? %pred2 }}"""


def setup(guest: Guest) -> None:
    guest.state["g0"] = 1 << 50
    guest.state["g1"] = 0x30000


RULES = [
    # operands
    ("non-speculative operand", BAD + "{ addd,0 %dg16, 0, %dr1 }", "exc_diag_operand"),
    ("speculative operand", BAD + "{ addd,0,sm %dg16, 0, %dr1 }", OK),
    ("diagnostic and then used", BAD + "{ addd,0,sm %dg16, 0, %dr1 }\n{ addd,0 %dr1, 0, %dr2 }", "exc_diag_operand"),
    ("compare", BAD + "{ cmpedb,0 %dg16, 0, %pred1 }", "exc_diag_operand"),
    ("address of a load", BAD + "{ ldd,0 [ %dg16 + 0 ], %dr1 }", "exc_diag_operand"),
    ("address of a store", BAD + "{ std,2 %dr0, [ %dg16 + 0 ] }", "exc_diag_operand"),
    ("stored value", BAD + "{ std,2 %dg16, [ %dg1 + 0 ] }", "exc_diag_operand"),
    ("stored value, low half only", BAD + "{ stw,2 %g16, [ %dg1 + 0 ] }", "exc_diag_operand"),
    ("stored value, speculative", BAD + "{ std,2,sm %dg16, [ %dg1 + 0 ] }", OK),
    ("state register", BAD + "{ rwd,0 %dg16, %lsr }", "exc_diag_operand"),
    ("an empty register", "{ setwd wsz=12, nfx=1 }\n{ addd,0 %dr20, 0, %dr1 }", "exc_diag_operand"),
    ("an empty register, speculative", "{ setwd wsz=12, nfx=1 }\n{ addd,0,sm %dr20, 0, %dr1 }", OK),
    ("written low half only", "{ setwd wsz=12, nfx=1 }\n{ adds,0 0, 0, %r20 }\n{ addd,0 %dr20, 0, %dr1 }",
     "exc_diag_operand"),
    ("written low half with dbl", "{ setwd wsz=12, nfx=1, dbl=1 }\n{ adds,0 0, 0, %r20 }\n"
     "{ addd,0 %dr20, 0, %dr1 }", OK),
    ("the tag is 32 bits", BAD + "{ gettagd,2 %dg16, %dg16 }\n{ addd,0 %dg16, 0, %dr1 }", "exc_diag_operand"),
    ("the tag is 32 bits, low half", BAD + "{ gettagd,2 %dg16, %dg16 }\n{ adds,0 %g16, 0, %r1 }", OK),
    ("tag 2", "{ puttagd,2 0, 2, %dr1 }\n{ addd,0 %dr1, 0, %dr2 }", "exc_illegal_operand"),
    ("tag 8", "{ puttagd,2 0, 8, %dr1 }\n{ addd,0 %dr1, 0, %dr2 }", "exc_illegal_operand"),
    ("tag 10", "{ puttagd,2 0, 10, %dr1 }\n{ addd,0 %dr1, 0, %dr2 }", "exc_illegal_operand"),
    ("tag 3 of a word", "{ puttags,2 0, 3, %r1 }\n{ addd,0 %dr1, 0, %dr2 }", "exc_illegal_operand"),
    ("a procedure label moves", "{ puttagd,2 0, 10, %dr1 }\n{ movtd,0 %dr1, %dr2 }", OK),
    ("a procedure label does not pass movtcd", "{ puttagd,2 0, 10, %dr1 }\n{ movtcd,0 %dr1, %dr2 }",
     "exc_illegal_operand"),
    ("insfd of a bad source", BAD + "{ insfd,0 %dg16, 0x400, %dr1, %dr2 }", "exc_diag_operand"),
    # merges
    ("merge: the other one", BAD + "{ cmpedb,0 0, 0, %pred0 }\n{ merged,0 0, %dg16, %dr1, ~%pred0 }", OK),
    ("merge: src1 unchosen", BAD + "{ cmpedb,0 0, 0, %pred0 }\n{ merged,0 %dg16, 0, %dr1, %pred0 }", OK),
    ("merge: src2 chosen", BAD + "{ cmpedb,0 0, 0, %pred0 }\n{ merged,0 0, %dg16, %dr1, %pred0 }", "exc_diag_operand"),
    ("merge: src1 chosen", BAD + "{ cmpedb,0 0, 0, %pred0 }\n{ merged,0 %dg16, 0, %dr1, ~%pred0 }", "exc_diag_operand"),
    ("merge: the condition", BAD_PREDICATE + "{ merged,0 0, 0, %dr1, %pred0 }", "exc_diag_cond"),
    ("merge: the condition, speculative", BAD_PREDICATE + "{ merged,0,sm 0, 0, %dr1, %pred0 }", OK),
    # predicates
    ("qualifier", BAD_PREDICATE + "{ addd,0 0, 1, %dr1 ? %pred0 }", "exc_diag_cond"),
    ("negated qualifier", BAD_PREDICATE + "{ addd,0 0, 1, %dr1 ? ~%pred0 }", "exc_diag_cond"),
    ("qualifier, speculative", BAD_PREDICATE + "{ addd,0,sm 0, 1, %dr1 ? %pred0 }", OK),
    ("its result", BAD_PREDICATE + "{ addd,0,sm 0, 1, %dr1 ? %pred0 }\n{ addd,0 %dr1, 0, %dr2 }", "exc_diag_operand"),
    ("of a store", BAD_PREDICATE + "{ std,2 %dr1, [ %dg1 + 0 ] ? %pred0 }", "exc_diag_cond"),
    ("of a store, speculative", BAD_PREDICATE + "{ std,2,sm %dr1, [ %dg1 + 0 ] ? %pred0 }", OK),
    ("of rwd, speculative", BAD_PREDICATE + "{ rwd,0,sm 0, %lsr ? %pred0 }", "exc_diag_cond"),
    ("of movtd to a CTPR, speculative", BAD_PREDICATE + "{ movtd,0,sm 0, %ctpr1 ? %pred0 }", "exc_diag_cond"),
    ("movtd,sm to a CTPR under a condition", "{ cmpedb,0 0, 0, %pred0 }\n{ movtd,0,sm 0, %ctpr1 ? %pred0 }",
     "exc_illegal_opcode"),
    ("movtd,sm to a register", BAD_PREDICATE + "{ movtd,0,sm 0, %dr1 ? %pred0 }", OK),
    ("pcnt forbids", "{ rwd,0 (1 << 48) | (1 << 37) | 1, %lsr }\n" + BAD_PREDICATE +
     "{ addd,0 0, 0, %dr1 ? %pred0, %pcnt0 }", OK),
    ("of ct", "{ disp %ctpr1, end }\n" + BAD_PREDICATE + "{ ct %ctpr1 ? %pred0 }\nend:", "exc_diag_ct_cond"),
    ("of ct in the prologue", "{ disp %ctpr1, end }\n{ rwd,0 (1 << 48) | (1 << 37) | 1, %lsr }\n" + BAD_PREDICATE +
     "{ ct %ctpr1 ? %pred0 && %NOT_LOOP_END }\nend:", OK),
    ("of call", "{ disp %ctpr1, end }\n" + BAD_PREDICATE + "{ call %ctpr1, wbs=4 ? %pred0 }\nend:", "exc_diag_ct_cond"),
    ("of ibranch", BAD_PREDICATE + "{ ibranch end ? %pred0 }\nend:", "exc_diag_ct_cond"),
    ("callee sees the predicates of its caller", "{ disp %ctpr1, end }\n" + BAD_PREDICATE +
     "{ call %ctpr1, wbs=4 }\nend:\n{ addd,0 0, 0, %dg2 ? %pred0 }", "exc_diag_cond"),
    *((f"{op}: {what}", logic(op, first, second), end) for op, what, first, second, end in (
        ("andp", "bad, true", "%pred0", "%pred4", "exc_diag_cond"),
        ("andp", "not bad, true", "~%pred0", "%pred4", "exc_diag_cond"),
        ("andp", "true, not bad", "%pred4", "~%pred0", "exc_diag_cond"),
        ("andp", "both bad", "~%pred0", "~%pred1", "exc_diag_cond"),
        ("andp", "false, bad", "%pred5", "%pred0", "exc_diag_cond"),
        ("andp", "bad, false", "%pred0", "%pred5", "exc_diag_cond"),
        ("landp", "bad, true", "%pred0", "%pred4", "exc_diag_cond"),
        ("landp", "true, bad", "%pred4", "%pred0", "exc_diag_cond"),
        ("landp", "false, bad", "%pred5", "%pred0", OK),
        ("landp", "bad, false", "%pred0", "%pred5", "exc_diag_cond"),
        ("movep", "true, bad", "%pred4", "%pred0", "exc_diag_cond"),
        ("movep", "false, bad", "%pred5", "%pred0", OK),
        ("movep", "bad, true", "%pred0", "%pred4", "exc_diag_cond"))),
    ("movep keeps a bad one", BAD + "{ cmpedb,0 0, 1, %pred0; cmpedb,1 0, 0, %pred1; cmpedb,3,sm 0, %dg16, %pred2 }\n"
     "{ pass %pred0, @p0\n pass %pred1, @p1\n movep @p0, @p1, @p4\n pass @p4, %pred2 }\n"
     "{ addd,0 0, 0, %dr1 ? %pred2 }",
     "exc_diag_cond"),
    # windows
    ("%r beyond the window", "{ setwd wsz=8, nfx=1 }\n{ addd,0 %dr16, 0, %dr1 }", "exc_window_bounds"),
    ("%r beyond the old window", "{ setwd wsz=12, nfx=1\n addd,0 %dr16, 0, %dr1 }", "exc_window_bounds"),
    ("result in the new window", "{ setwd wsz=12, nfx=1\n addd,0 0, 0, %dr16 }", OK),
    ("%b beyond rsz", "{ setbn rsz=3, rbs=4, rcur=0 }\n{ addd,0 %db[8], 0, %dr1 }", "exc_window_bounds"),
    ("%b beyond the old rsz", "{ setwd wsz=16, nfx=1\n setbn rsz=7, rbs=8, rcur=0\n addd,0 %db[8], 0, %dr1 }",
     "exc_window_bounds"),
    ("second half of a pair", "{ setwd wsz=4, nfx=1 }\n{ ldq,0 [ %dg1 + 0 ], %qr8 }", "exc_window_bounds"),
    ("store from beyond the window", "{ setwd wsz=4, nfx=1 }\n{ std,2 %dr8, [ %dg1 + 0 ] }", "exc_window_bounds"),
    ("result under a false condition", "{ setwd wsz=4, nfx=1 }\n{ cmpedb,0 0, 1, %pred0 }\n"
     "{ addd,0 0, 0, %dr8 ? %pred0 }", "exc_window_bounds"),
    ("mova beyond the window", "{ setwd wsz=4, nfx=1 }\n{ movad,0 area=0, ind=0, am=0, be=0, %r8 }",
     "exc_window_bounds"),
    ("setwd below the parameters", "{ setwd wsz=16, nfx=1\n disp %ctpr1, end }\n{ call %ctpr1, wbs=4 }\nend:\n"
     "{ setwd wsz=4, nfx=1 }", "exc_illegal_opcode"),
    ("call beyond the window", "{ setwd wsz=8, nfx=1\n disp %ctpr1, end }\n{ call %ctpr1, wbs=16 }\nend:",
     "exc_window_bounds"),
    ("call with the whole window", "{ setwd wsz=8, nfx=1\n disp %ctpr1, end }\n{ call %ctpr1, wbs=8 }\nend:", OK),
    ("getsp beyond the stack", "{ getsp,0 -0x7ffffff0, %dr1 }", "exc_user_stack_bounds"),
    # transfers
    ("ct unprepared", "{ ct %ctpr1 }", "exc_illegal_instr_addr"),
    ("call unprepared", "{ call %ctpr2, wbs=4 }", "exc_illegal_instr_addr"),
    ("ct through a diagnostic CTPR", BAD + "{ movtd,0 %dg16, %ctpr1 }\n{ ct %ctpr1 }", "exc_diag_instr_addr"),
    ("a diagnostic CTPR alone", BAD + "{ movtd,0 %dg16, %ctpr1 }", OK),
    ("ct to a misaligned address", "{ addd,0 0, 0x10004, %dr1 }\n{ movtd,0 %dr1, %ctpr1 }\n{ ct %ctpr1 }",
     "exc_illegal_instr_addr"),
    ("call empties the CTPRs", "{ disp %ctpr2, end }\n{ disp %ctpr1, end }\n{ call %ctpr2, wbs=4 }\n"
     "end:\n{ ct %ctpr1 }", "exc_illegal_instr_addr"),
    ("return empties the CTPRs", "{ disp %ctpr3, sub }\n{ call %ctpr3, wbs=4 }\n{ ct %ctpr1 }\nsub:\n"
     "{ return %ctpr3 }\n{ disp %ctpr1, sub }\n{ ct %ctpr3 }", "exc_illegal_instr_addr"),
    ("call through a return label", "{ return %ctpr3 }\n{ call %ctpr3, wbs=4 }", "exc_illegal_instr_addr"),
    ("bap unprepared", "{ bap }", "exc_illegal_instr_addr"),
    ("software trap", "{ setsft }", "exc_software_trap"),
    # arithmetic
    ("division by 0", "{ udivd,5 %dr1, 0, %dr2 }", "exc_div"),
    ("division by 0, speculative, used", "{ udivs,5,sm 0, 0, %r1 }\n{ adds,0 %r1, 1, %r2 }", "exc_diag_operand"),
    # memory
    ("stmqp to 8 modulo 16", "{ addd,0 %dg1, 8, %dr4 }\n{ stmqp,2 %qpr0, [ %dr4 + 3 ] }", "exc_addr_not_aligned"),
    ("stmqp to an odd address", "{ addd,0 %dg1, 1, %dr4 }\n{ stmqp,2 %qpr0, [ %dr4 + 3 ] }", "exc_addr_not_aligned"),
    ("stmqp to a whole address", "{ stmqp,2 %qpr0, [ %dg1 + 3 ] }", OK),
]
V5 = {"second half of a pair", "stmqp to 8 modulo 16", "stmqp to an odd address", "stmqp to a whole address"}


@pytest.mark.parametrize(("name", "text", "end"), RULES, ids=[name for name, _, _ in RULES])
def test_a_rule_is_kept(name: str, text: str, end: str) -> None:
    steps = text.count("{") + ("sub:" in text)
    last = "\n{ nop 1 }" if text.rstrip().endswith("end:") else ""
    assert both(text + last, steps, setup, model="e8c2" if name in V5 else "e8c")[1] == end


def test_only_moves_write_transfer_registers() -> None:
    zero = Operand(Kind.IMM, 0)
    insn = AluInsn(0, by_name("addd")[0], src1=zero, src2=zero, dst=Operand(Kind.CTPR, 1))
    guest = Guest()
    guest.space.write_bytes(CODE, encode(Wide(4, 0, CODE, alu=(insn,))))
    guest.state.pc = CODE
    assert guest.cpu.run(1) == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_illegal_opcode")


def test_there_are_many_rules() -> None:
    assert len(RULES) >= 80


def test_from_v6_on_masked_stores_need_8_and_leave_pages_alone_that_they_do_not_write() -> None:
    edge = 0x31000
    for address, mask, end in (
            (edge - 8, 0x00FF, ""), (edge - 8, 0xFF00, "exc_data_page"), (edge - 1, 1, "exc_addr_not_aligned")):
        for tier in ("oracle", "reference"):
            guest = Process("e16c")
            guest.load("{ stmqp,2 %qpr0, [ %dr4 + %dr5 ] }\nloop:\n{ ibranch loop }")
            guest.pages.allow(CODE, 0x1000, READ | EXECUTE)
            guest.pages.allow(0x30000, 0x1000, READ | WRITE)
            guest.state["r4"], guest.state["r5"] = address, mask
            if tier == "oracle":
                try:
                    direct.execute(guest.cpu.core, guest.cpu.reference.fetch(CODE))
                    found = ""
                except Trap as trap:
                    found = BY_BIT[trap.exc].name
            else:
                found = guest.cpu.fatal_reason.split()[0] if guest.cpu.run(1) == "fatal" else ""
            assert found == end, (hex(address), hex(mask), tier)


# --- golden vectors of memory -----------------------------------------------------------------------

SCRATCH, EDGE = 0x30000, 0x41000


class MemoryRun:
    """One wide instruction on scratch memory, in one tier."""

    def __init__(self, model: str, tier: str) -> None:
        self.guest, self.tier = Process(model, "reference" if tier == "oracle" else tier), tier
        self.guest.pages.allow(CODE, 0x1000, READ | EXECUTE)
        self.guest.pages.allow(SCRATCH, 0x1000, READ | WRITE)
        self.guest.pages.allow(EDGE - 0x1000, 0x1000, READ | WRITE)

    def run(self, text: str, **registers: int) -> str:
        guest = self.guest
        guest.state.reset()
        guest.give_stacks()
        guest.state["psr"] = 0
        guest.load(text)
        for name, value in registers.items():
            guest.state[name.replace("_", ".")] = value
        for _ in range(text.count("{")):
            if self.tier == "oracle":
                try:
                    direct.execute(guest.cpu.core, guest.cpu.reference.fetch(guest.state.pc))
                except Trap as trap:
                    return BY_BIT[trap.exc].name
            elif guest.cpu.run(1) == "fatal":
                return guest.cpu.fatal_reason.split()[0]
        return ""


def size_of(op: str) -> int:
    return {"b": 1, "h": 2, "w": 4, "d": 8, "qp": 16}[op[2:]]


def check_load(run: MemoryRun, vector: dict[str, Any]) -> bool:
    sm, op, alc = ",sm" if vector["sm"] else "", vector["op"], vector.get("alc", 0)
    target = "%qpr4" if op == "ldqp" else "%dr4"
    if vector["kind"] == "load":
        run.guest.space.write_bytes(SCRATCH, bytes.fromhex(vector["mem"]))
        address = SCRATCH + vector["offset"]
    else:
        address = int(vector["addr"], 16) if "addr" in vector else EDGE - 1
    form = {"regreg": "%dr2, %dr3", "regreg_swapped": "%dr3, %dr2"}.get(vector.get("form", ""), "%dr2, 0")
    end = run.run(f"{{ {op},{alc}{sm} [ {form.replace(',', ' +')} ], {target} }}", r2=address - 16 * ("3" in form),
                  r3=16, r4=int(vector["dst_before"], 16))
    if vector["signal"]:
        return end == "exc_data_page"
    state, expected = run.guest.state, int(vector["dst"], 16)
    good = (end, state["r4"], state["r4.tag"]) == ("", expected & (1 << 64) - 1, vector["dst_tag"])
    return good and (op != "ldqp" or state["r4.ext"] == expected >> 64)


def check_store(run: MemoryRun, vector: dict[str, Any]) -> bool:
    sm, op, alc = ",sm" if vector["sm"] else "", vector["op"], vector.get("alc", 2)
    value = int(vector.get("src", ["1122334455667788"])[0], 16)
    source = {"std": "%dr4", "stqp": "%qpr4"}.get(op, "%r4")
    fault = vector["kind"] == "store-fault"
    run.guest.space.write_bytes(SCRATCH, bytes.fromhex(vector.get("mem_before", "00" * 32)))
    address = int(vector["addr"], 16) if fault else SCRATCH + vector["offset"]
    end = run.run(f"{{ {op},{alc}{sm} {source}, [ %dr2 + 0 ] }}", r2=address, r4=value & (1 << 64) - 1,
                  r4_ext=value >> 64)
    if vector["signal"]:
        return end == "exc_data_page"
    if fault:
        return end == ""
    return end == "" and run.guest.space.read_bytes(SCRATCH, 32).hex() == vector["mem_after"][:64]


@pytest.mark.parametrize(("tier", "every"), [("oracle", 1), ("reference", 1), ("interp", 4), ("jit", 20)])
def test_memory_is_accessed_as_the_golden_vectors_say(tier: str, every: int) -> None:
    runs = {model: MemoryRun(model, tier) for model in ("e8c", "e8c2")}
    wrong, counted = [], 0
    for vector in MEMORY[::every]:
        kind = vector["kind"]
        if kind in ("load", "load-fault"):
            good = check_load(runs[vector["cpu"]], vector)
        elif kind in ("store", "store-fault"):
            good = check_store(runs[vector["cpu"]], vector)
        else:
            continue
        counted += 1
        if not good:
            wrong.append(vector)
    assert not wrong, f"{len(wrong)} wrong, first: {wrong[:2]}"
    assert counted > 900 // every


def test_the_rest_of_the_golden_vectors_of_memory() -> None:
    """Overlaps in one wide instruction, a locked addition, diagnostic values that are stored."""
    for tier in ("oracle", "reference"):
        run = MemoryRun("e8c", tier)
        space, state = run.guest.space, run.guest.state
        old = 0x4164D8399F767C45
        space.write(SCRATCH, 8, old)
        assert run.run("{ ldd,0 [ %dr2 + 0 ], %dr4; std,2 %dr5, [ %dr2 + 0 ] }", r2=SCRATCH, r5=0x5555) == ""
        assert (state["r4"], space.read(SCRATCH, 8)) == (old, 0x5555)
        assert run.run("{ std,2 %dr4, [ %dr2 + 0 ]; std,5 %dr5, [ %dr2 + 4 ] }", r2=SCRATCH, r4=0x1111111111111111,
                       r5=0x2222222222222222) == ""
        assert space.read(SCRATCH, 8) == 0x2222222211111111
        assert run.run("""
            { ldd,0 [ %dr2 + 0 ], %dr4, mas=7 }
            { addd,0 %dr4, 1, %dr4 }
            { std,2 %dr4, [ %dr2 + 0 ], mas=2
              rbranch again }
            again:""", r2=SCRATCH) == ""
        assert space.read(SCRATCH, 8) == 0x2222222211111112
        bad = "{ ldd,0,sm [ %dr3 + 0 ], %dr6 }\n"
        space.write(SCRATCH, 8, old)
        assert run.run(bad + "{ stw,2,sm %r6, [ %dr2 + 0 ] }\n{ ldd,0 [ %dr2 + 0 ], %dr4 }", r2=SCRATCH, r3=0) == ""
        assert (state["r4"], state["r4.tag"]) == (0x4164D8394AFAFAFA, 0)
        assert run.run(bad + "{ std,2,sm %dr6, [ %dr2 + 0 ] }\n{ ldd,0 [ %dr2 + 0 ], %dr4 }", r2=SCRATCH, r3=0) == ""
        assert (state["r4"], state["r4.tag"]) == (0x4AFAFAFA4AFAFAFA, 0)
        assert run.run(bad + "{ ldw,0,sm [ %dr6 + %dr2 ], %dr4 }", r2=SCRATCH, r3=0) == ""
        assert (state["r4"], state["r4.tag"]) == (0x4AFAFAFA4AFAFAFA, 5)


# --- several exceptions of one wide instruction -----------------------------------------------------

SEVERAL = [
    ("the window before the operand", BAD + "{ addd,0 %dg16, 0, %dr1; addd,1 %dr40, 0, %dr2 }",
     ["exc_window_bounds", "exc_diag_operand"], (0, 1)),
    ("the opcode before the operand", BAD + "{ addd,0 %dg16, 0, %dr1; puttst,3 %dr0, %dr2 }",
     ["exc_illegal_opcode", "exc_diag_operand"], (0, 3)),
    ("the condition before the operand", BAD_PREDICATE + "{ addd,0 %dg16, 0, %dr1; addd,1 0, 0, %dr2 ? %pred0 }",
     ["exc_diag_cond", "exc_diag_operand"], (0, 1)),
    ("the operand before the division", BAD + "{ adds,1 %g16, 0, %r1; udivs,5 0, 0, %r2 }",
     ["exc_diag_operand", "exc_div"], (1, 5)),
    ("the transfer before the operand", BAD + "{ addd,3 %dg16, 0, %dr1\n ct %ctpr1 }",
     ["exc_illegal_instr_addr", "exc_diag_operand"], (3,)),
    ("the condition of the transfer first", BAD_PREDICATE + "{ addd,0 %dg16, 0, %dr1\n ibranch end ? %pred0 }\nend:",
     ["exc_diag_ct_cond", "exc_diag_operand"], (0,)),
    ("two channels, one exception", BAD + "{ addd,1 %dg16, 0, %dr1; addd,4 %dg16, 0, %dr2 }",
     ["exc_diag_operand"], (1, 4)),
    ("a false condition raises nothing", BAD + "{ cmpedb,0 0, 1, %pred0 }\n"
     "{ addd,0 %dg16, 0, %dr1 ? %pred0; udivs,5 0, 0, %r2 }", ["exc_div"], (5,)),
    ("a speculative operation raises nothing", BAD + "{ addd,0,sm %dg16, 0, %dr1; udivs,5 0, 0, %r2 }",
     ["exc_div"], (5,)),
]


@pytest.mark.parametrize(("text", "exceptions", "channels"), [case[1:] for case in SEVERAL],
                         ids=[case[0] for case in SEVERAL])
def test_all_exceptions_of_a_wide_instruction_are_told_and_the_first_one_counts(
        text: str, exceptions: list[str], channels: tuple[int, ...]) -> None:
    assert both(text, text.count("{"), setup)[1] == exceptions[0]
    guest = Guest(text)
    setup(guest)
    guest.load("{ rrd,0 %tir.hi, %dg5 }\nread:\n{ nop 1 }", base=0x50000)
    guest.state["oscud.lo"], guest.state["oscud.hi"], guest.state.pc = 0x50000, 0x1000 << 32, CODE
    guest.cpu.breakpoints.add(guest.symbols["read"])
    assert guest.cpu.run(100) == "breakpoint"
    assert guest.state["g5"] == sum(1 << BY_NAME[name].bit for name in exceptions) | sum(1 << 44 + c for c in channels)
