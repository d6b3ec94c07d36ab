"""Operations against golden vectors: real encodings through the real executor."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from typing import Any

import pytest

from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.traps import BY_NAME
from tests.cpu.guest import CODE, DATA, Guest

Vector = dict[str, Any]
VECTORS: dict[str, list[Vector]] = json.loads(gzip.decompress((DATA / "semantics.json.gz").read_bytes()))


def source_of(vector: Vector) -> str:
    """The operation on %r1 %r2 %r3 -> %r4 or %pred0, in the syntax of the assembler."""
    letters = vector["sz"]
    count = len(vector["src"])
    first = 2 if count == 1 else 1
    names = [f"{'%dr' if letters[i] == 'D' else '%r'}{first + i}" for i in range(count)]
    if "literal" in vector:
        names[1] = vector["literal"]
    if "literal1" in vector:
        names[0] = vector["literal1"]
    names.append({"B": "%pred0", "D": "%dr4", "S": "%r4"}[letters[-1]])
    merge = ", %pred1" if "cond" in vector else ""
    sm = ",sm" if vector.get("sm") else ""
    setwd = "setwd wsz=8, nfx=1, dbl=1" if "dbl" in vector else ""
    text = f"{vector['op']},{vector['alc']}{sm} {', '.join(names)}{merge}"
    return "\n".join(["{", setwd, "nop 7", "}", "{", text, "}"]) if setwd else "{\n" + text + "\n}"


def run(guest: Guest, vector: Vector, *, steps: int) -> str:
    """Set the sources, execute; the name of the exception, "" when there was none."""
    state = guest.state
    state.reset()
    state.pc = CODE
    first = 2 if len(vector["src"]) == 1 else 1
    for i, text in enumerate(vector["src"]):
        state[f"r{first + i}"] = int(text, 16)
        state[f"r{first + i}.tag"] = vector.get("tags", [0, 0, 0])[i]
    state["r4"] = int(vector["before"], 16)
    state["pred1"] = vector.get("cond", 0)
    if guest.cpu.run(steps) == "fatal":
        return guest.cpu.fatal_reason.split()[0]
    return ""


def check(kind: str) -> int:
    """Run every vector of a kind; returns how many operations there were."""
    groups: dict[tuple[str, str], list[Vector]] = defaultdict(list)
    for vector in VECTORS[kind]:
        groups[vector["cpu"], source_of(vector)].append(vector)
    guests = {model: Guest(model=model) for model in {cpu for cpu, _ in groups}}
    wrong = []
    for (model, text), vectors in groups.items():
        guest = guests[model]
        guest.load(text)
        for vector in vectors:
            steps = 2 if "dbl" in vector else 1
            exc = run(guest, vector, steps=steps)
            signal = vector.get("signal")
            if signal or exc:
                expected = {"SIGFPE": {"exc_div"}, "SIGILL": {"exc_diag_operand", "exc_illegal_operand"}}
                if exc not in expected.get(signal or "", set()):
                    wrong.append((text, vector, exc))
                continue
            state = guest.state
            if vector["sz"][-1] == "B":
                good = state["pred0"] & 1 == vector["pred"]
            else:
                good = state["r4"] == int(vector["dst"], 16) or "only_tag" in vector
                mask = 3 if vector["sz"][-1] == "S" else 15
                good &= vector.get("tag") is None or state["r4.tag"] & mask == vector["tag"] & mask
            if not good:
                wrong.append((text, vector, f"{state['r4']:016x}/{state['r4.tag']:x} {state['pred0']}"))
    assert not wrong, f"{len(wrong)} wrong: {sorted({w[1]['op'] for w in wrong})}, first: {wrong[:3]}"
    return len({vector["op"] for vector in VECTORS[kind]})


def test_every_integer_operation_gives_the_golden_result() -> None:
    """2,928 vectors; the operations that only the first instruction set has are compared with PyValues elsewhere."""
    assert check("ops") >= 350


def test_tags_of_operands_trap_or_spread() -> None:
    assert check("tags") >= 300


def test_dbl_windows_clear_the_upper_half() -> None:
    assert check("dbl") >= 150


def test_literals_are_extended_to_the_width_of_the_operand() -> None:
    assert check("literals") >= 5


def test_every_described_integer_operation_has_vectors_or_is_of_v1() -> None:
    covered = {vector["op"] for vector in VECTORS["ops"]}
    described = {op.name for op in table.rows() if op.meaning and not (op.load or op.store)
                 and op.meaning.__module__.endswith(("alc_int", "alc_cmp")) and op.channels[4]}
    elsewhere = {"getsp", "puttags", "puttagd", "gettagd", "movif", "movfi", "movx", "movxa", "movxc", "getpl", "movtq",
                 "movtcq", "movtrq", "movtrcq", "movtrs", "movtrd", "movtrcs", "movtrcd"}
    assert described - covered <= elsewhere
    assert len(described) > 300


@pytest.mark.parametrize(("op", "a", "b"), [
    ("sdivs", 0x80000000, 0xFFFFFFFF), ("sdivd", 1 << 63, (1 << 64) - 1), ("udivd", 5, 0), ("sdivd", 5, 0),
    ("udivx", 1 << 40, 1), ("sdivx", 1 << 40, 1), ("smodx", 1 << 40, 1), ("umodx", 7, 0)])
def test_division_by_zero_or_with_overflow_raises_exc_div(op: str, a: int, b: int) -> None:
    letters = table.by_name(op)[0].sizes
    names = [f"%{'dr' if letter == 'D' else 'r'}{i + 1}" for i, letter in enumerate(letters)]
    guest = Guest(f"{{ {op},5 {', '.join(names)} }}")
    guest.state["r1"], guest.state["r2"] = a, b
    assert guest.cpu.step() == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_div at 0x10000")
    assert BY_NAME["exc_div"].bit == 34


def test_an_operation_without_a_meaning_raises_illegal_opcode_and_names_itself() -> None:
    guest = Guest("{ puttc,0 %dr1, %dr2, %dr3 }")
    assert guest.cpu.step() == "fatal"
    assert guest.cpu.fatal_message == (
        "cpu 0: exc_illegal_opcode at 0x10000 (puttc) and no trap table is set")
