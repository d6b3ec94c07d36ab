"""``--stats``: what a program executed. Every wide instruction is counted by its address, which costs speed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.decode import decode

if TYPE_CHECKING:
    from e2kemu.cpu.exec import Cpu
    from e2kemu.linux.kernel import Kernel

NOWHERE = 1
"""A breakpoint that is never met: with one set the CPU shows each wide instruction to its hooks."""


class Statistics:
    """Counts while it exists."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._executed: Counter[int] = Counter()
        self._operations: dict[int, tuple[int, bool]] = {}
        """Address -> (operations, is it a call)."""
        kernel.cpu.breakpoints.add(NOWHERE)
        kernel.cpu.on_block(self._count)

    def _count(self, cpu: Cpu, pc: int) -> None:
        self._executed[pc] += 1
        if pc not in self._operations:
            self._operations[pc] = self._look(cpu, pc)

    def _look(self, cpu: Cpu, pc: int) -> tuple[int, bool]:
        data = self._kernel.process.map.load(pc, 64)
        try:
            wide = decode(data, cpu.model.version, pc)
        except DecodeError:
            return 0, False
        is_call = any(op.name == "call" for op in wide.cs1)
        control = (wide.cs0 is not None) + sum(op.name != "mas" for op in wide.cs1)
        transfer = wide.stub is not None and wide.stub.ctop != 0 and not is_call
        predicates = sum(clp is not None for clp in wide.clps)
        return len(wide.alu) + len(wide.movas) + predicates + control + transfer, is_call

    def text(self) -> str:
        """The lines that are printed at the end."""
        wides = sum(self._executed.values())
        operations = sum(count * self._operations[pc][0] for pc, count in self._executed.items())
        calls = sum(count for pc, count in self._executed.items() if self._operations[pc][1])
        ratio = operations / wides if wides else 0.0
        return (f"wide instructions  {wides}\noperations         {operations} ({ratio:.2f} a wide instruction)\n"
                f"calls              {calls}\nsystem calls       {self._kernel.system_calls}\n"
                f"traps              {self._kernel.traps}")
