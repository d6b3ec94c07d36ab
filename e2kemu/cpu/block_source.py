"""From wide instructions to the Python source of one function: the machine that translates.

``SourceMachine`` is handed to ``wide_semantics.perform`` one wide instruction after the other. Registers live in
locals (``r5`` window, ``g5`` global, ``p0`` predicates, ``s131`` state registers), loaded at entry and
written back on every way out. The function is

    block(n) -> (pc, config, left)      config None: the caller finds out

``n`` is how many wide instructions it may execute, at least ``length``. It raises ``Left`` when the wide
instruction at ``pc`` did not complete: by a trap, or (clean blocks) because a tag came up.

A *clean* block leaves tags out. At entry it looks at the tags of what it reads before writing and
returns None when one is set; a tag that would come up later makes it leave before that wide instruction. The
caller then executes one wide instruction with a block that keeps tags.
"""

from __future__ import annotations

from e2kemu.cpu.source_exits import SourceExits
from e2kemu.cpu.source_memory import SourceMemory
from e2kemu.cpu.source_registers import SourceRegisters, index_of, local_of
from e2kemu.cpu.state import Slot


class Left(Exception):
    """A block left at wide instruction ``pc``, which did nothing; ``left`` of its budget remains.

    ``cause`` is the Trap or another exception, or None when a clean block met a tag.
    """

    def __init__(self, pc: int, left: int, cause: BaseException | None) -> None:
        super().__init__(pc, left, cause)
        self.pc, self.left, self.cause = pc, left, cause


class Bail(Exception):
    """A clean block has met a tag."""


class SourceMachine(SourceRegisters, SourceMemory, SourceExits):
    """Translates one block that starts at ``start`` in configuration ``cfg``.

    ``closed``: a transfer to the start loops inside the function. ``assumed``: registers (and their halves) that
    must be numeric at entry although the block writes them first; a loop saves the clearing of their tags so.
    """

    def source(self) -> tuple[str, list[tuple[int, int, int]]]:
        """The whole function, and (first line, address, index) of every wide instruction in it."""
        use = self.use
        head = ["def block(n):"]
        if self.clean and use.required_preds:
            head += [f" if ({' | '.join(f'P[{i}]' for i in sorted(use.required_preds))}) > 1: return None"]
        head.append(f" b = X[{int(Slot.BASE)}]")
        if self.clean and use.required:
            whole = [f"T[{index_of(r)}]" + (f" & {halves}" if halves != 15 else "")
                     for r, halves in sorted(use.required.items())]
            head.append(f" if {' | '.join(whole)}: return None")
        head += [f" {local_of(r)} = R[{index_of(r)}]" for r in sorted(use.loaded)]
        head += [f" p{i} = P[{i}]" for i in sorted(use.preds)]
        head += [f" s{i} = S[{i}]" for i in sorted(use.sregs)]
        head += [" err = None", " act = u = 0", " try:", "  while True:"]
        offset = len(head) + 1
        body = [self._final(line) for line in self.lines]
        foot = [" except Exception as e: err = e"]
        foot += [f" R[{index_of(r)}] = {local_of(r)}" for r in sorted(use.dirty)]
        foot += [f" P[{i}] = p{i}" for i in sorted(use.dirty_preds)]
        foot += [f" S[{i}] = s{i}" for i in sorted(use.dirty_sregs)]
        foot.append(" if err is not None: raise left(err, n, STARTS)")
        if self.tails:
            foot.append(" if act:")
            for number, tail in enumerate(self.tails, 1):
                foot.append(f"  if act == {number}:")
                foot += tail
        foot.append(" return pc, cfg, n")
        places = [(line + offset, address, index) for index, (line, address) in enumerate(self.starts)]
        return "\n".join(head + body + foot) + "\n", places
