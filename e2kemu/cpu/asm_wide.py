"""Assembler, one wide instruction: a ``Draft`` -> channels -> ``insn.Wide`` -> bytes and what to patch.

Channels: a named one is taken; the others are filled in source order, lowest channel first, going
back when the rest would not fit. SS gets prefetch depth 3 unless ``ipd`` says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from e2kemu.cpu.asm_draft import Draft
from e2kemu.cpu.asm_expr import Tree
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.bundle import join
from e2kemu.cpu.encode import encode_wide
from e2kemu.cpu.insn import AluInsn, Clp, Cs1, Elp, Guard, Stub, Wide
from e2kemu.cpu.isa.formats import AAU
from e2kemu.cpu.isa.notation import Op
from e2kemu.errors import ImageError

DEFAULT_IPD = 3


@dataclass(frozen=True, slots=True)
class Patch:
    """Something in the bytes of a wide instruction that waits for the layout.

    ``kind`` "lit64": the word at ``offset`` is the low one, the one before it the high one; "disp": 28
    bits of the word at ``offset``, distance from the wide instruction in 8-byte units.
    """

    kind: str
    offset: int
    tree: Tree
    column: int


def _second_channel(op: Op, channel: int) -> int | None:
    """The other channel of a quad operation: occupied, even where v7 encodes one half only."""
    for pair in op.pair.split("/") if op.pair else ():
        if pair[0] == str(channel):
            return int(pair[1])
    return None


@cache
def _choices(rows: tuple[Op, ...], wanted: int | None, version: int) -> tuple[tuple[Op, int, int | None], ...]:
    """(row, channel, second channel) in the order of preference."""
    found = []
    for channel in range(6) if wanted is None else (wanted,):
        for op in rows:
            if not op.in_channel(channel, version):
                continue
            if op.pair and all(pair[0] != str(channel) for pair in op.pair.split("/")):
                continue
            found.append((op, channel, _second_channel(op, channel)))
            break
    return tuple(found)


def _conflict(chosen: list[tuple[Op, int, int | None]], op: Op, channel: int) -> bool:
    """A load in ALC0 with a store in ALC5, or one in ALC3 with a store in ALC2, is illegal."""
    pairs = {(0, 5), (3, 2)}
    for other, at, _ in chosen:
        load, store = (channel, at) if op.load else (at, channel)
        if ((op.load and other.store) or (op.store and other.load)) and (load, store) in pairs:
            return True
    return False


def _assign(draft: Draft) -> list[tuple[Op, int, int | None]]:
    """Channels for all operations, in source order. Raises Trouble when there is no way."""
    choices = [_choices(insn.rows, insn.channel, draft.version) for insn in draft.alu]
    if len(choices) == 1 and choices[0]:
        return [choices[0][0]]
    order = sorted(range(len(draft.alu)), key=lambda i: draft.alu[i].channel is None)
    if all(draft.alu[i].channel is not None for i in order):
        order = list(range(len(draft.alu)))
    result: dict[int, tuple[Op, int, int | None]] = {}
    deepest = 0

    def solve(depth: int, taken: int) -> bool:
        nonlocal deepest
        if depth == len(order):
            return True
        deepest = max(deepest, depth)
        i = order[depth]
        for op, channel, second in choices[i]:
            mask = 1 << channel | (0 if second is None else 1 << second)
            if taken & mask:
                continue
            if draft.alu[i].channel is None and _conflict(list(result.values()), op, channel):
                continue
            result[i] = (op, channel, second)
            if solve(depth + 1, taken | mask):
                return True
            del result[i]
        return False

    if not solve(0, 0):
        insn = draft.alu[order[deepest]]
        where = (
            f"channel {insn.channel} is taken" if insn.channel is not None else "no channel is left for it"
        )
        raise Trouble(f"{insn.name}: {where}", insn.column)
    return [result[i] for i in range(len(draft.alu))]


def _alu(draft: Draft) -> tuple[AluInsn, ...]:
    insns = []
    increments = {channel: (number, guards, column) for channel, number, guards, column in draft.increments}
    if len(increments) != len(draft.increments):
        raise Trouble("two incr of one channel", draft.increments[-1][3])
    for insn, (op, channel, second) in zip(draft.alu, _assign(draft), strict=True):
        operands = dict(insn.operands)
        increment: tuple[Guard, ...] | None = None
        if channel in increments and operands.get("aau") is not None:
            number, increment, _ = increments.pop(channel)
            array = operands["aau"]
            code = array.opce1 | AAU["am"].put(1) | AAU["incr"].put(number)
            operands["aau"] = type(array)(code, array.literal, array.literal_slot)
        insns.append(
            AluInsn(
                channel,
                op,
                insn.sm,
                mas=insn.mas,
                guards=insn.guards,
                merge=insn.merge,
                increment=increment,
                pair_channel=second,
                **operands,
            )
        )
    for _, _, column in increments.values():
        raise Trouble("incr needs an array store or load in its channel", column)
    return tuple(insns)


def _stub(draft: Draft) -> Stub | None:
    if not draft.stub and draft.ipd is None and not draft.movas and draft.condition is None:
        return None
    values = dict(draft.stub)
    if draft.condition is not None:
        values["condition"] = draft.condition
    ipd = DEFAULT_IPD if draft.ipd is None else draft.ipd
    return Stub(sf2=draft.stub_kind == "2", ipd=ipd, **values)


def to_wide(draft: Draft) -> Wide:
    """The decoded form of a finished draft. Raises Trouble."""
    clps: list[Clp | None] = [None, None, None] if draft.clps or draft.clp_dst else []
    for n in set(draft.clps) | set(draft.clp_dst):
        opc, arg0, neg0, arg1, neg1 = draft.clps.get(n, [0, 0, False, 0, False])
        clps[n] = Clp(opc, arg0, neg0, arg1, neg1, draft.clp_dst.get(n))
    elps = tuple(Elp(draft.elps[n]) if n in draft.elps else None for n in range(4)) if draft.elps else ()
    return Wide(
        draft.version,
        0,
        nop=draft.nop,
        loop_mode=draft.loop_mode,
        set_mark=draft.set_mark,
        alu=_alu(draft) if draft.alu or draft.increments else (),
        stub=_stub(draft),
        cs0=draft.cs0,
        cs1=tuple(Cs1(name, fields) for name, fields in draft.cs1.items()),
        elps=elps,
        clps=tuple(clps),
        movas=tuple(draft.movas[n] for n in sorted(draft.movas)),
    )


def finish(draft: Draft) -> tuple[bytes, list[Patch]]:
    """The bytes of a finished draft and what to patch in them. Raises Trouble."""
    if draft.halves:
        return b"".join((*draft.halves, bytes(8)))[:16], []
    try:
        bundle, symbols = encode_wide(to_wide(draft))
    except ImageError as error:
        raise Trouble(str(error)) from None
    data = join(bundle)
    patches = []
    end = len(data) - 4 * (len(bundle.pls) + len(bundle.cds))
    by_symbol = {symbol: (tree, column) for symbol, tree, column in draft.immediate.symbols.values()}
    for symbol, slot in symbols:
        tree, column = by_symbol[symbol]
        patches.append(Patch("lit64", end - 4 * (slot + 1), tree, column))
    if draft.target is not None:
        words = 1 + (bundle.ss is not None) + sum(word is not None for word in bundle.als)
        patches.append(Patch("disp", 4 * words, *draft.target))
    return data, patches
