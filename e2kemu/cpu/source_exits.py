"""The machine that writes Python: register windows, transfers, and the ways out of the function."""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.cpu.config import Config
from e2kemu.cpu.source_evaluation import SourceEvaluation
from e2kemu.cpu.source_registers import local_of
from e2kemu.cpu.source_values import Src
from e2kemu.cpu.state import BGR, BR, Slot
from e2kemu.cpu.wide_semantics import Ended
from e2kemu.cpu.windows import M48

Late = list[Callable[[], None]]

_TAG = 7 << 54
_LABEL, _RETURN = 3 << 54, 2 << 54
_ZEROED = "#zeroed"
"""Stands for the locals of registers that just entered the window, until it is known which there are."""


class SourceExits(SourceEvaluation):
    """A way out with late actions, or that changes the window, runs behind the write-back of the registers."""

    # -- windows and transfers -----------------------------------------------------------------------

    def window_room(self, size: int) -> None:
        self.emit(f"if b + {size} - X[{int(Slot.BOTTOM)}] > 224: core.window_room({size})")

    def set_window(self, old: int, new: int, fx: int, dbl: int) -> None:
        self.emit(f"core.set_window({old}, {new}, {fx}, {dbl})")
        for register in range(old, new):
            self.empty[register], self.numeric[register] = 15, 0
        self.emit(f"{_ZEROED} {old} {new}")
        self.grew |= new != old
        if new < old:
            # what is above comes back empty only by another setwd, which says so
            for register in range(new, old):
                self.numeric.pop(register, None)

    def set_rotation(self, br: int, bgr: int) -> None:
        self.emit(f"S[{BR}] = {br}; S[{BGR}] = {bgr}")

    def wait_for_trap(self) -> None:
        self.emit("raise Waiting")

    def wait_for_interrupt(self) -> None:
        self.emit("core.wait_for_interrupt()")

    def flush_windows(self) -> None:
        self.emit("core.flush_windows()")

    def flush_chain(self) -> None:
        self.emit("core.flush_chain()")

    def check_transfer(self, ctpr: Src, is_call: bool, wbs: int, cfg: Config) -> None:
        call = f"core.check_transfer({ctpr}, {is_call}, {wbs}, {cfg.size}); b = X[{int(Slot.BASE)}]"
        if is_call:
            self.emit(call)
        else:
            self.emit(f"if {ctpr} & {_TAG:#x} != {_LABEL:#x}: {call}")

    def prepare_return(self) -> None:
        self.emit(f"core.prepare_return(); b = X[{int(Slot.BASE)}]")

    # -- leaving -------------------------------------------------------------------------------------

    def _config_name(self, cfg: Config | None) -> str:
        return "None" if cfg is None else f"K{self.core_config(cfg)}"

    def core_config(self, cfg: Config) -> int:
        """The number under which the function finds a configuration in its names."""
        if cfg not in self.configs:
            self.configs.append(cfg)
        return self.configs.index(cfg)

    def _tail(self, late: Late, lines: list[str]) -> None:
        """Leave by code that runs with the state written back: ``late`` actions, then ``lines``."""
        main, depth = self.lines, self.depth
        tail: list[str] = []
        self.lines, self.depth = tail, 3
        self.emit(f"X[{int(Slot.PC)}] = {self.wide.address:#x}")
        for action in late:
            action()
        for line in lines:
            self.emit(line)
        self.lines, self.depth = main, depth
        self.tails.append(tail)
        self.emit(f"n -= {self.count}; act = {len(self.tails)}; break")

    def _loops_to(self, cfg: Config) -> bool:
        return self.closed and cfg == self.entry_cfg and not self.grew

    def exit_to(self, pc: Src, cfg: Config, late: Late) -> None:
        if late:
            self._tail(late, [f"pc, cfg = {pc}, None"])
        else:
            self.emit(f"n -= {self.count}")
            if pc == self.start and self._loops_to(cfg):
                self.loops = True
                stored = " and not u" if self._stored else ""
                self.emit(f"if n >= LENGTH and not Q[0] and not Q[1]{stored}: continue")
            self.emit(f"pc = {pc}; cfg = {self._config_name(cfg)}; break")
        if not self._conditional:
            raise Ended

    def exit_ct(self, ctpr: Src, cfg: Config, late: Late) -> None:
        jump = f"pc = {ctpr} & {M48:#x}"
        by_return = f"{ctpr} & {_TAG:#x} == {_RETURN:#x}"
        if late:
            self._tail(late, ["cfg = None", f"if {by_return}: pc = core.do_return()", f"else: {jump}"])
        else:
            if self._loops_to(cfg):
                self.loops = True
                stored = " and not u" if self._stored else ""
                self.emit(f"if {ctpr} & {_TAG | M48:#x} == {_LABEL | self.start:#x}:")
                self.emit(f" n -= {self.count}")
                self.emit(f" if n >= LENGTH and not Q[0] and not Q[1]{stored}: continue")
                self.emit(f" pc = {self.start}; cfg = {self._config_name(cfg)}; break")
            self.emit(f"if not {by_return}:")
            self.emit(f" n -= {self.count}; {jump}; cfg = {self._config_name(cfg)}; break")
            self._tail([], ["pc = core.do_return(); cfg = None"])
        if not self._conditional:
            raise Ended

    def exit_call(self, ctpr: Src, wbs: int, return_ip: int, late: Late) -> None:
        self._tail(late, [f"pc = core.do_call({ctpr}, {wbs}, {return_ip}); cfg = None"])
        if not self._conditional:
            raise Ended

    def exit_done(self, late: Late) -> None:
        self._tail(late, ["pc = core.do_done(); cfg = None"])
        if not self._conditional:
            raise Ended

    def go_on(self, pc: int, cfg: Config, late: Late) -> None:
        """The next wide instruction in line: in this block, unless something ends it here."""
        if late:
            self._tail(late, [f"pc, cfg = {pc}, None"])
            raise Ended
        if self._stored:
            self.emit(f"if u: n -= {self.count}; pc = {pc}; cfg = {self._config_name(cfg)}; break")
        # behind the end of a loop starts another block: this one shall load and check only what the loop uses
        if self.count >= self.limit or self.loops:
            self.finish_at(pc, cfg)
            raise Ended
        self.pc, self.cfg = pc, cfg

    def finish_at(self, pc: int, cfg: Config) -> None:
        """Leave for ``pc``."""
        self.emit(f"n -= {self.count}; pc = {pc}; cfg = {self._config_name(cfg)}; break")

    def _final(self, line: str) -> str:
        """A line with what only the end of the translation tells."""
        text = line.lstrip()
        if text.startswith(_ZEROED):
            old, new = map(int, text.split()[1:])
            names = [local_of(register) for register in sorted(self.use.loaded) if old <= register < new]
            return line[: len(line) - len(text)] + (" = ".join([*names, "0"]) if names else "pass")
        return line.replace("LENGTH", str(self.count))
