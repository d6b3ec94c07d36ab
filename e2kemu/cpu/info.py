"""The text of ``info registers`` for a CPU, made from the register tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.cpu.isa.registers import GLOBALS, PREDICATES, STATE_REGISTERS
from e2kemu.cpu.state import Slot

if TYPE_CHECKING:
    from e2kemu.cpu.exec import Cpu

_GROUPS = ("control", "window", "stack", "chain", "loop", "fp", "unit", "trap", "time")
"""Groups of state registers that are shown; segment, debug and guest registers are asked for by name."""


def _double(value: int, tag: int) -> str:
    return f"{value:016x}" + (f"/{tag:x}" if tag else "  ")


def format_registers(cpu: Cpu) -> str:
    """All registers a person wants to see, a few in a line; ``/5`` behind a value is its tag if not numeric."""
    state = cpu.state
    lines = [f"pc={state.pc:016x}  {cpu.model.name}"]
    names = [(f"r{i}", state.X[Slot.BASE] + i) for i in range(min(state.window_size, 224))]
    names += [(f"g{i}", i) for i in range(GLOBALS)]
    cells = [f"{name:>4}={_double(state.R[index], state.T[index])}" for name, index in names]
    lines += [" ".join(cells[i : i + 4]).rstrip() for i in range(0, len(cells), 4)]
    marks = "".join(".1dD"[state.P[i] & 3] for i in range(PREDICATES))
    lines.append(f"pred[0..31]={marks}  (. false, 1 true, d diagnostic)")
    for group in _GROUPS:
        cells = [f"{register.name}={state.get(register.name):016x}" for register in STATE_REGISTERS
                 if register.group == group and register.since <= cpu.model.version <= register.until]
        lines += [" ".join(cells[i : i + 4]) for i in range(0, len(cells), 4)]
    return "\n".join(lines) + "\n"
