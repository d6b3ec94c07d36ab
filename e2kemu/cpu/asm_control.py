"""Assembler, control: transfers, windows, barriers, SS fields and predicate logic."""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.cpu.asm_draft import Draft, fields, set_condition, set_stub
from e2kemu.cpu.asm_expr import Parser, evaluate
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.asm_operands import condition, constant, elementary, guard, predicate
from e2kemu.cpu.insn import Condition, Cs0
from e2kemu.cpu.isa.cu import CS0_OPS, CS1_OPS
from e2kemu.cpu.isa.formats import CS1_WAIT, PREF
from e2kemu.cpu.isa.plu import CLP_NAMES

_CS0 = {op.name: op for op in CS0_OPS}
_CS1 = {op.name: op for op in CS1_OPS}
_CLP = {name: code for code, name in CLP_NAMES.items()}


# --- control ---------------------------------------------------------------------------------------


def _ctpr(parser: Parser, allowed: tuple[int, ...] = (1, 2, 3)) -> int:
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "reg" or name not in [f"ctpr{n}" for n in allowed]:
        raise Trouble(
            f"expected {' or '.join(f'%ctpr{n}' for n in allowed)}, found {parser.describe()}", column
        )
    parser.at += 1
    return int(name[4])


def _transfer(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``ct %ctprN``, ``call %ctprN, wbs=N``, both with an optional condition."""
    number = _ctpr(parser)
    if name == "call":
        parser.need(",")
        _add_cs1(draft, "call", column, fields(parser, {"wbs": 0x7F}))
    wanted = condition(parser) if parser.take("?") else Condition(1)
    set_condition(draft, name, wanted, column)
    set_stub(draft, "", column, ctop=number)


def _cs0(draft: Draft, name: str, column: int, parser: Parser) -> None:
    op = _CS0["ibranch" if name == "rbranch" else name]
    if draft.cs0 is not None:
        raise Trouble(f"{name}: {draft.cs0.name} is in this wide instruction already", column)
    if op.since > draft.version:
        raise Trouble(f"{name} needs instruction set v{op.since}, this is v{draft.version}", column)
    number = 0
    if op.ctprs != (0,):
        number = _ctpr(parser, op.ctprs)
    if op.kind == "branch":
        if number:
            parser.need(",")
        draft.cs0 = _branch(draft, name, number, parser, op.name)
    elif op.kind == "number":
        parser.need(",")
        draft.cs0 = Cs0(op.name, number, 0, constant(parser, "the entry number", 0, 31))
    elif op.kind == "prefetch":
        draft.cs0 = _pref(parser)
    elif op.kind in ("raw", "hcall"):
        if op.kind == "raw":
            draft.cs0 = _branch(draft, name, 0, parser, op.name)
        else:
            draft.cs0 = Cs0(op.name, 0, 0, constant(parser, "the number", 0, 15) << 1)
        parser.need(",")
        _add_cs1(draft, name, column, fields(parser, {"wbs": 0x7F}))
    else:
        draft.cs0 = Cs0(op.name, number, 0, op.type or 0)
    if op.ctprs == (0,) and op.kind != "prefetch" and name != "puttsd":
        rbranch = name == "rbranch"
        if parser.take("?"):
            wanted = condition(parser, rbranch)
        else:
            wanted = Condition(8) if rbranch else Condition(1)
        set_condition(draft, name, wanted, column)


def _branch(draft: Draft, name: str, number: int, parser: Parser, op_name: str) -> Cs0:
    """A symbol is a target, a number the raw field."""
    column = parser.column
    tree = parser.expression()
    value = evaluate(tree)
    if value is not None and value.base is None:
        raw = value.offset & 0xFFF_FFFF
        return Cs0(op_name, number, (raw - (raw >> 27 << 28)) * 8, raw)
    draft.target = (tree, column)
    return Cs0(op_name, number)


def _pref(parser: Parser) -> Cs0:
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "reg" or not name.startswith("ipr") or name[3:] not in "01234567" or not name[3:]:
        raise Trouble(f"expected %ipr0..%ipr7, found {parser.describe()}", column)
    parser.at += 1
    parser.need(",")
    values = fields(parser, {"disp": 0xFF_FFFF, "ipd": 1})
    word = PREF["ipr"].put(int(name[3:])) | PREF["ipd"].put(values.get("ipd", 0))
    return Cs0("pref", 0, 0, word | PREF["disp"].put(values.get("disp", 0) & 0xFF_FFFF))


def _add_cs1(draft: Draft, name: str, column: int, values: dict[str, int]) -> None:
    op = _CS1[name]
    if op.since > draft.version:
        raise Trouble(f"{name} needs instruction set v{op.since}, this is v{draft.version}", column)
    if name in draft.cs1:
        raise Trouble(f"{name} is in this wide instruction already", column)
    draft.cs1[name] = values


_CS1_LIMITS = {
    "wsz": 127,
    "nfx": 1,
    "dbl": 1,
    "mcn": 1,
    "rbs": 63,
    "rsz": 63,
    "rcur": 63,
    "psz": 31,
    "rpsz": 32,
    "type": 0x7FFF,
    "umask": 0xFF,
    "dmask": 0xFF,
    "chkm4": 1,
}


def _cs1(draft: Draft, name: str, column: int, parser: Parser) -> None:
    names = _CS1[name].fields
    if name == "setei":
        values = {"eir": constant(parser, "the event number", 0, 0xFF)}
    elif name == "wait":
        values = fields(parser, dict.fromkeys((f.name for f in CS1_WAIT), 1))
        if values.get("sas") or values.get("las"):
            values["st_c"] = 1
        if values.get("sal") or values.get("lal"):
            values["ld_c"] = 1
        since = {"sas": 5, "sal": 5, "las": 6, "lal": 6, "mt": 6, "int": 6, "mem_mod": 6}
        for key in values:
            if values[key] and since.get(key, 1) > draft.version:
                raise Trouble(
                    f"wait {key} needs instruction set v{since[key]}, this is v{draft.version}", column
                )
    elif names:
        names += ("mcn",) * (name == "setwd")  # the vendor's assembler has no name for it
        values = fields(parser, {f: _CS1_LIMITS[f] for f in names})
        if name == "vfrpsz":  # gas stores one less than it is told
            if not 1 <= values["rpsz"] <= 32:
                raise Trouble(f"rpsz {values['rpsz']} is not in 1..32", column)
            values["rpsz"] -= 1
    else:
        values = {}
    _add_cs1(draft, name, column, values)


def _nop(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if draft.nop:
        raise Trouble("nop is given twice", column)
    draft.nop = 1 if parser.done else constant(parser, "nop", 0, 7)


def _header_bit(draft: Draft, name: str, column: int, parser: Parser) -> None:
    setattr(draft, name, True)


def _ipd(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if draft.ipd is not None:
        raise Trouble("ipd is given twice", column)
    draft.ipd = constant(parser, "ipd", 0, 3)


def _ctcond(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``ctcond TYPE, PSRC``: the fields of SS as they are (the vendor's assembler has no such statement)."""
    if draft.condition is not None:
        raise Trouble("ctcond is given twice", column)
    kind = constant(parser, "the type of the condition", 0, 15)
    parser.need(",")
    draft.condition = Condition(kind, constant(parser, "psrc", 0, 31))


def _mas(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``mas alc0 = N``: of channels without a memory access (the vendor's assembler has no such statement)."""
    if name in draft.cs1:
        raise Trouble("mas is given twice", column)
    draft.cs1[name] = fields(parser, {f"alc{channel}": 0x7F for channel in (0, 2, 3, 5)})


def _stub_bit(draft: Draft, name: str, column: int, parser: Parser) -> None:
    set_stub(draft, "1", column, **{name: True})


def _advance(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``abn abnf=1, abnt=1``, ``abp``, ``alc``: rotation and counters."""
    stem = "alc" if name == "alc" else name
    values = fields(parser, {f"{stem}f": 1, f"{stem}t": 1})
    set_stub(draft, "1", column, **{key: bool(value) for key, value in values.items()})


def _recovery(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if "crp" in draft.stub or "srp" in draft.stub:
        raise Trouble(f"{name}: a recovery point operation is there already", column)
    if name == "slrp" and draft.version < 3:
        raise Trouble(f"slrp needs instruction set v3, this is v{draft.version}", column)
    set_stub(draft, "", column, crp=name != "srp", srp=name != "crp")
    if parser.take("?"):
        draft.stub["rpc"] = guard(parser)


def _types(draft: Draft, name: str, column: int, parser: Parser) -> None:
    opc = 2 if name == "invts" else 3
    wanted = Condition(0)
    if name == "invts" and parser.take("?"):
        opc = 7 if parser.take("~") else 6
        wanted = Condition(0, predicate(parser))
    if name == "flushts" and draft.version < 3:
        raise Trouble(f"flushts needs instruction set v3, this is v{draft.version}", column)
    set_stub(draft, "2", column, ts_opc=opc)
    if wanted.psrc:
        set_condition(draft, name, wanted, column)


def _abg(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``abg N`` (v1..v5: bit 0 decrements, bit 1 increments), ``abgc N`` and ``rbgc`` (v6 and later)."""
    if name == "abg":
        value = constant(parser, "abg", 0, 3)
        set_stub(draft, "1", column, abgi=bool(value & 2), abgd=bool(value & 1))
        return
    if draft.version < 6:
        raise Trouble(f"{name} needs instruction set v6, this is v{draft.version}", column)
    number = constant(parser, "abgc", 1, 7) if name == "abgc" else 0
    kind, wanted = 1, Condition(0)
    if parser.take("?"):
        kind = 3 if parser.take("~") else 2
        wanted = Condition(0, predicate(parser))
        set_condition(draft, name, wanted, column)
    set_stub(draft, "2", column, abgc=number, abgc_condition=kind)


def _ctp_call(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if draft.version < 7:
        raise Trouble(f"ctp_call needs instruction set v7, this is v{draft.version}", column)
    set_stub(draft, "2", column, ctp_call=True)


# --- predicate logic -------------------------------------------------------------------------------


def _at(parser: Parser, low: int, high: int) -> int:
    kind, value, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "at" or not low <= int(value) <= high:
        raise Trouble(f"expected @p{low}..@p{high}, found {parser.describe()}", column)
    parser.at += 1
    return int(value)


def _pass(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``pass %pred0, @p0`` and ``pass @p4, %pred3``."""
    if not parser.done and parser.toks[parser.at][0] == "at":
        result = _at(parser, 4, 6) - 4
        parser.need(",")
        if result in draft.clp_dst:
            raise Trouble(f"@p{result + 4} is written twice", column)
        draft.clp_dst[result] = predicate(parser)
        return
    source = elementary(parser)
    parser.need(",")
    at = parser.column
    number = _at(parser, 0, 3)
    if number in draft.elps:
        raise Trouble(f"@p{number} is set twice", at)
    draft.elps[number] = source


def _clp(draft: Draft, name: str, column: int, parser: Parser) -> None:
    neg0 = parser.take("~")
    arg0 = _at(parser, 0, 6)
    parser.need(",")
    neg1 = parser.take("~")
    arg1 = _at(parser, 0, 6)
    parser.need(",")
    at = parser.column
    result = _at(parser, 4, 6) - 4
    if result in draft.clps:
        raise Trouble(f"@p{result + 4} is computed twice", at)
    draft.clps[result] = [_CLP[name], arg0, neg0, arg1, neg1]


OPERATIONS: dict[str, Callable[[Draft, str, int, Parser], None]] = {
    "ct": _transfer,
    "call": _transfer,
    "rbranch": _cs0,
    "nop": _nop,
    "loop_mode": _header_bit,
    "set_mark": _header_bit,
    "ipd": _ipd,
    "ctcond": _ctcond,
    "mas": _mas,
    "eap": _stub_bit,
    "bap": _stub_bit,
    "vfdi": _stub_bit,
    "abn": _advance,
    "abp": _advance,
    "alc": _advance,
    "crp": _recovery,
    "srp": _recovery,
    "slrp": _recovery,
    "invts": _types,
    "flushts": _types,
    "abg": _abg,
    "abgc": _abg,
    "rbgc": _abg,
    "ctp_call": _ctp_call,
    "pass": _pass,
    **dict.fromkeys(_CS0, _cs0),
    **dict.fromkeys(_CLP, _clp),
    **dict.fromkeys((name for name in _CS1 if name not in ("call", "icall", "hcall", "mas")), _cs1),
}
"""Mnemonic -> its parser."""
