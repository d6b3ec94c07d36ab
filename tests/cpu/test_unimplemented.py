"""What the emulator does not have never passes silently: it traps, and the log has its name."""

from __future__ import annotations

import re

import pytest

from e2kemu import trace
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import Aau, AluInsn, Cs1, Kind, Operand, Wide
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import rows
from e2kemu.errors import E2kError
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
    guest = Guest(model=MODEL_OF[VERSION])
    for index in range(64):
        guest.state.set(f"r{index % 16}", index)
    tried = 0
    for op in rows():
        if op.meaning is not None or op.alias_of or op.fmt.name == "ALOPF19" or not op.channels[VERSION]:
            continue
        channel = int(op.channels[VERSION][0])
        try:
            code = encode(Wide(VERSION, 0, CODE, alu=(_instruction(op, channel),)))
        except E2kError:
            continue  # an operand of its own kind: the golden vectors of the decoder have it
        guest.space.write_bytes(CODE, code)
        guest.state.pc = CODE
        unimp.clear()
        assert guest.cpu.run(1) == "fatal", op
        assert "exc_illegal_opcode" in str(guest.cpu.fatal_message), op
        assert any(re.search(rf"\b{re.escape(op.name)}\b", line) for line in unimp), (op, unimp)
        tried += 1
    assert tried > 0


def test_a_control_operation_that_is_not_there_traps_by_its_name(unimp: list[str]) -> None:
    guest = Guest()
    guest.space.write_bytes(CODE, encode(Wide(4, 0, CODE, cs1=(Cs1("vfbg", {"umask": 1, "dmask": 0, "chkm4": 0}),))))
    guest.state.pc = CODE
    assert guest.cpu.run(1) == "fatal"
    assert "exc_illegal_opcode" in str(guest.cpu.fatal_message)
    assert any("vfbg" in line for line in unimp)


def test_a_write_of_a_register_that_follows_from_others_is_logged(unimp: list[str]) -> None:
    guest = Guest("{ rwd,0 0x40, %pshtp }")
    guest.cpu.run(1)
    assert any("%pshtp" in line for line in unimp)
