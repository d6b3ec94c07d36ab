"""Golden vectors of operations: how one is executed in a tier, how what happens differs from it, and the class of that.

The vectors were made with the public C emulator, which is no hardware. tests/data has those that somebody doubts
(``doubted.jsonl``); a folder with the makers' whole set is taken by ``python -m tests.cpu.all_vectors``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2kemu.cpu import direct
from e2kemu.cpu.asm import assemble
from e2kemu.cpu.decode import decode
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import by_name
from e2kemu.cpu.isa.traps import BY_NAME
from e2kemu.cpu.state import WD
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest

TIERS = ("oracle", "reference", "interp", "jit")
M64 = (1 << 64) - 1
MARKS = 0x4000_0000_4000_0000
SOURCES = {"src1": 0, "src2": 2, "src3": 4}
SIGNALS = {BY_NAME[name].bit: "SIGFPE" for name in ("exc_div", "exc_fp")}
BEHIND = b"\xff" * 64
"""No wide instruction: translation ends there."""


@dataclass(frozen=True)
class Vector:
    """One vector: what is in the registers before and, as far as it was looked at, after."""

    op: Op
    cpu: str
    channel: int
    sources: tuple[str, ...]
    before: tuple[str | None, str | None]
    result: tuple[str | None, str | None]
    pred: int | None
    pred_before: int
    signal: str | None
    imm: int | None
    condition: int | None
    speculative: bool
    dbl: bool
    control: tuple[str | None, str | None]
    flags: tuple[str, ...]
    tags: tuple[int, ...]
    tag: int | None
    literal: str | None = None
    """The last source, when it is not in a register, in the syntax of the assembler; "imm5 src1 N": the first is N."""

    @property
    def key(self) -> tuple[object, ...]:
        """Vectors with the same have the same wide instruction."""
        return self.op, self.cpu, self.channel, self.imm, self.speculative, self.literal


def row_of(name: str, cpu: str, channel: int) -> Op:
    """The operation of a name that this channel of this CPU has."""
    return next(one for one in by_name(name) if one.in_channel(channel, MODELS[cpu].version))


def of(cpu: str, name: str, row: list[Any]) -> Vector:
    """The vector of a line of tests/data."""
    (channel, sources, dst_before, ext_before, dst, ext, pred, pred_before, signal, imm, condition, speculative, dbl,
     pfpfr, fpcr, flags, tags, tag, _suspect) = row
    text = sources.split()
    return Vector(row_of(name, cpu, channel), cpu, channel, tuple(text), (dst_before, ext_before), (dst, ext), pred,
                  pred_before or 0, signal, imm, condition, bool(speculative), bool(dbl), (pfpfr, fpcr),
                  tuple(flags.split()), tuple(tags or [0] * len(text)), tag)


def of_makers(line: Mapping[str, Any]) -> Vector:
    """The vector of a line of the makers' files."""
    mods, flags = line.get("mods") or {}, line.get("flags") or {}
    return Vector(row_of(line["op"], line["cpu"], line["alc"]), line["cpu"], line["alc"], tuple(line["src"]),
                  (line.get("dst_before"), line.get("ext_before")), (line["dst"], line.get("ext")), line["pred"],
                  line.get("pred_before") or 0, line["signal"], mods.get("imm"), mods.get("cond"),
                  bool(line.get("sm") or mods.get("sm")), bool(mods.get("wd.dbl")),
                  (line.get("pfpfr"), line.get("fpcr")),
                  tuple(flags[name] for name in ("pfpfr", "fpsr", "fpcr")) if flags else (),
                  tuple(line.get("src_tags") or [0] * len(line["src"])), line.get("dst_tag"), mods.get("literal"))


