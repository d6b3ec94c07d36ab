"""What the emulator does not have never passes silently: it traps, and the log has its name."""

from __future__ import annotations

import re

import pytest

from e2kemu import trace
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import Aau, AluInsn, Kind, Operand, Wide
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import rows
from e2kemu.cpu.isa.unknown import CONTROL, REASONS, reason
from tests.cpu.guest import CODE, Guest

MODEL_OF = {model.version: name for name, model in MODELS.items()}
VERSION = max(MODEL_OF)


@pytest.fixture
def unimp(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``-d unimp`` logs."""
    lines: list[str] = []
    monkeypatch.setattr(trace, "mask", trace.Log.UNIMP)
    monkeypatch.setattr(trace, "log", lines.append)
    return lines


def _instruction(op: Op, channel: int) -> AluInsn:
    slots: dict[str, object] = {}
    for slot in op.fmt.slots:
        if slot in ("src1", "src2", "src3", "src4"):
            slots[slot] = Operand(Kind.R, 0)
        elif slot == "dst":
            slots[slot] = Operand(Kind.R, 2)
        elif slot == "aau":
            slots[slot] = Aau(0x10 << 2)
        else:
            slots[{"pred": "pred", "sreg": "sreg"}[slot]] = 1
    pair = next((int(p.replace(str(channel), "")) for p in op.pair.split("/") if str(channel) in p), None)
    if op.imm8:
        slots["imm8"] = 1
    return AluInsn(channel, op, pair_channel=pair, mas=op.mas_code or 0, **slots)  # type: ignore[arg-type]


def test_every_operation_without_a_meaning_traps_and_is_named(unimp: list[str]) -> None:
    """Each on the latest model that has it."""
    guests = {version: Guest(model=name) for version, name in MODEL_OF.items()}
    tried = 0
    for op in rows():
        version = max((v for v in MODEL_OF if op.channels[v]), default=0)
        if op.meaning is not None or op.alias_of or not version:
            continue
        guest, channel = guests[version], int(op.channels[version][0])
        code = encode(Wide(version, 0, CODE, alu=(_instruction(op, channel),)))
        guest.space.write_bytes(CODE, code)
        for index in range(16):
            guest.state.set(f"r{index}", index)
        guest.state.pc = CODE
        unimp.clear()
        assert guest.cpu.run(1) == "fatal", op
        assert "exc_illegal_opcode" in str(guest.cpu.fatal_message), op
        assert any(re.search(rf"\b{re.escape(op.name)}\b", line) for line in unimp), (op, unimp)
        tried += 1
    assert tried >= 55


def test_everything_without_a_meaning_has_a_reason() -> None:
    unexplained = {op.name for op in rows() if op.meaning is None and not op.alias_of and reason(op) is None}
    assert not unexplained
    described = {pattern for pattern, _ in REASONS}
    used = {pattern for pattern in described for op in rows() if op.meaning is None and re.fullmatch(pattern, op.name)}
    assert used == described
    assert all(len(why) > 20 for why in CONTROL.values())


@pytest.mark.parametrize("name", sorted(CONTROL))
def test_control_without_a_meaning_traps_and_is_named(name: str, unimp: list[str]) -> None:
    text = {"%spred": "pass %spred25, @p0\n andp @p0, @p0, @p4\n pass @p4, %pred1",
            "%bgrpred": "pass %bgrpred, @p0\n andp @p0, @p0, @p4\n pass @p4, %pred1",
            "vfbg": "vfbg umask=1, dmask=0, chkm4=0", "icall": "icall 1, wbs=4", "hcall": "hcall 1, wbs=4",
            "puttsd": "puttsd 0", "gettsd": "gettsd %ctpr1"}.get(name, name)
    guest = Guest(f"{{ {text} }}", model=MODEL_OF[VERSION])
    assert guest.cpu.run(1) == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_illegal_opcode")
    assert any(name in line for line in unimp), unimp


def test_a_write_of_a_register_that_follows_from_others_is_logged(unimp: list[str]) -> None:
    guest = Guest("{ rwd,0 0x40, %pshtp }")
    guest.cpu.run(1)
    assert any("%pshtp" in line for line in unimp)
