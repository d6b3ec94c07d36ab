"""The board ``linux-user``: RAM, one CPU, and a kernel in Python; the program is what ``-kernel`` names.

There are no devices. The guest address space is the block "linux.ram" from 0 on; a program linked above its end
has further blocks there. Sections of the stream: timer, cpu (the registers of the task that was running), process.
"""

from __future__ import annotations

import os
import shlex
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from e2kemu import trace
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS, CpuModel
from e2kemu.errors import ImageError, OptionError
from e2kemu.linux import lifecycle
from e2kemu.linux.clock import ProcessClock
from e2kemu.linux.elf import Program
from e2kemu.linux.files import FileTable
from e2kemu.linux.itimer import IntervalTimers
from e2kemu.linux.kernel import Kernel
from e2kemu.linux.mapping import PAGE_MASK, AddressMap, Ram
from e2kemu.linux.memory import Memory
from e2kemu.linux.migrate import blockers, process_section
from e2kemu.linux.options import ProcessOptions
from e2kemu.linux.siginfo import NUMBER
from e2kemu.linux.stats import Statistics
from e2kemu.linux.strace import Tracer
from e2kemu.linux.task import Process, Task
from e2kemu.loop import MainLoop
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.machine import Machine
from e2kemu.machine.vcpu import AbandonedError
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, RAMRegion

M = TypeVar("M", bound=Machine)
SIGABRT = NUMBER["SIGABRT"]


class LinuxCpu(Cpu):
    """A CPU whose thread runs the kernel."""

    def __init__(self, index: int, model: CpuModel, space: AddressSpace, clock: Callable[[], int],
                 accel: str) -> None:
        super().__init__(index, model, space, clock, accel)
        self.kernel = Kernel(self, super().run)
        self.boot: Callable[[], None] = lambda: None
        """Puts the program into memory and its registers here; set by the builder."""

    def run(self, limit: int | None = None) -> str:
        """Run the process: as ``Cpu.run``."""
        kernel = self.kernel
        try:
            return kernel.run(limit)
        except AbandonedError:
            raise
        except Exception as error:
            if not (kernel.options.job_control or kernel.is_child):
                raise                      # a machine with a monitor stands there to be looked at
            kernel.say(f"e2kemu: internal error: {error!r} at {self.state.pc:#x}")
            if trace.mask & trace.Log.UNIMP:
                trace.log(traceback.format_exc())
            kernel.exit(128 + SIGABRT, SIGABRT)
            return "exit"

    def request_exit(self) -> None:
        """Make ``run`` return (any thread)."""
        self.kernel.request_exit()

    def reset(self) -> None:
        """The program starts anew."""
        super().reset()
        self.boot()


def read(config: MachineConfig, options: ProcessOptions) -> tuple[Program, Program | None] | None:
    """The program of ``-kernel`` and its interpreter; None when its state comes by migration. Raises ImageError."""
    if config.kernel is None:
        if config.incoming:
            return None
        raise OptionError("machine 'linux-user' runs a program: -kernel says which")
    root = options.sandbox.root
    host = os.path.abspath(config.kernel)
    guest = host
    if root is not None:
        top = os.path.realpath(root)
        real = os.path.realpath(host)
        guest = "/" + os.path.relpath(real, top) if real.startswith(top.rstrip("/") + "/") else host
    if root is not None and not os.path.exists(host):
        inside = os.path.join(root, config.kernel.lstrip("/"))
        hint = f" (its path is the host's: {inside})" if os.path.exists(inside) else ""
        raise ImageError(f"could not load program '{config.kernel}': No such file or directory{hint}")
    program = lifecycle.read_program(host, guest)
    return program, lifecycle.interpreter_of(program, options.prefix, root)


def arguments_of(config: MachineConfig, options: ProcessOptions) -> list[bytes]:
    """argv. Raises OptionError for unbalanced quotes in ``-append``."""
    if options.arguments:
        return [os.fsencode(word) for word in options.arguments]
    try:
        words = shlex.split(config.append)
    except ValueError as error:
        raise OptionError(f"-append {config.append}: {error}") from error
    return [os.fsencode(word) for word in (config.kernel or "", *words)]


def build(config: MachineConfig, loop: MainLoop | None, cls: type[M]) -> M:
    """Make the machine of ``config``. Raises OptionError, ImageError."""
    options: ProcessOptions = config.process or ProcessOptions()
    images = read(config, options)
    if images is not None and not config.cpu:
        config = replace(config, cpu=images[0].cpu_model)
    arguments = arguments_of(config, options)
    lock = threading.RLock() if loop is None else cast("threading.RLock", loop.lock)
    machine = cls(config, MainLoop(lock) if loop is None else loop, lock)
    rams = _memory(machine, images[0] if images else None)
    cpu = LinuxCpu(0, MODELS[config.cpu_model], machine.space, machine.clock.now, config.accel)
    machine.cpus.append(cpu)
    machine.space.listeners.append(cpu.memory_changed)
    _kernel(machine, cpu, rams, options)

    def boot() -> None:
        kernel = cpu.kernel
        _new_process(machine, kernel, AddressMap(rams, cpu.core), options)
        if images is not None and not config.incoming:
            environment = [os.fsencode(f"{name}={value}") for name, value in options.environment.items()]
            lifecycle.begin(kernel, *images, arguments, environment)

    cpu.boot = boot
    machine.sections += [cpu.section(), process_section(cpu.kernel)]
    machine.blockers.append(lambda: blockers(cpu.kernel))
    cpu.reset()
    return machine


def _memory(machine: Machine, program: Program | None) -> list[Ram]:
    config = machine.config
    try:
        rams = [Ram(0, RAMBlock(config.board.ram_name, config.ram))]
        if program is not None and program.fixed:
            for index, segment in enumerate(program.segments):
                start = max(segment.address & ~PAGE_MASK, rams[-1].end)
                end = segment.address + segment.size + PAGE_MASK & ~PAGE_MASK
                if start < end:
                    rams.append(Ram(start, RAMBlock(f"linux.segment{index}", end - start)))
    except OSError as error:
        raise OptionError(f"cannot set up guest memory '{config.board.ram_name}': {error.strerror}") from error
    for ram in rams:
        machine.ram_blocks.append(ram.block)
        machine.space.map(ram.base, RAMRegion(ram.block), ram.block.idstr)
    return rams


def _kernel(machine: Machine, cpu: LinuxCpu, rams: list[Ram], options: ProcessOptions) -> None:
    kernel = cpu.kernel
    kernel.options = options
    kernel.still_lock = machine.lock
    kernel.on_exit = lambda status: machine.shutdown(status, guest=True, reason="guest-shutdown")
    if options.strace:
        kernel.tracer = Tracer(kernel.say)
    if options.stats:
        statistics = Statistics(kernel)
        kernel.before_exit.append(lambda: kernel.say(statistics.text()))


def _new_process(machine: Machine, kernel: Kernel, areas: AddressMap, options: ProcessOptions) -> None:
    """A process with one task and nothing mapped."""
    old = getattr(kernel, "process", None)
    if old is not None:
        old.map.clear()
        old.files.close_all()
        old.timers.clear()
    process = Process(os.getpid(), Memory(areas), FileTable(), options.sandbox, ProcessClock(machine.clock))
    process.ppid, process.pgid = os.getppid(), os.getpgrp()
    process.map, process.kernel = areas, kernel
    if options.sandbox.root is None:
        process.cwd = os.getcwd()
    process.timers = IntervalTimers(process, machine.clock)
    kernel.process, kernel.processes = process, [process]
    kernel.core.protect(areas)
    kernel.current = Task(process, process.pid)