def wide_of(v: Vector) -> Wide:
    """The operation alone: %r0, %r2, %r4 -> %r8 or %pred5, %pred6 chooses. Raises TypeError when the vector was made
    with fewer sources than the operation has."""
    version = MODELS[v.cpu].version
    if v.literal is not None:
        names = [f"%{'dr' if letter == 'D' else 'r'}{2 * i}" for i, letter in enumerate(v.op.sizes[:-1])]
        place = 0 if "src1" in v.literal else -1
        names[place] = v.literal.removeprefix("imm5 src1 ")
        result = {"B": "%pred5", "D": "%dr8", "S": "%r8"}[v.op.sizes[-1]]
        text = f"{{ {v.op.name},{v.channel} {', '.join([*names, result])} }}"
        return decode(assemble(text, version=version, base=CODE).data, version, CODE)
    slots: dict[str, object] = {
        slot: Operand(Kind.R, number) for slot, number in SOURCES.items() if slot in v.op.fmt.slots}
    if v.op.has_dst:
        slots["dst"] = Operand(Kind.R, 8)
    if "pred" in v.op.fmt.slots:
        slots["pred"] = 5
    if v.op.merges:
        slots["merge"] = (Guard(6),)
    if v.op.imm8:
        slots["imm8"] = v.imm
    if len(v.sources) < sum(slot in v.op.fmt.slots for slot in SOURCES):
        raise TypeError(f"{v.op.name} without a source")
    return Wide(version, 8, CODE, alu=(AluInsn(v.channel, v.op, v.speculative, **slots),))  # type: ignore[arg-type]


def prepare(guest: Guest, v: Vector) -> None:
    """Set the state before."""
    state = guest.state
    state.reset()
    guest.give_stacks()
    state.pc = CODE
    for slot, text, tag in zip((s for s in v.op.fmt.slots if s in SOURCES), v.sources, v.tags, strict=False):
        register = SOURCES[slot]
        state[f"r{register}"], state[f"r{register}.ext"] = int(text, 16) & M64, int(text, 16) >> 64
        state[f"r{register}.tag"] = tag
    if v.op.has_dst:
        state["r8"], state["r8.ext"] = (int(text or "0", 16) for text in v.before)
    state["pred5"], state["pred6"] = v.pred_before, v.condition or 0
    state["pfpfr"], state["fpcr"], state["fpsr"] = int(v.control[0] or "1f80", 16), int(v.control[1] or "37f", 16), 0
    state.S[WD] = state.S[WD] | int(v.dbl) << 49


