"""The reference tier: blocks of wide instructions translated to Python functions and kept by address.

A block is decoded and compiled once, for the address and the configuration it was met in, and dropped when the
code it was made from changes: by a guest store (pages with code are off the fast store path), by a
device, the loader or migration (``invalidate``). Kinds of blocks:

    closed   up to 48 wide instructions, loops to its own start inside; the usual kind
    open     the same without the loop: when something watches block by block
    single   one wide instruction: single steps, breakpoints, the last few of a limit
    tagged   one wide instruction with tags: after a clean block has met one

While the MMU translates, a block is kept for its address *and* the physical page it was found in (``key``), and stays
within that page: processes with other code at the same address do not disturb one another.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2kemu import trace
from e2kemu.cpu import atomic
from e2kemu.cpu.block_source import Bail, Left, SourceMachine
from e2kemu.cpu.config import Config
from e2kemu.cpu.core import Core
from e2kemu.cpu.decode import DecodeError, check, decode
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.fp.machine import trapped
from e2kemu.cpu.guest_memory import LONGEST_WIDE, PAGE, PAGE_MASK
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.interrupts import Waiting
from e2kemu.cpu.isa.traps import EXC_ILLEGAL_OPCODE
from e2kemu.cpu.values import divide_signed, remainder_signed, reverse_bits
from e2kemu.cpu.wide_semantics import perform
from e2kemu.cpu.windows import Trap

BLOCKS_KEPT = 20_000
"""When more blocks than this are kept all are dropped: a bound of memory, met by self-changing programs."""

Run = Callable[[int], "tuple[int, Table | None, int] | None"]


@dataclass(slots=True)
class Block:
    """A translated block. ``pages`` are the physical ones its bytes lie in."""

    key: int
    run: Run
    length: int
    pages: tuple[int, ...]
    wides: tuple[int, ...]


class Table:
    """Blocks of one configuration and kind, by ``Reference.key``."""

    __slots__ = ("cfg", "closed", "opened", "single", "tagged")

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.closed: dict[int, Block] = {}
        self.opened: dict[int, Block] = {}
        self.single: dict[int, Block] = {}
        self.tagged: dict[int, Block] = {}

    def kinds(self) -> tuple[dict[int, Block], ...]:
        return self.closed, self.opened, self.single, self.tagged


def _left(error: BaseException, n: int, starts: list[tuple[int, int, int]]) -> Left:
    """Which wide instruction of a block an exception came from, by the line it was raised in."""
    traceback = error.__traceback__
    line = traceback.tb_lineno if traceback else 0
    _, pc, index = starts[max(bisect_right(starts, (line, 1 << 70, 0)) - 1, 0)]
    error.__traceback__ = None
    return Left(pc, n - index, None if isinstance(error, Bail) else error)


class Reference:
    """Translates and keeps the blocks of one CPU."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.tables: dict[Config, Table] = {}
        self.by_page: dict[int, set[tuple[Table, int]]] = {}
        self.count = 0
        core.drop_code = self.invalidate
        self._bail = Bail()
        self._names: dict[str, Any] = {}
        self.bind()

    def bind(self) -> None:
        """Collect the names that translated code uses; again after the memory map changed."""
        core, state = self.core, self.core.state
        self._names = {
            "R": state.R, "E": state.E, "S": state.S, "X": state.X, "T": state.T, "P": state.P, "A": state.A,
            "Q": core.exit_flag,
            "M1": core.ram[1], "M2": core.ram[2], "M4": core.ram[4], "M8": core.ram[8], "D": core.dirty,
            "C": core.code_map, "V": core.present, "core": core, "ld": core.ld, "lds": core.ld_speculative,
            "st": core.st, "Trap": Trap,
            "Waiting": Waiting,
            "bail": self._bail, "left": _left, "divide_signed": divide_signed, "remainder_signed": remainder_signed,
            "reverse_bits": reverse_bits, "fp_trapped": trapped, "fence": atomic.fence,
        }

    def table(self, cfg: Config) -> Table:
        """The blocks of a configuration."""
        found = self.tables.get(cfg)
        if found is None:
            found = self.tables[cfg] = Table(cfg)
        return found

    # -- dropping ------------------------------------------------------------------------------------

    def invalidate(self, address: int, size: int) -> None:
        """Bytes from a physical address on changed: drop the blocks made from their pages."""
        if not self.by_page or size <= 0:
            return
        first, last = address >> PAGE, address + size - 1 >> PAGE
        if last - first < len(self.by_page):
            pages = [page for page in range(first, last + 1) if page in self.by_page]
        else:
            pages = [page for page in self.by_page if first <= page <= last]
        for page in pages:
            for table, key in self.by_page.pop(page):
                for kind in table.kinds():
                    if kind.pop(key, None) is not None:
                        self.count -= 1
            self.core.unmark_code(page)

    def clear(self) -> None:
        """Drop every block."""
        for page in list(self.by_page):
            self.core.unmark_code(page)
        self.by_page.clear()
        for table in self.tables.values():
            for kind in table.kinds():
                kind.clear()
        # tables stay: blocks on their way out still return them
        self.count = 0

    # -- translating ---------------------------------------------------------------------------------

    def fetch(self, pc: int) -> Wide:
        """Decode the wide instruction at ``pc``. Raises Trap when there is none or it is illegal."""
        return self.decoded(self.core.code_at(pc), pc)

    def decoded(self, data: memoryview | bytes, pc: int) -> Wide:
        """The wide instruction that ``data`` begins with. Raises Trap when it is illegal."""
        try:
            wide = decode(data, self.core.state.model.version, pc)
        except DecodeError as error:
            raise Trap(EXC_ILLEGAL_OPCODE, str(error)) from None
        reason = check(wide)
        if reason is not None:
            raise Trap(EXC_ILLEGAL_OPCODE, reason)
        return wide

    def key(self, pc: int) -> int:
        """What a block at ``pc`` is kept by: the address, and where it is while the MMU translates. Raises Trap."""
        core = self.core
        if not core.paging:
            return pc
        page = pc >> PAGE
        key = pc | core.frame(page) << 64
        if pc & PAGE_MASK > PAGE_MASK + 1 - LONGEST_WIDE:
            key |= core.frame_behind(page) + 1 << 128      # it may go on there
        return key

    def closed(self, table: Table, pc: int) -> Block:
        """The usual block at ``pc``. Raises Trap when not even its first wide instruction decodes."""
        key = self.key(pc)
        return table.closed.get(key) or self._keep(
            table, table.closed, self._translate(table, key, pc, clean=True, closed=True))

    def opened(self, table: Table, pc: int) -> Block:
        """As ``closed``, without loops inside."""
        key = self.key(pc)
        return table.opened.get(key) or self._keep(
            table, table.opened, self._translate(table, key, pc, clean=True, closed=False))

    def single(self, table: Table, pc: int) -> Block:
        """One wide instruction."""
        key = self.key(pc)
        return table.single.get(key) or self._keep(
            table, table.single, self._translate(table, key, pc, clean=True, closed=False, limit=1))

    def tagged(self, table: Table, pc: int) -> Block:
        """One wide instruction, with tags."""
        key = self.key(pc)
        return table.tagged.get(key) or self._keep(
            table, table.tagged, self._translate(table, key, pc, clean=False, closed=False, limit=1))

    def _keep(self, table: Table, kind: dict[int, Block], block: Block) -> Block:
        if self.count >= BLOCKS_KEPT:
            self.clear()
        kind[block.key] = block
        self.count += 1
        for page in block.pages:
            self.by_page.setdefault(page, set()).add((table, block.key))
            self.core.mark_code(page)
        return block

    def _translate(self, table: Table, key: int, pc: int, *, clean: bool, closed: bool, limit: int = 48) -> Block:
        wides: list[Wide] = []
        machine = self._make(table, pc, wides, clean=clean, closed=closed, limit=limit)
        if machine.loops and machine.first_written:
            # a loop: ask for numeric registers at entry rather than clear their tags in every turn
            assumed = dict(machine.first_written)
            again = self._make(table, pc, wides, clean=clean, closed=closed, limit=limit, assumed=assumed)
            if again.loops and not again.grew:
                machine = again
        text, starts = machine.source()
        names = dict(self._names)
        names["STARTS"] = starts
        names.update(machine.functions)
        names.update((f"K{number}", self.table(cfg)) for number, cfg in enumerate(machine.configs))
        exec(compile(text, f"<e2k {pc:#x}>", "exec"), names)
        if trace.mask & (trace.Log.IN_ASM | trace.Log.OP):
            self._log(wides[: machine.count], text)
        used = wides[: machine.count]
        pages = {self.core.frame(page) for wide in used
                 for page in range(wide.address >> PAGE, (wide.address + wide.size - 1 >> PAGE) + 1)}
        return Block(key, names["block"], machine.count, tuple(pages), tuple(wide.address for wide in used))

    def _make(self, table: Table, start: int, wides: list[Wide], *, clean: bool, closed: bool, limit: int,
              assumed: dict[int, int] | None = None) -> SourceMachine:
        machine = SourceMachine(self.core, start, table.cfg, clean=clean, closed=closed, limit=limit, assumed=assumed)
        pc, cfg, index = start, table.cfg, 0
        first, last = 0, 1 << 64
        if self.core.paging:
            first = start & ~PAGE_MASK
            last = first + PAGE_MASK + 1 - LONGEST_WIDE     # behind it a wide instruction may go on in another page
        while True:
            if index and not first <= pc <= last:
                machine.finish_at(pc, cfg)
                return machine
            if index == len(wides):
                try:
                    wides.append(self.fetch(pc))
                except Trap:
                    if not index:
                        raise
                    machine.finish_at(pc, cfg)
                    return machine
            machine.begin(wides[index])
            machine.cfg = None
            perform(machine, wides[index], cfg)
            index += 1
            if machine.cfg is None:
                return machine
            pc, cfg = machine.pc, machine.cfg

    def _log(self, wides: list[Wide], text: str) -> None:
        if trace.mask & trace.Log.IN_ASM:
            lines = ["----------------", f"IN: {wides[0].address:#x}"]
            for wide in wides:
                lines += [f"{wide.address:#018x}:  {line}" for line in disassemble(wide)]
            trace.log("\n".join(lines))
        if trace.mask & trace.Log.OP:
            trace.log(f"OP:\n{text}")
