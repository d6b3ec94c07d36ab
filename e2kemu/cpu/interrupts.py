"""The interrupt pins of one CPU, and what makes it stand still.

Any thread may set a pin. The CPU's own thread asks ``due`` at the boundary of two wide instructions, whenever
``Core.exit_flag[1]`` has brought it there: a pin was set, or PSR or UPSR changed while one was (``exit_flag[2]`` says
that; native code and ``Core`` look at it when they change these registers, and at nothing else).

    maskable       a level: PSR.ie, and UPSR.ie where PSR.uie leaves it to UPSR       -> exc_interrupt
    non-maskable   a level or a pulse: PSR.nmie, and UPSR.nmie where PSR.unmie does    -> exc_nm_interrupt

Source of the masks: comments of the kernel headers of the e2k port of Linux on PSR and UPSR.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum

from e2kemu.cpu.isa.traps import EXC_INTERRUPT, EXC_NM_INTERRUPT
from e2kemu.cpu.state import PSR, UPSR, CpuState

PSR_PM, PSR_IE, PSR_SGE, PSR_LW, PSR_UIE, PSR_NMIE, PSR_UNMIE = (1 << bit for bit in range(7))
UPSR_IE, UPSR_NMIE = 1 << 5, 1 << 7


class Halt(IntEnum):
    """Whether a CPU executes."""

    RUNS = 0
    STOPPED = 1     # until somebody starts it (``Interrupts.startup``)
    WAITS = 2       # until an interrupt is pending, masked or not (wait int = 1)
    TRAPPED = 3     # until an interrupt is taken (wait trap = 1)


class Waiting(Exception):
    """The wide instruction at hand (wait trap) halts the CPU; it is not executed, but by who is told so."""


def maskable_allowed(psr: int, upsr: int) -> bool:
    """Whether a maskable interrupt is taken."""
    return bool(psr & PSR_IE and (not psr & PSR_UIE or upsr & UPSR_IE))


def non_maskable_allowed(psr: int, upsr: int) -> bool:
    """Whether a non-maskable interrupt is taken."""
    return bool(psr & PSR_NMIE and (not psr & PSR_UNMIE or upsr & UPSR_NMIE))


class Interrupts:
    """The pins of one CPU. Setters may be called by any thread and never block on the CPU."""

    def __init__(self, state: CpuState, exit_flag: memoryview) -> None:
        self._state, self._flag = state, exit_flag
        self._lock = threading.Lock()
        self.level = False
        """The maskable pin."""
        self.nmi_level = False
        self.nmi_pulse = False
        """A pulse that was not taken yet."""
        self.commands: list[int | None] = []
        """init (None) and startup (its vector) that the CPU has not obeyed yet."""
        self.on_change: Callable[[], None] = lambda: None
        """The executor's: called before ``wake``."""
        self.wake: Callable[[], None] = lambda: None
        """The machine's: called, without a lock of ours, when something comes for a CPU that may stand still."""

    # -- for interrupt controllers and the machine: any thread -------------------------------------------

    def set_interrupt(self, level: bool) -> None:
        """The maskable pin is high (``level``) or low."""
        with self._lock:
            self.level = level
            self._tell()
        if level:
            self._wake()

    def set_nmi(self, level: bool) -> None:
        """The non-maskable pin, while it is held."""
        with self._lock:
            self.nmi_level = level
            self._tell()
        if level:
            self._wake()

    def pulse_nmi(self) -> None:
        """One non-maskable interrupt; several before the first is taken are one."""
        with self._lock:
            self.nmi_pulse = True
            self._tell()
        self._wake()

    def init(self) -> None:
        """Back to the state after reset, and stop until ``startup``; a startup not yet obeyed is forgotten."""
        self._command(None)

    def startup(self, vector: int) -> None:
        """Start a stopped CPU: at page ``vector``, or at the reset address when it is 0. Others ignore it."""
        self._command(vector)

    def _command(self, command: int | None) -> None:
        with self._lock:
            if command is None:
                self.commands.clear()
            self.commands.append(command)
            self._tell()
        self._wake()

    def _tell(self) -> None:
        """Make the CPU look. What it looks at is set before the flag that brings it there, so nothing is lost."""
        self._flag[2] = int(self.pending or bool(self.commands))
        if self._flag[2]:
            self._flag[1] = 1

    def _wake(self) -> None:
        self.on_change()
        self.wake()

    # -- for the CPU ----------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """An interrupt waits, masked or not."""
        return self.level or self.nmi_level or self.nmi_pulse

    def due(self) -> int | None:
        """The exception of the interrupt to be taken now, None when there is none or PSR and UPSR hold it back.

        A non-maskable one comes first; the maskable one is taken after it, for its pin stays high.
        """
        psr, upsr = self._state.S[PSR], self._state.S[UPSR]
        if (self.nmi_level or self.nmi_pulse) and non_maskable_allowed(psr, upsr):
            return EXC_NM_INTERRUPT
        if self.level and maskable_allowed(psr, upsr):
            return EXC_INTERRUPT
        return None

    def can_come(self) -> bool:
        """Whether PSR and UPSR let any interrupt through."""
        psr, upsr = self._state.S[PSR], self._state.S[UPSR]
        return maskable_allowed(psr, upsr) or non_maskable_allowed(psr, upsr)

    def taken(self, exc: int) -> None:
        """The interrupt that ``due`` told was taken: a pulse is gone, a level stays."""
        if exc == EXC_NM_INTERRUPT:
            with self._lock:
                self.nmi_pulse = False
                self._tell()

    def take_command(self) -> tuple[int | None, bool]:
        """The oldest command and whether there is one: (None, True) is init, (vector, True) startup."""
        with self._lock:
            if not self.commands:
                return None, False
            command = self.commands.pop(0)
            self._tell()
            return command, True

    def reset(self) -> None:
        """The CPU was reset: commands and a pulse are gone. Levels are the controllers', who are reset themselves."""
        with self._lock:
            self.nmi_pulse = False
            self.commands.clear()
            self._tell()

    def restore(self, level: bool, nmi_level: bool, nmi_pulse: bool) -> None:
        """The pins as a migration stream has them."""
        with self._lock:
            self.level, self.nmi_level, self.nmi_pulse = level, nmi_level, nmi_pulse
            self.commands.clear()
            self._tell()
