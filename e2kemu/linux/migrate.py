"""The section "process" of a linux-user machine: what a process is beside its memory and the registers in the CPU.

| field | what |
|---|---|
| document_size, document | JSON: ids, directory, brk, program, areas, signal actions, timers, descriptors, tasks |
| registers | of each task that is not in the CPU, then of each context, as the section "cpu" has them |

A task that sleeps in a call travels with the call's arguments and its deadline, and asks again at the destination.
Host addresses, descriptors of the host and waiting conditions never travel. What cannot follow is a blocker.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from e2kemu.cpu.interrupts import Halt, Interrupts
from e2kemu.cpu.mmu import Mmu
from e2kemu.cpu.state import CpuState
from e2kemu.cpu.vmstate import VMSTATE, CpuImage
from e2kemu.devices.vmstate import VMState, VMStateSection, sequence, u32, vbuffer
from e2kemu.errors import StateError
from e2kemu.linux.contexts import Context
from e2kemu.linux.mapping import Area
from e2kemu.linux.siginfo import SigInfo
from e2kemu.linux.task import Action, AltStack, PendingCall, Process, Task

if TYPE_CHECKING:
    from e2kemu.cpu.exec import Cpu
    from e2kemu.linux.kernel import Kernel

LARGEST_DOCUMENT = 64 << 20
MOST_TASKS = 65536
Json = dict[str, Any]


def blockers(kernel: Kernel) -> list[str]:
    """Why the process cannot travel now, a reason each."""
    process = kernel.processes[0]
    reasons = process.files.migration_blockers()
    reasons += [f"process {other.pid} that shares memory with another one cannot be migrated"
                for other in kernel.processes[1:]]
    reasons += [f"thread {task.tid} with descriptors of its own cannot be migrated"
                for task in kernel.tasks if task.own_files is not None]
    reasons += [f"child process {child} cannot be migrated" for child in sorted(process.children)]
    reasons += [f"shared mapping of '{area.name}' at {area.start:#x} cannot be migrated"
                for area in process.map.each_shared()]
    return reasons


class _Registers:
    """What ``CpuImage`` wants of a CPU, for a task that is in none."""

    idle_until: int | None = None
    index = 0
    halted = Halt.RUNS

    def __init__(self, cpu: Cpu) -> None:
        self.model = cpu.model
        self.state = CpuState(cpu.model)
        self.mmu = Mmu(cpu.model, cpu.core.space)
        self.interrupts = Interrupts(self.state, memoryview(bytearray(4)))

    def obey(self) -> None:
        """Nobody starts or stops a task so."""

    def invalidate(self, address: int, size: int) -> None:
        """There is no code to drop."""


class ProcessImage:
    """The process of a kernel as the stream has it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.document = b""
        self.document_size = 0
        self.registers: list[CpuImage] = []

    def new_registers(self) -> CpuImage:
        """Room for the registers of one task."""
        return CpuImage(cast("Cpu", _Registers(self.kernel.cpu)))

    def pre_save(self) -> None:
        """Take the process. Raises StateError when it cannot travel."""
        reasons = blockers(self.kernel)
        if reasons:
            raise StateError(reasons[0])
        kernel, process = self.kernel, self.kernel.process
        kernel.taken = True
        self.registers = []
        for task in process.tasks:
            if task is not kernel.current:
                image = self.new_registers()
                assert task.state is not None
                image.cpu.state.buffer[:] = task.state
                self.registers.append(image)
        for context in kernel.contexts.values():
            image = self.new_registers()
            image.cpu.state.buffer[:] = context.state
            self.registers.append(image)
        self.document = json.dumps(self._document(process), separators=(",", ":")).encode()
        self.document_size = len(self.document)

    def _document(self, process: Process) -> Json:
        kernel = self.kernel
        return {
            "pid": process.pid, "ppid": process.ppid, "pgid": process.pgid, "cwd": process.cwd, "umask": process.umask,
            "identity": process.identity.save(),
            "executable": process.executable, "name": process.name, "pointer_size": process.pointer_size,
            "arguments": [argument.hex() for argument in process.arguments],
            "brk_start": process.map.brk_start, "brk": process.map.brk, "stopped": process.stopped,
            "exit_status": process.exit_status,
            "actions": {str(signo): [a.handler, a.flags, a.restorer, a.mask] for signo, a in process.actions.items()},
            "pending": [_info(info) for info in process.pending],
            "areas": [[a.start, a.end, a.prot, a.name, a.offset, a.private, a.mark] for a in process.map.areas],
            "files": process.files.save(),
            "timers": [process.timers.intervals, process.timers.deadlines, process.timers.posix.save()],
            "images": kernel.images,
            "system_calls": kernel.system_calls, "traps": kernel.traps,
            "contexts": [[key, context.link, context.fresh] for key, context in kernel.contexts.items()],
            "links": list(kernel.links.items()),
            "tasks": [_task(task, task is kernel.current) for task in process.tasks],
        }

    def post_load(self, version: int) -> None:
        """Become the process that was saved. Raises ValueError when it is none."""
        try:
            document = json.loads(self.document)
            self._restore(document)
        except (KeyError, TypeError, IndexError, AttributeError, UnicodeDecodeError, AssertionError) as error:
            raise ValueError(f"the process is damaged ({error!r})") from error
        except OSError as error:
            raise StateError(f"the process cannot go on here: {error}") from error

    def _restore(self, d: Json) -> None:
        kernel, process = self.kernel, self.kernel.process
        process.pid, process.ppid, process.pgid = int(d["pid"]), int(d["ppid"]), int(d["pgid"])
        process.cwd, process.umask = str(d["cwd"]), int(d["umask"])
        process.identity.load(d["identity"])
        process.executable, process.name = str(d["executable"]), str(d["name"])
        process.arguments = [bytes.fromhex(text) for text in d["arguments"]]
        if d["pointer_size"] not in (4, 8):
            raise ValueError(f"pointers of {d['pointer_size']} bytes")
        process.memory.pointer_size = d["pointer_size"]
        process.map.brk_start, process.map.brk, process.stopped = int(d["brk_start"]), int(d["brk"]), bool(d["stopped"])
        process.exit_status = d["exit_status"]
        process.actions = {int(signo): Action(*map(int, fields)) for signo, fields in d["actions"].items()}
        process.pending = [_saved_info(item) for item in d["pending"]]
        areas = [Area(int(a[0]), int(a[1]), int(a[2]) & 7, str(a[3]), int(a[4]), private=bool(a[5]), mark=bool(a[6]))
                 for a in d["areas"]]
        if any(area.start >= area.end or not process.map.backed(area.start, area.end) for area in areas):
            raise ValueError("the process has memory where this machine has none (-m must be the same)")
        process.map.restore(areas)
        kernel.images = [(str(path), int(base)) for path, base in d["images"]]
        kernel.system_calls, kernel.traps = int(d["system_calls"]), int(d["traps"])
        process.timers.intervals = [int(value) for value in d["timers"][0]][:3]
        process.timers.deadlines = [int(value) for value in d["timers"][1]][:3]
        process.timers.posix.load(d["timers"][2])
        process.timers.arm()
        process.tasks.clear()
        kernel.current = None
        images = iter(self.registers)
        for item in d["tasks"]:
            task = _saved_task(process, item)
            if item["current"]:
                if kernel.current is not None:
                    raise ValueError("two tasks are in the CPU")
                kernel.current = task
            else:
                image = next(images, None)
                if image is None:
                    raise ValueError("the registers of a task are missing")
                task.state = image.cpu.state.buffer.copy()
        kernel.contexts.clear()
        for key, link, fresh in d["contexts"]:
            image = next(images, None)
            if image is None:
                raise ValueError("the registers of a context are missing")
            kernel.contexts[int(key)] = Context(image.cpu.state.buffer.copy(), int(link), bool(fresh))
        kernel.links = {int(key): int(link) for key, link in d["links"]}
        kernel.arriving = sorted((task for task in process.tasks if task.call is not None), key=lambda t: t.slept_since)
        if not process.tasks and process.exit_status is None:
            raise ValueError("the process has no task")
        process.files.load(d["files"], process)


