"""From an address to a region: what is looked at, what is assumed, and the thread that does it.

A job says where to begin and what the CPU's state was. Translating it takes two passes over the same code: the first
finds out what has to be numeric, the second assumes of that what was so when the job was made.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from e2kemu import trace
from e2kemu.cpu.config import Config
from e2kemu.cpu.core import Core
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.guest_memory import LONGEST_WIDE, PAGE
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.native.codegen import Code, compile_ir
from e2kemu.cpu.native.floating import MASKED, ROUNDING, STICKY
from e2kemu.cpu.native.layout import config_key
from e2kemu.cpu.native.paths import Assumed, Observed
from e2kemu.cpu.native.region import RegionMachine
from e2kemu.cpu.state import CTPR1
from e2kemu.cpu.windows import M48, Trap

SCAN = 400
"""Wide instructions looked at to find where a region's nodes are."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which Python lets another thread run."""

Fetch = Callable[[int], "Wide | None"]
Frames = dict[int, int] | None
PAGE_SIZE = 1 << PAGE


@dataclass(slots=True)
class Job:
    """What the compiling thread is asked for."""

    pc: int
    cfg: Config
    observed: Observed
    plain: bool = False     # without assumptions
    epoch: int = 0
    frames: Frames = None
    """The physical page of each virtual page that may be looked at; None: they are the same."""


@dataclass(slots=True)
class Region:
    """Translated code."""

    pc: int
    cfg: Config
    key: int
    code: Code | None
    address: int
    pages: dict[int, int]
    """The virtual pages of its code, and the physical ones."""
    source: list[tuple[int, bytes]]
    wides: int
    assumed: Assumed
    plain: bool
    seconds: float
    epoch: int = 0
    frames: Frames = None
    """The job's."""
    nodes: frozenset[tuple[int, Config]] = frozenset()
    """Where paths meet in it: entering there is its business."""
    misfits: int = 0
    text: str = ""
    listing: list[str] = field(default_factory=list)


class Client(Protocol):
    """Who has work done: a ``Translator``."""

    def work(self, job: Job) -> None:
        """Do a job, in the compiling thread."""


class Worker:
    """The compiling thread: one for the process. It keeps no translator alive."""

    _lock = threading.Lock()
    _thread: threading.Thread | None = None
    _jobs: queue.SimpleQueue[tuple[weakref.ref[Client], Job]] = queue.SimpleQueue()

    @classmethod
    def ask(cls, translator: Client, job: Job) -> None:
        """Do ``job`` when its turn comes."""
        with cls._lock:
            if cls._thread is None:
                # this thread and a CPU's pass the interpreter's lock to and fro while code is cold
                sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
                cls._thread = threading.Thread(target=cls._main, name="translator", daemon=True)
                cls._thread.start()
        cls._jobs.put((weakref.ref(translator), job))

    @classmethod
    def _main(cls) -> None:
        while True:
            reference, job = cls._jobs.get()
            translator = reference()
            if translator is not None:
                translator.work(job)
            del translator


def guest_bytes(core: Core, frames: Frames, address: int, size: int) -> bytes:
    """``size`` bytes of code at a virtual address; less where there is no more, or where pages are not known.

    ``frames``: the physical page of each virtual page that may be looked at; None: they are the same.
    """
    data = b""
    while size > 0:
        count = min(size, PAGE_SIZE - (address & PAGE_SIZE - 1))
        frame = address >> PAGE if frames is None else frames.get(address >> PAGE)
        if frame is None:
            break
        flat = core.space.find(frame << PAGE)
        if flat is None or flat.block is None:
            break
        at = flat.block_offset + (frame << PAGE) + (address & PAGE_SIZE - 1) - flat.start
        data += bytes(flat.block.mem[at : at + count])
        address, size = address + count, size - count
    return data


