"""One region of guest code as one LLVM function: the machine that translates for LLVM.

``RegionMachine`` is handed to ``wide_semantics.perform`` one wide instruction after the other, as the reference
tier's ``SourceMachine`` is. A region is what can be reached from its start by branches known now, loops
included. Its *nodes* are (address, configuration) pairs where paths meet; each is a label of the function

    i64 region(ptr state, ptr context)      -> Status

Registers are loaded at entry and written back in the one block through which every way out goes. Generated code is
*clean*: it runs on numeric registers only. What it knows to be numeric is a fact of the path (``paths``); what
it does not know it looks up in the tags, and where a tag is set, or comes up, the wide instruction is left to the
reference tier (``Status.STEP``) before it did anything. So are traps, and whatever this machine has no method for.

A node is translated under the facts of the path that met it first; later paths have to bring the same, and
look up what they cannot show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from e2kemu.cpu.config import Config
from e2kemu.cpu.fp.machine import PFPFR
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.native.floating import MASKED, ROUNDING, STICKY, Floating
from e2kemu.cpu.native.layout import READS, TLB_SET, WRITES, Status, Word, config_key
from e2kemu.cpu.native.memory import ZEROED, Memory
from e2kemu.cpu.native.paths import ACT_CALL, ACT_NONE, ACT_RETURN, UNLIKELY, Facts, Node, Unsupported
from e2kemu.cpu.native.values import Ir, signed_text
from e2kemu.cpu.state import UPSR, Slot
from e2kemu.cpu.wide_control import TAG_LABEL, TAG_RETURN
from e2kemu.cpu.wide_semantics import Ended, perform
from e2kemu.cpu.windows import M48

Late = list[Callable[[], None]]

MAX_WIDE = 160
"""Most wide instructions of a region."""

_TOTAL = "#total"
"""Stands for the number of wide instructions of the region."""


class RegionMachine(Memory, Floating):
    """Translates one region."""

    # -- the walk ----------------------------------------------------------------------------------------

    def translate(self, start: int, cfg: Config, likely: dict[int, int], fetch: Callable[[int], Wide | None]) -> None:
        """Translate everything reachable from ``start``. ``fetch`` gives the wide instruction at an address or None."""
        self.user_tlbs = 0 if cfg.pm else TLB_SET       # a path that changes PSR ends the region
        facts = Facts(likely=dict(likely), numeric=dict(self.assumed.numeric), preds=set(self.assumed.preds))
        self._new_node(start, cfg, facts)
        while self.pending:
            node = self.pending.pop()
            node.started = True
            self.facts = node.facts.copy()
            self._since = 0
            self._label(node.label)
            self._path(node.pc, node.cfg, fetch)

    def _path(self, pc: int, cfg: Config, fetch: Callable[[int], Wide | None]) -> None:
        """Translate from a node on until the path ends or runs into another node."""
        first = True
        while True:
            if not first and (pc in self.leaders or (pc, cfg) in self.nodes):
                self._edge(pc, cfg)
                break
            wide = fetch(pc) if self.total < MAX_WIDE else None
            if wide is None:
                self._leave(pc, cfg, Status.STEP if first else Status.NEXT)
                break
            first = False
            if not self._wide(wide, cfg):
                break
            assert self.cfg is not None
            pc, cfg = self.pc, self.cfg
        self._finish_lines()

    def _wide(self, wide: Wide, cfg: Config) -> bool:
        """Translate one wide instruction; True when the path goes on with the next one."""
        self._finish_lines()
        self.total += 1
        self.addresses.append((wide.address, wide.size))
        self.wide, self.then, self.cfg = wide, cfg, None
        self._loaded.clear()
        self._stored = self.speculative = self._touched = False
        self._step_label = self._fail_label = ""
        outlined, block = len(self.outlined), self.block
        self.before = self.facts.copy()
        try:
            perform(self, wide, cfg)
        except Ended:
            pass
        except Unsupported:
            self.lines.clear()
            self._prefix.clear()
            del self.outlined[outlined:]
            self.block, self.facts, self._scopes = block, self.before, []
            self._leave(wide.address, cfg, Status.STEP)
            return False
        if self.cfg is None:
            return False
        self._since += 1
        return True

    def _finish_lines(self) -> None:
        self.blocks += self._prefix
        self.blocks += self.lines
        self._prefix, self.lines = [], []

    # -- leaving -----------------------------------------------------------------------------------------

    def _out(self, lines: list[str], pc: Ir, status: Ir, done: int, act: Ir = ACT_NONE, a: Ir = 0) -> None:
        """Lines that leave with ``done`` wide instructions of this path executed."""
        lines.append(f"store i64 {pc}, ptr %pc")
        if done:
            left, less = self.fresh(), self.fresh()
            lines += [f"{left} = load i64, ptr %left", f"{less} = sub i64 {left}, {done}",
                      f"store i64 {less}, ptr %left"]
        lines += [f"store i64 {status}, ptr %status", f"store i64 {act}, ptr %act", f"store i64 {a}, ptr %arg",
                  "br label %leave"]

    def _leave(self, pc: Ir, cfg: Config, status: Status, done: int = 0) -> None:
        """Go out for ``pc`` in configuration ``cfg``."""
        self.emit(f"store i64 {config_key(cfg)}, ptr %key")
        self._out(self.lines, pc, int(status), self._since + done)

    def _look_if_stored(self, pc: int, cfg: Config) -> None:
        """After a store that asked for it the region is left."""
        if not self._stored:
            return
        after = self.name("load i64, ptr %u")
        i1 = self.name(f"icmp ne i64 {after}, 0", 1)
        out, going = self._new_label("out"), self._new_label("on")
        self.emit(f"br i1 {i1}, label %{out}, label %{going}{UNLIKELY}")
        self._label(out)
        self._leave(pc, cfg, Status.EXIT, 1)
        self._label(going)

    def _new_node(self, pc: int, cfg: Config, facts: Facts) -> Node:
        node = Node(f"n{len(self.nodes)}", pc, cfg, facts)
        self.nodes[pc, cfg] = node
        self.pending.append(node)
        return node

    def _edge(self, pc: int, cfg: Config, done: int = 0) -> None:
        """Go on at another node, or leave when there is no room for it."""
        node = self.nodes.get((pc, cfg))
        if node is None:
            if pc not in self.leaders or self.total >= MAX_WIDE:
                self._leave(pc, cfg, Status.NEXT, done)
                return
            node = self._new_node(pc, cfg, self.facts.at_node())
        for register, halves in node.facts.numeric.items():
            missing = halves & ~self.facts.numeric.get(register, 0)
            if missing:
                self.unknown.numeric[register] = self.unknown.numeric.get(register, 0) | missing
                self._check_or_leave(self._tag_test(register, missing), pc, cfg, done)
        for index in sorted(node.facts.preds - self.facts.preds):
            self.unknown.preds.add(index)
            self.used_preds.add(index)
            value = self.name(f"load i64, ptr %p{index}")
            self._check_or_leave(self.name(f"icmp ugt i64 {value}, 1", 1), pc, cfg, done)
        count = self._since + done
        left = self.name("load i64, ptr %left")
        less = self.name(f"sub i64 {left}, {count}") if count else left
        if count:
            self.emit(f"store i64 {less}, ptr %left")
        if node.started:
            # a way back: here the region can be stopped
            self.loops = True
            flag = self.name("load volatile i64, ptr %exit")
            stop = self.name(f"icmp ne i64 {flag}, 0", 1)
            few = self.name(f"icmp slt i64 {less}, {_TOTAL}", 1)
            out = self._new_label("out")
            self.emit(f"br i1 {self.name(f'or i1 {stop}, {few}', 1)}, label %{out}, label %{node.label}{UNLIKELY}")
            self._label(out)
            self.emit(f"store i64 {config_key(cfg)}, ptr %key")
            self._out(self.lines, pc, int(Status.NEXT), 0)
        else:
            self.emit(f"br label %{node.label}")

    def _tag_test(self, register: int, halves: int) -> str:
        place = self.name(self._part("T", register, 1))
        bad = self.name(f"and i8 {self.name(f'load i8, ptr {place}')}, {halves}")
        return self.name(f"icmp ne i8 {bad}, 0", 1)

    def _check_or_leave(self, bad: str, pc: int, cfg: Config, done: int) -> None:
        out, going = self._new_label("out"), self._new_label("on")
        self.emit(f"br i1 {bad}, label %{out}, label %{going}{UNLIKELY}")
        self._label(out)
        self._leave(pc, cfg, Status.NEXT, done)
        self._label(going)

    def go_on(self, pc: int, cfg: Config, late: Late) -> None:
        """The next wide instruction in line."""
        if late:
            raise Unsupported("late")
        self._look_if_stored(pc, cfg)
        if self._scopes:
            self._edge(pc, cfg, 1)
            raise Ended
        self.pc, self.cfg = pc, cfg

    def exit_to(self, pc: Ir, cfg: Config, late: Late) -> NoReturn:
        if late or not isinstance(pc, int):
            raise Unsupported("late")
        self._look_if_stored(pc, cfg)
        self._edge(pc, cfg, 1)
        raise Ended

    def exit_ct(self, ctpr: Ir, cfg: Config, late: Late) -> NoReturn:
        if late:
            raise Unsupported("late")
        stub = self.wide.stub
        assert stub is not None
        number = 0x15 + stub.ctop - 1
        likely = ctpr if isinstance(ctpr, int) else self.facts.likely.get(number)
        if likely is not None and likely >> 54 & 7 == TAG_LABEL and likely & M48 in self.leaders:
            target = likely & M48

            def taken() -> None:
                self._look_if_stored(target, cfg)
                self._edge(target, cfg, 1)
                raise Ended

            same = self.eq(self.and_(ctpr, M48 | 7 << 54), likely & (M48 | 7 << 54))
            self.if_(same, taken)
        tag = self.and_(self.lshr(ctpr, 54), 7)
        pc = self.and_(ctpr, M48)
        self.emit(f"store i64 {config_key(cfg)}, ptr %key")
        act = self.select(self.eq(tag, TAG_RETURN), ACT_RETURN, ACT_NONE)
        status = self._status_after_store()
        self._out(self.lines, pc, status, self._since + 1, act)
        raise Ended

    def _status_after_store(self) -> Ir:
        if not self._stored:
            return int(Status.NEXT)
        after = self.name("load i64, ptr %u")
        return self.select(self.boolean(f"icmp ne i64 {after}, 0"), int(Status.EXIT), int(Status.NEXT))

    def exit_call(self, ctpr: Ir, wbs: int, return_ip: int, late: Late) -> NoReturn:
        if late:
            raise Unsupported("late")
        inside = self.then.size - 2 * wbs
        after = self.then._replace(size=inside, psize=inside, dbl=0)
        self.emit(f"store i64 {config_key(after)}, ptr %key")
        status = self._status_after_store()
        target = self.and_(ctpr, M48)
        self._out(self.lines, target, status, self._since + 1, ACT_CALL, return_ip << 8 | wbs)
        raise Ended

    def exit_done(self, late: Late) -> NoReturn:
        raise Unsupported("done")

    # -- the function --------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The module: one function ``name``."""
        use_sregs, use_preds = sorted(self.used_sregs), sorted(self.used_preds | self.assumed.preds)
        use = sorted(self.used)
        head = [f"define i64 @{name}(ptr noalias %s, ptr noalias %c) nounwind {{", "entry:"]
        head += [f"%{local} = alloca i64" for local in ("left", "pc", "status", "act", "arg", "key", "why", "u")]
        head += [f"{self._local(register)} = alloca i64" for register in use]
        head += [f"%p{index} = alloca i64" for index in use_preds]
        head += [f"%s{number} = alloca i64" for number in use_sregs]
        self.lines = head
        word = {item: self.name(f"getelementptr i64, ptr %c, i64 {int(item)}") for item in (Word.LEFT, Word.KEY)}
        flag = self.name(f"load i64, ptr {self.name(f'getelementptr i64, ptr %c, i64 {int(Word.EXIT)}')}")
        head += [f"%exit = inttoptr i64 {flag} to ptr",
                 f"%reads = getelementptr i8, ptr %c, i64 {READS + self.user_tlbs}",
                 f"%writes = getelementptr i8, ptr %c, i64 {WRITES + self.user_tlbs}"]
        base = self.name(self._state("X", Slot.BASE))
        head.append(f"%b = load i64, ptr {base}")
        for part, shift in (("R", 3), ("E", 3), ("T", 0)):
            moved = self.name(f"shl i64 %b, {shift}")
            offset = self.name(f"add i64 {moved}, {self.offsets[part]}")
            head.append(f"%{part}w = getelementptr i8, ptr %s, i64 {offset}")
        left = self.name(f"load i64, ptr {word[Word.LEFT]}")
        few = self.name(f"icmp slt i64 {left}, {_TOTAL}", 1)
        head += [f"br i1 {few}, label %limit, label %look", "limit:", f"ret i64 {int(Status.LIMIT)}", "look:"]
        self._guard(head)
        head += [f"store i64 {left}, ptr %left", "store i64 0, ptr %key"]
        for register in use:
            place = self.name(self._part("R", register, 8))
            head.append(f"store i64 {self.name(f'load i64, ptr {place}')}, ptr {self._local(register)}")
        for index in use_preds:
            place = self.name(f"getelementptr i8, ptr %s, i64 {self.offsets['P'] + index}")
            wide = self.name(f"zext i8 {self.name(f'load i8, ptr {place}')} to i64")
            head.append(f"store i64 {wide}, ptr %p{index}")
        for number in use_sregs:
            place = self.name(self._state("S", number))
            head.append(f"store i64 {self.name(f'load i64, ptr {place}')}, ptr %s{number}")
        head.append("br label %n0")
        foot = self._foot(word)
        lines = []
        for line in head + self.blocks + self.outlined + foot:
            if line.startswith(ZEROED):
                old, new = map(int, line.split()[1:])
                lines += [f"store i64 0, ptr {self._local(register)}" for register in use if old <= register < new]
            else:
                lines.append(line.replace(_TOTAL, str(self.total)) if _TOTAL in line else line)
        declared = [*sorted(self.intrinsics),
                    "declare {i64, i64} @e2k_load(ptr, i64, i64)", "declare i64 @e2k_store(ptr, i64, i64, i64)",
                    "declare {i64, i64} @e2k_exchange(ptr, i64, i64, i64, i64)",
                    "declare void @e2k_enter(ptr, i64)", "declare void @e2k_return(ptr, ptr)"]
        weights = ['!0 = !{!"branch_weights", i32 2000, i32 1}', '!1 = !{!"branch_weights", i32 1, i32 2000}']
        return "\n".join(declared + lines + weights) + "\n"

    def _guard(self, head: list[str]) -> None:
        """At entry: is numeric what is assumed to be?"""
        bad = ""
        for register, halves in sorted(self.assumed.numeric.items()):
            place = self.name(self._part("T", register, 1))
            tag = self.name(f"and i8 {self.name(f'load i8, ptr {place}')}, {halves}")
            bad = self.name(f"or i8 {bad}, {tag}") if bad else tag
        for index in sorted(self.assumed.preds):
            place = self.name(f"getelementptr i8, ptr %s, i64 {self.offsets['P'] + index}")
            raw = self.name(f"and i8 {self.name(f'load i8, ptr {place}')}, 2")
            bad = self.name(f"or i8 {bad}, {raw}") if bad else raw
        tests = [self.name(f"icmp ne i8 {bad}, 0", 1)] if bad else []
        if self.uses_floating:
            # in a region flags are set in PFPFR, nothing else changes there, and UPSR not at all
            if self.floating_allowed:
                mask = MASKED | ROUNDING | (STICKY if self.floating_sticky else 0)
                pfpfr = self.name(f"load i64, ptr {self.name(self._state('S', PFPFR))}")
                fits = self.name(f"and i64 {pfpfr}, {mask}")
                tests.append(self.name(f"icmp ne i64 {fits}, {mask & ~ROUNDING}", 1))
            upsr = self.name(f"load i64, ptr {self.name(self._state('S', UPSR))}")
            tests.append(self.name(f"icmp eq i64 {self.name(f'and i64 {upsr}, 1')}, 0", 1))
        for number, i1 in enumerate(tests):
            head += [f"br i1 {i1}, label %guard, label %fits{number}{UNLIKELY}", f"fits{number}:"]
        if tests:
            # behind the last test, where nothing falls through to it
            self.outlined += ["guard:", f"ret i64 {int(Status.GUARD)}"]

    def _foot(self, word: dict[Word, str]) -> list[str]:
        """The way out: everything back into the state, then what a call or a return does."""
        self.lines = foot = ["leave:"]
        for register in sorted(self.dirty):
            place = self.name(self._part("R", register, 8))
            foot.append(f"store i64 {self.name(f'load i64, ptr {self._local(register)}')}, ptr {place}")
        for first in sorted({index & ~7 for index in self.dirty_preds}):
            # eight at once: a call reads them so, and the host does not like to put single bytes together
            place = self.name(f"getelementptr i8, ptr %s, i64 {self.offsets['P'] + first}")
            changed = [index for index in self.dirty_preds if index & ~7 == first]
            mask = (1 << 64) - 1 & ~sum(0xFF << 8 * (index & 7) for index in changed)
            eight = self.name(f"and i64 {self.name(f'load i64, ptr {place}')}, {signed_text(mask, 64)}")
            for index in changed:
                value = self.name(f"load i64, ptr %p{index}")
                eight = self.name(f"or i64 {eight}, {self.name(f'shl i64 {value}, {8 * (index & 7)}')}")
            foot.append(f"store i64 {eight}, ptr {place}")
        for number in sorted(self.dirty_sregs):
            place = self.name(self._state("S", number))
            foot.append(f"store i64 {self.name(f'load i64, ptr %s{number}')}, ptr {place}")
        place = self.name(self._state("X", Slot.PC))
        foot.append(f"store i64 {self.name('load i64, ptr %pc')}, ptr {place}")
        for item, local in ((Word.LEFT, "left"), (Word.KEY, "key")):
            foot.append(f"store i64 {self.name(f'load i64, ptr %{local}')}, ptr {word[item]}")
        act, arg, status = (self.name(f"load i64, ptr %{local}") for local in ("act", "arg", "status"))
        foot += [f"switch i64 {act}, label %away [ i64 {ACT_CALL}, label %call i64 {ACT_RETURN}, label %return ]",
                 "call:", f"call void @e2k_enter(ptr %s, i64 {arg})", "br label %away",
                 "return:", "call void @e2k_return(ptr %s, ptr %c)", "br label %away",
                 "away:", f"ret i64 {status}", "}"]
        return foot
