"""The control unit's part of a wide instruction: conditions, predicate logic, windows, loops, transfers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from e2kemu.cpu import locks, wide_direct
from e2kemu.cpu.config import Config
from e2kemu.cpu.insn import Clp, Stub
from e2kemu.cpu.isa import traps
from e2kemu.cpu.isa.plu import ELP_BGRPRED, ELP_LCNTEX, ELP_PRED
from e2kemu.cpu.isa.registers import BY_NAME, WINDOW_DOUBLES
from e2kemu.cpu.state import BGR, CR0_HI, CTPR1, LSR, OSCUD_LO

if TYPE_CHECKING:
    from e2kemu.cpu.wide_semantics import WideExecution

V = Any
M48 = (1 << 48) - 1

EIR, RNDPR, TR, RPR_LO, RPR_HI = (BY_NAME[name].number for name in ("eir", "rndpr", "tr", "rpr.lo", "rpr.hi"))

TAG_EMPTY, TAG_DIAGNOSTIC, TAG_RETURN, TAG_LABEL, TAG_NUMERIC, TAG_SYSTEM = range(6)
"""CTPR[56:54]."""

_NO_EFFECT_CS1 = {"mas", "wait", "fillr", "fillc"}
"""mas qualifies the memory operations; the others wait for what is complete already: results are visible in the
next wide instruction, and a return fills the windows it needs."""
_KNOWN_CS1 = _NO_EFFECT_CS1 | {"setwd", "setbn", "setbp", "setei", "settr", "vfrpsz", "call", "icall", "flushr",
                               "flushc"}
"""vfrpsz sets the window as setwd does; what it verifies is not known."""
_PRIVILEGED_CS0 = {"hret", "glaunch"}
_KNOWN_CS0 = {"ibranch", "pref", "done", "disp", "ldisp", "sdisp", "return", "icall", "iret"}
_LOCAL = (8, 9, 11)
"""Types of conditions that are known once the loads are done."""
TRAP_TABLE_ENTRY = 0x800


def _ctpr(index: int, tag: int, opc: int, ipd: int) -> int:
    return tag << 54 | opc << 57 | ipd << 59


# --- before anything happens ------------------------------------------------------------------------

def prepare_control(ex: WideExecution) -> None:
    """Phase 1: traps of the control unit, the condition, prepared transfers."""
    m, wide, cfg, stub = ex.m, ex.wide, ex.cfg, ex.wide.stub
    if wide.cs0 and wide.cs0.name in _PRIVILEGED_CS0 and not cfg.pm:
        m.trap(traps.EXC_PRIV_ACTION, wide.cs0.name)
        return
    missing = _missing(ex)
    if missing:
        m.trap(traps.EXC_ILLEGAL_OPCODE, missing)
        return
    for op in wide.cs1:
        if op.name == "setsft":
            m.trap(traps.EXC_SOFTWARE_TRAP, "setsft")
        elif op.name == "setwd":
            if ex.new_size < cfg.psize or ex.new_size > WINDOW_DOUBLES:
                m.trap(traps.EXC_ILLEGAL_OPCODE, f"setwd wsz={ex.new_size // 2}")
            elif ex.new_size > cfg.size:
                m.window_room(ex.new_size)
        elif op.name == "setbn":
            br = op.fields["rbs"] | op.fields["rsz"] << 6 | op.fields["rcur"] << 12
            ex.after = ex.after._replace(br=ex.after.br & ~0x3FFFF | br)
        elif op.name == "setbp":
            ex.after = ex.after._replace(br=ex.after.br & 0x3FFFF | op.fields["psz"] << 18)
        elif op.name == "setei":
            ex.sregs.append((EIR, m.staged(op.fields["eir"])))
        elif op.name == "settr" and cfg.version <= BY_NAME["tr"].until:
            ex.late.append(partial(m.write_sreg, TR, op.fields["type"]))
        elif op.name == "flushr":
            m.flush_windows()
        elif op.name == "flushc":
            m.flush_chain()
        elif op.name == "wait" and cfg.pm:
            _wait(ex, op.fields)
    _prepare_transfer(ex)
    ex.transfer = _transfer(ex)
    if stub is not None:
        if stub.bap or stub.eap:
            ex.prepare_program()
        if stub.srp or stub.crp:
            _recovery_point(ex)
        if stub.abgc_condition:
            _rotate_globals(ex, stub)
    if ex.transfer and stub is not None and stub.condition.type not in _LOCAL:
        ex.taken = m.pin(_condition(ex))
        kind = ex.transfer[0]
        if kind in ("ct", "call"):
            _check_target(ex)
        elif kind == "done":
            if not cfg.pm:
                m.if_(ex.taken, lambda: m.trap(traps.EXC_PRIV_ACTION, "done"))
            else:
                m.if_(ex.taken, m.prepare_return)


def _wait(ex: WideExecution, fields: Mapping[str, int]) -> None:
    """``wait trap = 1`` is never over: the trap that ends it finds it not executed. ``wait int = 1`` is over with an
    interrupt, masked or not; together with mem_mod at any time (software has to expect that). A user's have no
    effect."""
    m = ex.m
    if fields.get("trap"):
        m.wait_for_trap()
    elif ex.cfg.version >= 6 and fields.get("int") and not fields.get("mem_mod"):
        ex.late.append(m.wait_for_interrupt)


def _check_target(ex: WideExecution) -> None:
    """Traps of ct and call: where they go to, when they do."""
    m = ex.m
    assert ex.transfer is not None
    kind, number = ex.transfer
    ex.target = m.pin(m.sreg(CTPR1 + number - 1) if number else wide_direct.target(ex))
    m.if_(ex.taken, lambda: m.check_transfer(ex.target, kind == "call", _wbs(ex), ex.cfg))


def _recovery_point(ex: WideExecution) -> None:
    """srp, slrp: RPR is this wide instruction and the rotation; crp: no recovery point."""
    m, stub = ex.m, ex.wide.stub
    assert stub is not None
    condition, diag = ex.guard((stub.rpc,) if stub.rpc else ())
    m.trap_if(diag, traps.EXC_DIAG_COND)
    condition = m.pin(condition)
    ip, br = (ex.wide.address, ex.cfg.br) if stub.srp else (0, 0)

    def write() -> None:
        m.write_sreg(RPR_LO, ip)
        m.write_sreg(RPR_HI, br)

    ex.late.append(lambda: m.if_(condition, write))


def _rotate_globals(ex: WideExecution, stub: Stub) -> None:
    """abgc n: %g24..31 rotate by n (7 is one back); rbgc: not rotated."""
    m = ex.m
    value, diag = (1, 0) if stub.abgc_condition == 1 else ex.predicate(stub.condition.psrc)
    m.trap_if(diag, traps.EXC_DIAG_COND)
    condition = m.pin(m.xor(value, int(stub.abgc_condition == 3)))
    cur = (ex.cfg.bgr >> 8) + stub.abgc & 7 if stub.abgc else 0
    bgr = ex.cfg.bgr & 0xFF | cur << 8
    ex.late.append(lambda: m.if_(condition, lambda: m.write_sreg(BGR, bgr)))


def _missing(ex: WideExecution) -> str:
    """The name of something in the wide instruction that the emulator does not have, or ""."""
    wide, stub = ex.wide, ex.wide.stub
    if wide.cs0 and wide.cs0.name not in _KNOWN_CS0:
        return wide.cs0.name
    if wide.cs0 and wide.cs0.name == "sdisp" and wide.cs0.param >> 5:
        return f"sdisp {wide.cs0.param:#x}"
    for op in wide.cs1:
        if op.name not in _KNOWN_CS1 and op.name != "setsft":
            return op.name
    if stub is not None and stub.condition.type in (10, 12, 13):
        return f"condition type {stub.condition.type}"
    for elp in wide.elps:
        if elp is not None and 0 < elp.source <= ELP_BGRPRED:
            return "%bgrpred" if elp.source == ELP_BGRPRED else "%spred"
    if stub is not None and stub.condition.type in _LOCAL and not (wide.cs0 and wide.cs0.name == "ibranch"):
        # what a transfer traps for has to be known before the store that decides whether it happens
        store = next((insn for insn in wide.alu if locks.conditional(insn, wide.version)), None)
        if store is not None:
            return f"{store.op.name} mas={store.mas:#x} and a transfer that depends on it"
    return wide_direct.malformed(wide)


def _wbs(ex: WideExecution) -> int:
    if ex.transfer is not None and not ex.transfer[1]:
        return wide_direct.window(ex.wide)
    return next((op.fields["wbs"] for op in ex.wide.cs1 if op.name == "call"), 0)


def _transfer(ex: WideExecution) -> tuple[str, int] | None:
    """What the wide instruction transfers by: ("ct", ctpr), ("call", ctpr), ("ibranch", 0), ("done", 0).

    %ctpr 0: the target is prepared by the wide instruction itself (``wide_direct``).
    """
    wide, stub = ex.wide, ex.wide.stub
    if stub is None or stub.condition.type == 0:
        return None
    if stub.ctop:
        is_call = any(op.name == "call" for op in wide.cs1)
        return ("call" if is_call else "ct"), stub.ctop
    if wide.cs0 and wide.cs0.name in ("ibranch", "done"):
        return wide.cs0.name, 0
    direct = wide_direct.name(wide)
    if direct:
        return ("call" if direct.startswith("icall") else "ct"), 0
    return None


def _prepare_transfer(ex: WideExecution) -> None:
    """disp, ldisp, sdisp, return: the new value of a CTPR."""
    m, cs0, stub = ex.m, ex.wide.cs0, ex.wide.stub
    if cs0 is None or not cs0.ctpr:
        return
    ipd = stub.ipd if stub else 0
    if cs0.name in ("disp", "ldisp"):
        address = ex.wide.address + cs0.disp & M48
        value: V = _ctpr(cs0.ctpr, TAG_LABEL, int(cs0.name == "ldisp"), ipd) | address
    elif cs0.name == "return":
        value = m.or_(m.and_(m.sreg(CR0_HI), M48), _ctpr(3, TAG_RETURN, 3, ipd))
    elif cs0.name == "sdisp":
        address = m.and_(m.add(m.sreg(OSCUD_LO), TRAP_TABLE_ENTRY * cs0.param, 64), M48)
        value = m.or_(address, _ctpr(cs0.ctpr, TAG_SYSTEM, 0, ipd))
    else:
        return
    ex.sregs.append((CTPR1 + cs0.ctpr - 1, m.staged(value)))


# --- conditions -------------------------------------------------------------------------------------

def _loop_end(ex: WideExecution) -> V:
    """LOOP_END: vlc, lcnt below 2 and no epilogue left."""
    m = ex.m
    lsr = m.sreg(LSR)
    lcnt = m.and_(lsr, 0xFFFF_FFFF)
    rest = m.and_(m.lshr(lsr, 32), 0x3F)          # ecnt and vlc
    return m.and_(m.ult(lcnt, 2), m.eq(rest, 0x20))


def _condition(ex: WideExecution) -> V:
    """The transfer condition of SS."""
    m, stub = ex.m, ex.wide.stub
    assert stub is not None
    kind, psrc = stub.condition.type, stub.condition.psrc
    if kind == 1:
        return 1
    if kind in (4, 5):
        return m.xor(_loop_end(ex), kind & 1)
    if kind in _LOCAL:
        return _local_condition(ex, kind, psrc)
    value, diag = ex.predicate(psrc)
    if kind in (2, 3):
        m.trap_if(diag, traps.EXC_DIAG_CT_COND)
        return m.xor(value, kind & 1)
    # 6 and 14 are "or LOOP_END", 7 and 15 "and not LOOP_END"; while the prologue runs the predicate is ignored
    prologue = m.xor(m.eq(ex.pcnt(), 0), 1)
    m.trap_if(m.and_(diag, m.xor(prologue, 1)), traps.EXC_DIAG_CT_COND)
    value = m.xor(value, int(kind in (7, 14)))
    end = _loop_end(ex)
    if kind in (6, 14):
        return m.or_(m.and_(value, m.xor(prologue, 1)), end)
    return m.and_(m.or_(value, prologue), m.xor(end, 1))


def _local_condition(ex: WideExecution, kind: int, psrc: int) -> V:
    """%MLOCK, deferred diagnostics, results of compares and logic of this wide instruction."""
    m = ex.m
    result: V = 0 if kind == 11 else m.get(ex.mlock)
    if kind == 8:
        for bit, channel in enumerate((4, 3, 1, 0)):
            if psrc >> bit & 1 and channel in ex.deferred:
                result = m.or_(result, m.get(ex.deferred[channel]))
        return result

    def compare(index: int, negated: int) -> V:
        found = ex.compared.get((0, 1, 3, 4)[index])
        return m.xor(m.get(found[0]) if found else 0, negated)

    if psrc >> 3 == 0:
        return m.or_(result, compare(psrc >> 1 & 3, psrc & 1))
    if psrc >> 3 == 1:
        first = 2 * (psrc >> 2 & 1)
        return m.or_(result, m.or_(compare(first, psrc >> 1 & 1), compare(first + 1, psrc & 1)))
    return m.or_(result, m.xor(ex.logical.get(4 + (psrc >> 1 & 3), (0, 0))[0], psrc & 1))


def predicate_logic(ex: WideExecution) -> None:
    """PLS: elementary predicates, andp, landp, movep."""
    m = ex.m
    for index, elp in enumerate(ex.wide.elps):
        if elp is None:
            continue
        if elp.source >= ELP_PRED:
            ex.logical[index] = ex.predicate(elp.source - ELP_PRED)
        elif elp.source == ELP_LCNTEX:
            ex.logical[index] = m.eq(m.and_(m.sreg(LSR), 0xFFFF_FFFF), 0), 0
        else:
            ex.logical[index] = m.and_(m.lshr(m.sreg(RNDPR), elp.source & 15), 1), 0
    for index, clp in enumerate(ex.wide.clps):
        if clp is not None:
            _logic(ex, 4 + index, clp)


def _logic(ex: WideExecution, index: int, clp: Clp) -> None:
    m = ex.m
    a, bad_a = ex.logical.get(clp.arg0, (0, 0))
    b, bad_b = ex.logical.get(clp.arg1, (0, 0))
    a, b = m.xor(a, int(clp.neg0)), m.xor(b, int(clp.neg1))
    if clp.opc == 0:
        value, bad = m.and_(a, b), m.or_(bad_a, bad_b)
    else:
        value, bad = m.and_(a, b), m.or_(bad_a, m.and_(a, bad_b))
    bad = m.settle(bad)
    ex.logical[index] = value, bad
    if clp.dst is None:
        return
    dst, result = clp.dst, m.or_(value, m.shl(bad, 1, 2))
    if clp.opc == 3:
        m.if_(m.or_(a, bad_a), lambda: ex.stage_predicate(dst, result))
    else:
        ex.stage_predicate(dst, result)


# --- after the results ------------------------------------------------------------------------------

def control(ex: WideExecution) -> None:
    """Phase 5: loop counters, rotation, transfer, and what is done with the state written back."""
    m, stub = ex.m, ex.wide.stub
    if ex.transfer and stub is not None and stub.condition.type in _LOCAL:
        ex.taken = ex.local_taken
    if ex.transfer is None:
        _advance_and_go(ex, False)
    else:
        m.if_(ex.taken, lambda: _advance_and_go(ex, True), lambda: _advance_and_go(ex, False))


def _advance_and_go(ex: WideExecution, taken: bool) -> None:
    m, wide, stub = ex.m, ex.wide, ex.wide.stub
    after: Config = ex.after
    if stub is not None:
        after = after.advanced(stub.abnt if taken else stub.abnf, stub.abpt if taken else stub.abpf)
        if stub.abgi or stub.abgd:
            cur = (after.bgr >> 8) + (1 if stub.abgi else -1) & 7
            after = after._replace(bgr=after.bgr & 0xFF | cur << 8)
        if stub.alct if taken else stub.alcf:
            _advance_loop(ex)
    if after.br != ex.cfg.br or after.bgr != ex.cfg.bgr:
        m.set_rotation(after.br, after.bgr)
    next_pc = wide.address + wide.size
    if not taken:
        m.go_on(next_pc, after, ex.late)
        return
    assert ex.transfer is not None
    kind, _ = ex.transfer
    if kind == "ibranch":
        assert wide.cs0 is not None
        m.exit_to(wide.address + wide.cs0.disp & M48, after, ex.late)
    elif kind == "ct":
        m.exit_ct(ex.target, after, ex.late)
    elif kind == "call":
        m.exit_call(ex.target, _wbs(ex), next_pc, ex.late)
    else:
        m.exit_done(ex.late)


def local_condition(ex: WideExecution) -> None:
    """The condition of types 8, 9, 11, known once the loads are done, and the traps of its transfer."""
    stub = ex.wide.stub
    if ex.transfer and stub is not None and stub.condition.type in _LOCAL:
        ex.local_taken = ex.taken = ex.m.pin(_condition(ex))
        if ex.transfer[0] in ("ct", "call"):
            _check_target(ex)


def _advance_loop(ex: WideExecution) -> None:
    """alc: pcnt and lcnt count down to 0, then ecnt does."""
    m = ex.m
    lsr = m.sreg(LSR)
    lcnt = m.and_(lsr, 0xFFFF_FFFF)
    less = m.select(lcnt, m.sub(lcnt, 1, 64), 0)
    over = m.eq(less, 0)
    ecnt = m.and_(m.lshr(lsr, 32), 31)
    vlc = m.and_(m.lshr(lsr, 37), 1)
    counts = m.and_(over, vlc)
    ecnt = m.select(m.and_(counts, m.xor(m.eq(ecnt, 0), 1)), m.sub(ecnt, 1, 64), ecnt)
    pcnt = m.and_(m.lshr(lsr, 48), 31)
    pcnt = m.select(pcnt, m.sub(pcnt, 1, 64), 0)
    kept = m.and_(lsr, ((1 << 64) - 1) & ~(0xFFFF_FFFF | 31 << 32 | 1 << 38 | 31 << 48))
    value = m.or_(m.or_(kept, less), m.or_(m.shl(ecnt, 32, 64), m.or_(m.shl(over, 38, 64), m.shl(pcnt, 48, 64))))
    m.set_sreg(LSR, value)
    m.end_of_results()
