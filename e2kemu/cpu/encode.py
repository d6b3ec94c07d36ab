"""``insn.Wide`` -> syllables -> bytes: the inverse of decode, and the assembler's last step.

What ``Wide`` leaves open is chosen as the vendor's assembler chooses: literals as ``encode_literals`` says, in the
order of ``Wide.alu``; conditions get CDS halves in that order; ALES2 and ALES5 get their word when a value needs it.
Operands that carry their ``code`` keep it. Bit positions are those of ``isa.formats``, the layout is ``bundle.build``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from e2kemu.cpu.bundle import Bundle, build, join
from e2kemu.cpu.decode_alu import next_register
from e2kemu.cpu.encode_literals import LITERALS, EncodeError, Literals, Placed
from e2kemu.cpu.insn import AluInsn, Cs0, Cs1, Elp, Guard, Kind, Operand, Stub, Wide
from e2kemu.cpu.isa.cu import CALL_KINDS, CS0_OPS
from e2kemu.cpu.isa.formats import (
    AAS,
    AAS_DST,
    AAU,
    ALES,
    ALES_DEFAULT,
    ALS,
    CDS,
    CS0,
    CS1,
    CS1_CALL,
    CS1_FLUSH,
    CS1_MAS,
    CS1_SETEI,
    CS1_SETR,
    CS1_VFBG,
    CS1_WAIT,
    LTS0_SETWD,
    NONE,
    PLS,
    SS1,
    SS2,
    Syllable,
)
from e2kemu.cpu.isa.notation import Op
from e2kemu.errors import ImageError

_SPECIAL_DST = {Kind.TST: 0xCD, Kind.TC: 0xCE, Kind.TCD: 0xCF, Kind.EMPTY: 0xDF, Kind.EMPTY_LO: 0xDE}
_CS0_BY_NAME = {op.name: op for op in CS0_OPS}
_CTOPC = {name: code for code, name in CALL_KINDS.items()}
_NOTHING: tuple[int | None, ...] = (None,) * 6
_SM, _COP, _SRC1, _SRC2 = (ALS[name].lo for name in ("sm", "cop", "src1", "src2"))
_OPC2 = ALES["opc2"].lo


_BASES = {Kind.B: 0, Kind.R: 0x80, Kind.G: 0xE0, Kind.IMM: 0xC0, Kind.CTPR: 0xD0}


def _operand_byte(operand: Operand, codes: dict[int, int]) -> int:
    base = _BASES.get(operand.kind)
    if base is not None:
        return base | operand.value
    if operand.kind in LITERALS:
        return codes[id(operand)] if operand.code is None else operand.code
    return _SPECIAL_DST[operand.kind]


def _place_fixed(wide: Wide, literals: Literals) -> None:
    """Literals that name their slot. Raises EncodeError."""
    for insn in wide.alu:
        for operand in (insn.src3, insn.src2):
            if operand is not None and operand.kind in LITERALS and operand.code is not None:
                literals.place(operand)
        if insn.aau is not None and insn.aau.literal is not None and insn.aau.literal_slot is not None:
            literals.word(insn.aau.literal_slot, insn.aau.literal)


def _place_open(wide: Wide, literals: Literals) -> tuple[dict[int, int], dict[int, int]]:
    """Slots of the other literals: operand codes by id of the operand, and AAU slots by channel."""
    aau: dict[int, int] = {}
    arrays: list[tuple[int, int]] = []
    open_ones: list[Operand] = []
    for insn in wide.alu:
        for operand in (insn.src3, insn.src2):
            if operand is not None and operand.kind in LITERALS and operand.code is None:
                open_ones.append(operand)
        if insn.aau is not None and insn.aau.literal is not None:
            if insn.aau.literal_slot is None:
                arrays.append((insn.channel, insn.aau.literal))
            else:
                aau[insn.channel] = insn.aau.literal_slot
    open_ones += [Operand(Kind.LIT32, literal) for _, literal in arrays]
    if not open_ones:
        return {}, aau
    found = literals.solve(open_ones, len(arrays))
    for (channel, _), code in zip(arrays, found[len(found) - len(arrays) :], strict=True):
        aau[channel] = code & 3
    return {id(operand): code for operand, code in zip(open_ones, found, strict=True)}, aau


def _als(insn: AluInsn, codes: dict[int, int], aau: dict[int, int], second: bool = False) -> int:
    """The ALS of an operation, or (``second``) of the other half of a quad one: the next registers."""
    op = insn.op
    word = op.cop << _COP | insn.sm << _SM

    def byte(slot: str, operand: Operand | None) -> int:
        if operand is None:
            return NONE
        result = _operand_byte(operand, codes)
        if second and slot in op.paired_slots:
            result = next_register(result)
            if result < 0:
                raise EncodeError(f"{op.name}: no register follows {operand.kind.value}{operand.value}")
        return result

    result = byte("dst", insn.dst) if insn.dst is not None else byte("src4", insn.src4)
    if insn.aau is not None:
        opce1 = insn.aau.opce1
        if insn.aau.literal is not None:
            opce1 = opce1 & ~AAU["lt"].mask | AAU["lt"].put(aau[insn.channel] + 1)
        return word | opce1 << 8 | result
    src1 = byte("src1", insn.src1) if insn.src1 is not None or op.opce is None else op.opce
    if insn.imm8 is not None and not op.imm8:
        src1 = insn.imm8  # the window base of icalld
    src2 = byte("src2", insn.src2)
    if insn.sreg is not None:
        if insn.dst is not None:
            src1, src2 = insn.sreg, NONE
        else:
            result = insn.sreg
    elif insn.pred is not None:
        result = (op.cmpopce or 0) << 5 | insn.pred
    return word | src1 << _SRC1 | src2 << _SRC2 | result


def _ales(insn: AluInsn, codes: dict[int, int]) -> int | None:
    op = insn.op
    if not op.fmt.long:
        return None
    if insn.imm8 is not None and op.imm8:
        low = insn.imm8
    elif insn.src3 is not None:
        low = _operand_byte(insn.src3, codes)
    else:
        low = NONE if op.ales_lo is None else op.ales_lo
    return (op.opc2 or 0) << _OPC2 | low


class _Conditions:
    """CDS halves in the order of need."""

    def __init__(self) -> None:
        self.halves: list[int] = []

    def add(self, opc: int, guard: Guard, bit: int, negate_bit: int | None = None) -> None:
        """Let ``guard`` govern mask bit ``bit`` (3: AM or RPC) of a half of kind ``opc``."""
        neg = bit if negate_bit is None else negate_bit
        code = (0x40 if guard.is_pcnt else 0x60) | guard.index
        mask, inverse = 1 << 10 + bit, 1 << 7 + neg
        for i, half in enumerate(self.halves):
            same = CDS["opc"].of(half) == opc and CDS["pred"].of(half) == code
            # a shared negation bit must agree with whoever uses it already
            users = 1 << 10 + neg | (1 << 13 if neg == 2 else 0)
            if same and not half & mask and (not half & users or bool(half & inverse) == guard.negated):
                self.halves[i] = half | mask | (inverse if guard.negated else 0)
                return
        self.halves.append(
            CDS["opc"].put(opc) | CDS["pred"].put(code) | mask | (inverse if guard.negated else 0)
        )

    def words(self) -> list[int]:
        """CDS0, CDS1, ...; the high half comes first."""
        if len(self.halves) > 6:
            raise EncodeError(f"{len(self.halves)} conditions in one wide instruction, there is room for 6")
        halves = self.halves + [0] * (len(self.halves) % 2)
        return [high << 16 | low for high, low in zip(halves[::2], halves[1::2], strict=True)]


def _conditions(wide: Wide) -> list[int]:
    conditions = _Conditions()
    for insn in wide.alu:
        if not (insn.guards or insn.merge or insn.increment):
            continue
        channels = _channels(insn, wide.version)
        for guards, kind in ((insn.guards, 0), (insn.merge, 2)):
            for guard in sorted(guards, key=lambda guard: guard.is_pcnt):
                for channel in channels:
                    conditions.add(kind + channel // 3, guard, channel % 3)
        for guard in insn.increment or ():
            conditions.add(insn.channel // 3, guard, 3, 2)
    if wide.stub is not None and wide.stub.rpc is not None:
        conditions.add(2, wide.stub.rpc, 3, 2)
    return conditions.words()


def _stub(stub: Stub) -> int:
    condition = stub.condition
    values = {
        "ipd": stub.ipd,
        "srp": stub.srp,
        "crp": stub.crp,
        "ctop": stub.ctop,
        "ctcond": condition.type,
        "psrc": condition.psrc,
    }
    if stub.sf2:
        values.update(
            type=1,
            ts_hi=stub.ts_opc >> 1,
            ts_lo=stub.ts_opc & 1,
            abgc=stub.abgc,
            abgc_cond=stub.abgc_condition,
            ctp_call=stub.ctp_call,
        )
        return _word(SS2, values)
    for name in ("eap", "bap", "vfdi", "abgi", "abgd", "abnf", "abnt", "abpf", "abpt", "alcf", "alct", "aa"):
        values[name] = getattr(stub, name)
    return _word(SS1, values)


def _word(syllable: Syllable, values: dict[str, int]) -> int:
    word = 0
    try:
        for name, value in values.items():
            word |= syllable[name].put(int(value))
    except (KeyError, ValueError) as error:
        raise EncodeError(f"{syllable.name}: {error}") from None
    return word


def _cs0(cs0: Cs0) -> int:
    op = _CS0_BY_NAME[cs0.name]
    if op.kind == "branch":
        if cs0.disp & 7 or not -(1 << 30) <= cs0.disp < 1 << 30:
            raise EncodeError(f"{cs0.name}: displacement {cs0.disp:#x} is not a multiple of 8 within 1 GiB")
        param = cs0.disp >> 3 & CS0["param"].of(-1)
    else:
        param = cs0.param or op.type or 0
    return _word(CS0, {"ctpr": cs0.ctpr, "opc": op.opc, "param": param})


def _cs1(ops: tuple[Cs1, ...], literals: Literals) -> int | None:
    """The CS1 word of these operations; setwd fills LTS0."""
    by_name = {op.name: dict(op.fields) for op in ops}
    names = set(by_name)
    if not names:
        return None
    window = {"setwd", "setbn", "setbp", "settr", "vfrpsz"}
    if names <= window:
        values: dict[str, int] = {}
        if "setbn" in names:
            values.update(by_name["setbn"], setbn=1)
        if "setbp" in names:
            values.update(by_name["setbp"], setbp=1)
        if "settr" in names:
            values["settr"] = 1
        opc = 1 if "vfrpsz" in names else 0 if names & {"setwd", "settr"} else 4
        if opc != 4:
            size = {**by_name.get("setwd", {}), **by_name.get("vfrpsz", {}), **by_name.get("settr", {})}
            used = {"wsz", "nfx", "dbl", "mcn", *size} if "setwd" in names else set(size)
            literals.share(0, _word(LTS0_SETWD, size), sum(LTS0_SETWD[name].mask for name in used))
        return CS1["opc"].put(opc) | _word(CS1_SETR, values)
    flush = {"flushr", "flushc", "fillr", "fillc"}
    if names <= flush:
        return CS1["opc"].put(7) | _word(CS1_FLUSH, dict.fromkeys(names, 1))
    if len(names) > 1:
        raise EncodeError(f"{' and '.join(sorted(names))} cannot be in one wide instruction")
    name = ops[0].name
    fields = by_name[name]
    if name in _CTOPC:
        return CS1["opc"].put(5) | _word(CS1_CALL, {"ctopc": _CTOPC[name], "wbs": fields.get("wbs", 0)})
    if name == "wait":
        return CS1["opc"].put(3) | _word(CS1_WAIT, fields)
    if name == "setei":
        return CS1["opc"].put(2) | _word(CS1_SETEI, fields)
    if name == "setsft":
        return CS1["opc"].put(2) | _word(CS1_SETEI, {"sft": 1})
    if name == "vfbg":
        return CS1["opc"].put(8) | _word(CS1_VFBG, fields)
    raise EncodeError(f"{name} is no CS1 operation")


def _pls(wide: Wide) -> list[int]:
    elps = (*wide.elps, None, None, None, None)[:4]
    clps = (*wide.clps, None, None, None)[:3]
    count = max(
        [
            0,
            *(1 + n // 2 for n, elp in enumerate(elps) if elp is not None),
            *(1 + n for n, clp in enumerate(clps) if clp is not None),
        ]
    )
    words = []
    for n in range(count):
        values: dict[str, int] = {}
        if n < 2:
            for field, elp in (("elp0", elps[2 * n]), ("elp1", elps[2 * n + 1])):
                if isinstance(elp, Elp):
                    values[field] = elp.source
        clp = clps[n]
        if clp is not None:
            values.update(opc=clp.opc, neg0=clp.neg0, arg0=clp.arg0, neg1=clp.neg1, arg1=clp.arg1)
            if clp.dst is not None:
                values.update(vdst=1, pdst=clp.dst)
        words.append(_word(PLS, values))
    return words


def _aas(wide: Wide) -> tuple[tuple[int | None, ...], int]:
    """AAS0..AAS5 and the mask SS.aa."""
    aas: list[int | None] = [None] * 6
    mask = 0
    for mova in wide.movas:
        mask |= 1 << mova.channel
        side = "odd" if mova.channel & 1 else "even"
        half = mova.channel // 2
        aas[half] = (aas[half] or 0) | AAS_DST[side].put(_operand_byte(mova.dst, {}))
        aas[2 + mova.channel] = _word(
            AAS, {"be": mova.be, "opc": mova.opc, "area": mova.area, "ind": mova.ind, "am": mova.am}
        )
    return tuple(aas), mask


def _channels(insn: AluInsn, version: int) -> tuple[int, ...]:
    """The channels an operation has syllables in: instruction set v7 encodes one half of a quad one."""
    if insn.pair_channel is None or version >= 7:
        return (insn.channel,)
    return insn.channel, insn.pair_channel


def _mas(wide: Wide) -> dict[str, int]:
    """The fields of the MAS word: those of operations, and those the word has for nobody."""
    fields = {name: value for op in wide.cs1 if op.name == "mas" for name, value in op.fields.items()}
    for insn in wide.alu:
        if insn.mas:
            channels = _channels(insn, wide.version)
            fields.update({f"alc{channel}": insn.mas for channel in channels if channel in (0, 2, 3, 5)})
    return fields


def _needs_ales_word(op: Op, channel: int, version: int) -> bool:
    """Whether the ALES word must be there although it holds the default: instruction set v4 was the first
    with that word and wants it for the operations that came to ALC2 and ALC5 with it."""
    return version == 4 and channel in (2, 5) and op.fmt.long and not op.in_channel(channel, 3)


def encode_wide(wide: Wide) -> tuple[Bundle, Placed]:
    """The syllables of ``wide``, and where its symbolic literals went. Raises EncodeError."""
    literals = Literals()
    _place_fixed(wide, literals)
    cs1 = _cs1(tuple(op for op in wide.cs1 if op.name != "mas"), literals) if wide.cs1 else None
    mas = _mas(wide)
    if mas:
        if cs1 is not None:
            name = next(op.name for op in wide.cs1 if op.name != "mas")
            raise EncodeError(f"mas and {name} cannot be in one wide instruction: both need CS1")
        cs1 = CS1["opc"].put(6) | _word(CS1_MAS, mas)
    codes, aau = _place_open(wide, literals)
    als: list[int | None] = [None] * 6
    ales: list[int | None] = [None] * 6
    explicit = False
    for insn in wide.alu:
        for channel in _channels(insn, wide.version):
            if als[channel] is not None:
                raise EncodeError(f"two operations in channel {channel}")
            als[channel] = _als(insn, codes, aau, channel != insn.channel)
            ales[channel] = _ales(insn, codes)
            explicit = explicit or _needs_ales_word(insn.op, channel, wide.version)
    aas, aa = _aas(wide) if wide.movas else (_NOTHING, 0)
    stub = wide.stub
    if aa:
        stub = replace(stub or Stub(), aa=aa)
        if stub.sf2:
            raise EncodeError("array reads need the first format of SS")
    elif stub is not None and stub.aa:
        stub = replace(stub, aa=0)
    cds = _conditions(wide)
    pls = _pls(wide) if wide.elps or wide.clps else []
    syllables: dict[str, Any] = {
        "nop": wide.nop,
        "loop_mode": wide.loop_mode,
        "set_mark": wide.set_mark,
        "ss": None if stub is None else _stub(stub),
        "als": als,
        "ales": ales if any(ales) else _NOTHING,
        "cs0": None if wide.cs0 is None else _cs0(wide.cs0),
        "cs1": cs1,
        "aas": aas,
        "lts": literals.words(),
        "pls": pls,
        "cds": cds,
    }
    try:
        bundle = build(wide.version, explicit_ales=explicit, **syllables)
    except ImageError:
        if not explicit:
            raise
        bundle = build(wide.version, **syllables)  # there is no room for a word that may be absent
    if bundle.ales25 is not None:
        high, low = (ALES_DEFAULT if ales[n] is None else ales[n] for n in (2, 5))
        bundle = bundle._replace(ales25=(high or 0) << 16 | (low or 0))
    return bundle, tuple(literals.symbols)


def encode(wide: Wide) -> bytes:
    """The bytes of ``wide``. Raises EncodeError or ImageError when it has no encoding."""
    return join(encode_wide(wide)[0])