def _info(info: SigInfo) -> list[Any]:
    return [info.signo, info.code, info.kind, list(info.values), info.raw.hex()]


def _saved_info(item: list[Any]) -> SigInfo:
    return SigInfo(int(item[0]), int(item[1]), str(item[2]), tuple(map(int, item[3])), bytes.fromhex(item[4]))


def _call(call: PendingCall | None) -> list[Any] | None:
    if call is None:
        return None
    return [call.number, call.registers, call.wbs, call.pointer_size, call.frame, call.progress, call.timer]


def _saved_call(item: list[Any] | None) -> PendingCall | None:
    if item is None:
        return None
    number, registers, wbs, size, frame, progress, timer = item
    return PendingCall(int(number), [int(value) for value in registers][:8] + [0] * (8 - len(registers)), int(wbs),
                       4 if size == 4 else 8, int(frame), int(progress), None if timer is None else int(timer))


def _task(task: Task, current: bool) -> Json:
    return {
        "tid": task.tid, "current": current, "progress": task.progress, "timer": task.timer, "mask": task.mask,
        "saved_mask": task.saved_mask, "pending": [_info(info) for info in task.pending],
        "altstack": [task.altstack.sp, task.altstack.size], "clear_tid": task.clear_tid,
        "robust_list": task.robust_list, "requeued": task.requeued, "call": _call(task.call),
        "suspended": [_call(call) for call in task.suspended], "restarting": _call(task.restarting),
        "slept_since": task.slept_since,
    }


def _saved_task(process: Process, item: Json) -> Task:
    task = Task(process, int(item["tid"]))
    task.progress, task.timer = int(item["progress"]), item["timer"]
    task.mask, task.saved_mask = int(item["mask"]), item["saved_mask"]
    task.pending = [_saved_info(info) for info in item["pending"]]
    task.altstack = AltStack(int(item["altstack"][0]), int(item["altstack"][1]))
    task.clear_tid, task.robust_list = int(item["clear_tid"]), int(item["robust_list"])
    task.requeued, task.slept_since = int(item["requeued"]), int(item["slept_since"])
    task.call, task.restarting = _saved_call(item["call"]), _saved_call(item["restarting"])
    task.suspended = [call for call in map(_saved_call, item["suspended"]) if call is not None]
    return task


def process_section(kernel: Kernel) -> VMStateSection:
    """The section of the process of ``kernel``."""
    image = ProcessImage(kernel)
    vmstate = VMState("process", 1, [
        u32("document_size"), vbuffer("document", "document_size", LARGEST_DOCUMENT),
        sequence("registers", VMSTATE, image.new_registers, MOST_TASKS),
    ], pre_save="pre_save", post_load="post_load")
    return VMStateSection(image, vmstate)
