"""Registers as the human monitor's expressions see them: ``$name`` or ``$%name`` of the CPU selected."""

from __future__ import annotations

from e2kemu.errors import E2kError
from e2kemu.monitor.dispatch import Context


def lookup(ctx: Context, name: str) -> int | None:
    """The value of a register of the CPU selected; None when there is no such register."""
    try:
        return int(ctx.vm.read_reg(name, ctx.monitor.cpu))
    except E2kError:
        return None