def compile_region(core: Core, decoded: Callable[[bytes, int], Wide], job: Job, level: int) -> Region:
    """Translate the region asked for. ``decoded``: the wide instruction that bytes begin with, at an address."""
    began = time.perf_counter()
    cache: dict[int, Wide | None] = {}
    source: dict[int, bytes] = {}

    def fetch(pc: int) -> Wide | None:
        if pc not in cache:
            cache[pc] = None
            # what is installed is compared with it
            data = source[pc] = guest_bytes(core, job.frames, pc, LONGEST_WIDE)
            if data and not pc & 7:
                try:
                    cache[pc] = decoded(data, pc)
                except Trap:
                    pass
        return cache[pc]

    leaders = find_leaders(job.pc, job.observed.likely, fetch)
    machine = _translate(core, job, leaders, Assumed(), fetch)
    if not job.plain:
        assumed = Assumed()
        for register, halves in machine.unknown.numeric.items():
            known = halves & job.observed.numeric(register)
            if known:
                assumed.numeric[register] = known
        assumed.preds = {index for index in machine.unknown.preds if not job.observed.preds[index] & 2}
        if assumed.numeric or assumed.preds:
            machine = _translate(core, job, leaders, assumed, fetch)
    text = machine.text("region")
    code = compile_ir(text, level=level)
    used = [wide for address, _ in machine.addresses if (wide := cache[address]) is not None]
    pages = {page: page if job.frames is None else job.frames[page] for wide in used
             for page in range(wide.address >> PAGE, (wide.address + wide.size - 1 >> PAGE) + 1)}
    listing = [f"{wide.address:#018x}:  {line}" for wide in used for line in disassemble(wide)] \
        if trace.mask & trace.Log.IN_ASM else []
    return Region(job.pc, job.cfg, config_key(job.cfg), code, code.address("region"), pages,
                  [(wide.address, source[wide.address][: wide.size]) for wide in used],
                  machine.total, machine.assumed, job.plain, time.perf_counter() - began, job.epoch, job.frames,
                  frozenset(machine.nodes),
                  text=text if trace.mask & trace.Log.OP else "", listing=listing)


def _translate(core: Core, job: Job, leaders: set[int], assumed: Assumed,
               fetch: Fetch) -> RegionMachine:
    machine = RegionMachine(core, leaders, assumed)
    machine.floating_allowed = job.observed.pfpfr & (MASKED | ROUNDING) == MASKED
    machine.floating_sticky = bool(job.observed.pfpfr & STICKY)
    machine.translate(job.pc, job.cfg, job.observed.likely, fetch)
    return machine


def find_leaders(start: int, likely: dict[int, int], fetch: Fetch) -> set[int]:
    """Addresses that branches known now go to, from what is reachable from ``start``."""
    leaders = {start}
    prepared: dict[int, set[int]] = {number: {value & M48} if value >> 54 & 7 == 3 else set()
                                     for number, value in likely.items()}
    through: set[int] = set()
    work = [start]
    seen: set[int] = set()
    while work and len(seen) < SCAN:
        pc = work.pop()
        while pc not in seen and len(seen) < SCAN:
            wide = fetch(pc)
            if wide is None:
                break
            seen.add(pc)
            stub, cs0 = wide.stub, wide.cs0
            if cs0 is not None and cs0.ctpr and cs0.name == "disp":
                number = CTPR1 + cs0.ctpr - 1
                prepared.setdefault(number, set()).add(pc + cs0.disp & M48)
                if number in through:
                    work.append(pc + cs0.disp & M48)
                    leaders.add(pc + cs0.disp & M48)
            kind = stub.condition.type if stub is not None else 0
            if stub is not None and kind:
                if stub.ctop:
                    if any(op.name == "call" for op in wide.cs1):
                        break
                    number = CTPR1 + stub.ctop - 1
                    through.add(number)
                    for target in prepared.get(number, ()):
                        leaders.add(target)
                        work.append(target)
                elif cs0 is not None and cs0.name in ("icall", "iret"):
                    break
                elif cs0 is not None and cs0.name == "ibranch":
                    leaders.add(pc + cs0.disp & M48)
                    work.append(pc + cs0.disp & M48)
                if kind == 1:
                    break
            pc += wide.size
    return leaders