class Tier:
    """A CPU for each model that runs vectors in one of TIERS; "jit" translates everything it meets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._guests: dict[str, Guest] = {}
        self._loaded: dict[str, tuple[object, ...]] = {}
        self._wides: dict[str, Wide] = {}

    def _guest(self, v: Vector) -> Guest:
        if v.cpu not in self._guests:
            accel = "reference" if self.name == "oracle" else self.name
            guest = self._guests[v.cpu] = Guest(model=v.cpu, accel=accel)
            if self.name == "jit":
                assert guest.cpu.translator is not None
                guest.cpu.translator.eager, guest.cpu.translator.level = True, 0
        if self._loaded.get(v.cpu) != v.key:
            wide = wide_of(v)
            if self.name == "oracle":
                self._wides[v.cpu] = wide
            else:
                self._guests[v.cpu].space.write_bytes(CODE, encode(wide) + BEHIND)
            self._loaded[v.cpu] = v.key
        return self._guests[v.cpu]

    def difference(self, v: Vector) -> Difference:
        """How what we do differs from the vector; empty: not at all."""
        try:
            guest = self._guest(v)
        except TypeError:
            return {"executed": 1}
        prepare(guest, v)
        trap = None
        if self.name == "oracle":
            try:
                direct.execute(guest.cpu.core, self._wides[v.cpu])
            except Trap as raised:
                trap = raised.exc
        elif guest.cpu.run(1) == "fatal":
            trap = BY_NAME[guest.cpu.fatal_reason.split()[0]].bit
        return compare(guest, v, trap)

    @property
    def native(self) -> int:
        """Wide instructions that native code has executed (jit: regions)."""
        return sum(guest.cpu.translator.statistics.executed for guest in self._guests.values()
                   if guest.cpu.translator is not None)


Difference = dict[str, int]
"""What differs -> by which bits; "trap": our exception, "executed": 1 when the vector has a signal and we none."""


def compare(guest: Guest, v: Vector, trap: int | None) -> Difference:
    """How the state after, or the exception ``trap``, differs from the vector."""
    state = guest.state
    if trap is not None:
        return {} if SIGNALS.get(trap, "SIGILL") == v.signal else {"trap": trap}
    if v.signal:
        return {"executed": 1}
    found: Difference = {}
    mask = 0xFFFF if v.op.sizes[-1] == "X" else M64
    pairs = []
    if v.op.has_dst:
        pairs += [("value", state["r8"], v.result[0], M64), ("ext", state["r8.ext"], v.result[1], mask)]
    pairs += [(name, state[name], text, M64) for name, text in zip(("pfpfr", "fpsr", "fpcr"), v.flags, strict=False)]
    for name, ours, theirs, bits in pairs:
        if theirs is not None and (ours ^ int(theirs, 16)) & bits:
            found[name] = (ours ^ int(theirs, 16)) & bits
    if "pred" in v.op.fmt.slots and v.pred is not None and state["pred5"] & 1 != v.pred:
        found["pred"] = 1
    if v.op.has_dst and v.tag is not None:
        half = 3 if v.op.sizes[-1] == "S" and not v.dbl else 15
        if state["r8.tag"] & half != v.tag & half:
            found["tag"] = (state["r8.tag"] ^ v.tag) & half
    return found


_SHIFTS = re.compile(r"((shl|shr|sar|scl|scr)_\w+s|shls|shrs|sars)")
_DIVISIONS = re.compile(r"[us](div|mod)[sdx]")


def kind_of(v: Vector, found: Difference) -> str | None:
    """The class of a difference (the rows of docs/semantics.md); None: it is of none."""
    name, differing = v.op.name, set(found)
    flags = {found.get("pfpfr", 0), found.get("fpsr", 0)} - {0}
    diagnostic = any(v.tags) and v.speculative
    if differing == {"executed"} and v.signal == "SIGILL" and re.search(r"_f[bhwd]$|^cctop|^movtr", name):
        return "not in the C emulator"
    if differing == {"trap"} and found["trap"] == BY_NAME["exc_diag_operand"].bit and any(v.tags):
        return "diagnostic operand traps"
    if diagnostic and differing <= {"value", "ext", "pfpfr", "fpsr"} and not (found.get("value", 0) & ~MARKS) and not (
            found.get("ext", 0) & ~MARKS):
        return "diagnostic result"
    if _DIVISIONS.fullmatch(name) and (found.get("trap") == BY_NAME["exc_div"].bit or differing <= {"value", "tag"}):
        return "quotient"
    if differing == {"value"} and _SHIFTS.fullmatch(name):
        return "32-bit shift by 32 and more"
    if differing == {"value"} and name in ("psllqh", "psrlql") and v.imm == 0:
        return "128-bit shift by 0 bytes"
    if differing == {"value"} and name in ("addcd_c", "subcd_c"):
        return "carry"
    if differing == {"value"} and name in ("gettagd", "pextrh"):
        return "32-bit result"
    if "fscale" in name or "fxscale" in name:
        return "scale"
    if "sqrt" in name and found.get("fpsr", 0) == 0x20:
        return "square root"
    if differing <= {"pfpfr", "fpsr"} and flags == {2}:
        return "denormal operand"
    if "cmp" in name and differing <= {"pfpfr", "fpsr"} and flags <= {1, 3}:
        return "quiet NaN in a quiet compare"
    if v.control[1] is not None and int(v.control[1], 16) >> 8 & 3 != 3 and differing <= {"value", "fpsr"}:
        return "FPCR.pc and loads"
    return None
