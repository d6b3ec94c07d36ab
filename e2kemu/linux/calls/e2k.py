"""e2k's own calls: the hardware stacks, which no program can touch itself."""

from __future__ import annotations

import errno
import struct

from e2kemu.cpu import windows
from e2kemu.cpu.state import (
    BR,
    CR0_HI,
    CR0_LO,
    CR1_HI,
    CR1_LO,
    PCSP_HI,
    PCSP_LO,
    PSP_HI,
    PSP_LO,
    SBR,
    USD_HI,
    USD_LO,
    WD,
    CpuState,
    Slot,
)
from e2kemu.cpu.windows import M48, Trap
from e2kemu.linux import contexts, frames, hwstacks
from e2kemu.linux.entries import FAST
from e2kemu.linux.error import LinuxError, NoReturn
from e2kemu.linux.siginfo import SIGKILL, UNMASKABLE
from e2kemu.linux.table import CALLS, Argument, Call, syscall
from e2kemu.linux.task import Task

(READ_CHAIN, READ_PROCEDURE, WRITE_PROCEDURE, CHAIN_OFFSET, CHAIN_SIZE, PROCEDURE_SIZE, READ_CHAIN_EX,
 READ_PROCEDURE_EX, WRITE_PROCEDURE_EX, WRITE_CHAIN_EX, READ_CHAIN_NATIVE) = range(11)
"""Modes of access_hw_stacks (uapi/asm/e2k_syswork.h)."""

FRAME = 32
"""Bytes of a chain entry."""


def _flush(task: Task) -> CpuState:
    """Everything of the callers is in memory, as after flushr and flushc."""
    kernel = task.process.kernel
    if not kernel.signals.with_room(lambda: hwstacks.flush(kernel.state, kernel.core.space)):
        raise LinuxError(errno.ENOMEM)
    return kernel.state


def _put_size(task: Task, address: int, value: int) -> None:
    if address:
        task.memory.write_pointer(address, value)


def _write_chain(task: Task, address: int, data: bytes) -> None:
    """Chain entries from a program: it chooses return addresses and predicates, but neither windows nor rights."""
    if len(data) % FRAME:
        raise LinuxError(errno.EINVAL)
    for at in range(0, len(data), FRAME):
        task.process.map.store(address + at, data[at : at + 16])


@syscall("access_hw_stacks", "mode:uint frame:addr buf:addr size:size real_size:addr")
def access_hw_stacks(task: Task, mode: int, frame: int, buf: int, size: int, real_size: int) -> int:
    if mode > READ_CHAIN_NATIVE:
        raise LinuxError(errno.EINVAL)
    state, areas, memory = _flush(task), task.process.map, task.memory
    chain, chain_used = state.S[PCSP_LO] & M48, state.S[PCSP_HI] & 0xFFFFFFFF
    proc, proc_used = state.S[PSP_LO] & M48, state.S[PSP_HI] & 0xFFFFFFFF
    if mode == CHAIN_SIZE:
        memory.write_u64(real_size, chain_used + FRAME)
        return 0
    if mode == PROCEDURE_SIZE:
        memory.write_u64(real_size, proc_used)
        return 0
    at = memory.u64(frame)
    if mode == CHAIN_OFFSET:
        if not chain <= at <= chain + chain_used:
            raise LinuxError(errno.ESRCH)
        memory.write_u64(real_size, at - chain)
        return 0
    current = struct.pack("<4Q", *(state.S[number] for number in (CR0_LO, CR0_HI, CR1_LO, CR1_HI)))
    if mode in (READ_CHAIN, READ_PROCEDURE, WRITE_PROCEDURE):
        base, used = (chain, chain_used) if mode == READ_CHAIN else (proc, proc_used)
        if not base <= at <= base + used:
            raise LinuxError(errno.EAGAIN)
        count = at - base
        if mode != WRITE_PROCEDURE:
            _put_size(task, real_size, count)
        if count > size:
            raise LinuxError(errno.ENOMEM)
        if mode == WRITE_PROCEDURE:
            areas.store(base, memory.read(buf, count))
        else:
            memory.write(buf, areas.load(base, count))
        return 0
    if mode in (READ_CHAIN_EX, READ_CHAIN_NATIVE, WRITE_CHAIN_EX):
        whole = chain_used + FRAME
        if at > whole or whole - at < size:
            raise LinuxError(errno.EINVAL)
        if mode == WRITE_CHAIN_EX:
            if at + size > chain_used:
                raise LinuxError(errno.EPERM)
            _write_chain(task, chain + at, memory.read(buf, size))
        else:
            memory.write(buf, (areas.load(chain, chain_used) + current)[at : at + size])
        return 0
    if at > proc_used or proc_used - at < size:
        raise LinuxError(errno.EINVAL)
    if mode == WRITE_PROCEDURE_EX:
        areas.store(proc + at, memory.read(buf, size))
    else:
        memory.write(buf, areas.load(proc + at, size))
    return 0


def _long_jump(task: Task, jump: int, result: int) -> None:
    """struct jmp_info: sigmask, ip, CR1.lo, PCSP.lo, PCSP.hi (8 bytes each), PCSHTP, BR (4 each), USD.lo (8), 4, WD.hi.

    The chain is unwound to the frame that called setjmp; PCSP.ind with PCSHTP says where its entry is.
    """
    kernel = task.process.kernel
    state, space = kernel.state, kernel.core.space
    mask, ip, cr1_lo, _, pcsp_hi, pcshtp, br, _, _, wd_hi = struct.unpack("<5QIIQII", task.memory.read(jump, 64))
    resident = (pcshtp & 0x7FF) - (pcshtp << 1 & 0x800)
    wanted = (pcsp_hi & 0xFFFFFFFF) + resident
    depth = (state.S[PCSP_HI] & 0xFFFFFFFF) + FRAME * state.X[Slot.CHAIN]
    if wanted > depth or (depth - wanted) % FRAME or wanted < FRAME or ip & 7:
        raise LinuxError(errno.EINVAL)
    stack: tuple[int, int, int] | None = None

    def leave() -> None:
        """Back to the caller; from a signal handler to the stack of what it has interrupted."""
        nonlocal stack
        back = windows.leave(state, space)
        if stack is not None:
            state.S[SBR], state.S[USD_LO], state.S[USD_HI] = stack
        stack = frames.interrupted_stack(task.memory, hwstacks.stack_pointer(state)) if back == frames.RETURN else None

    try:
        while depth > wanted:
            leave()
            depth -= FRAME
        state.S[CR0_HI] = ip
        leave()
    except Trap as trap:
        raise LinuxError(errno.EFAULT) from trap
    state.pc = ip & M48
    state.S[BR] = br & 0xFFFFFFF
    size, psize = state.window_size, (wd_hi & 0x7FF) >> 3
    if psize and psize <= size:
        state.S[WD] = state.S[WD] & ~(0x7FF << 32) | psize << 35
    kernel.give(cr1_lo >> 33 & 0x7F, result)
    if mask >> SIGKILL - 1 & 1:            # says that there is a mask
        task.mask = mask & ~UNMASKABLE
    sp = hwstacks.stack_pointer(state)
    while task.suspended and task.suspended[-1].frame < sp:
        task.suspended.pop()


@syscall("e2k_longjmp2", "env:addr result:ulong")
def e2k_longjmp2(task: Task, env: int, result: int) -> int:
    _long_jump(task, env, result)
    raise NoReturn


@syscall("set_backtrace", "buf:addr count:size skip:size flags:hex")
def set_backtrace(task: Task, buf: int, count: int, skip: int, flags: int) -> int:
    """Change return addresses of callers."""
    if flags:
        raise LinuxError(errno.EINVAL)
    state = _flush(task)
    base, used = state.S[PCSP_LO] & M48, state.S[PCSP_HI] & 0xFFFFFFFF
    done = 0
    for done, at in enumerate(range(base + used - FRAME - FRAME * skip, base - 1, -FRAME)):
        if done >= count:
            return done
        task.process.map.store(at + 8, task.memory.u64(buf + 8 * done).to_bytes(8, "little"))
    return done


@syscall("get_backtrace", "buf:addr count:size skip:size flags:hex")
def get_backtrace(task: Task, buf: int, count: int, skip: int, flags: int) -> int:
    """Return addresses of the callers, innermost first."""
    if flags:
        raise LinuxError(errno.EINVAL)
    found = [ip & M48 for _, ip, _, _ in hwstacks.chain(task.process.kernel.state, task.process.map) if ip & M48]
    chosen = found[skip : skip + count]
    task.memory.write(buf, struct.pack(f"<{len(chosen)}Q", *chosen))
    return len(chosen)


# -- ucontext

def _check_set(size: int) -> None:
    if size != 8:
        raise LinuxError(errno.EINVAL)


def getcontext(task: Task, ucp: int, size: int) -> int:
    """The fast call of that name: CR0 and CR1 are the caller's business."""
    _check_set(size)
    contexts.fill(task.process.kernel, task, ucp)
    return 0


def siggetmask(task: Task, set: int, size: int) -> int:
    """The fast call of that name."""
    _check_set(size)
    task.memory.write_u64(set, task.mask)
    return 0


@syscall("setcontext", "ucp:addr size:size")
def setcontext(task: Task, ucp: int, size: int) -> int:
    _check_set(size)
    contexts.switch(task.process.kernel, task, ucp)
    return 0


@syscall("swapcontext", "old:addr new:addr size:size")
def swapcontext(task: Task, old: int, new: int, size: int) -> int:
    _check_set(size)
    contexts.fill(task.process.kernel, task, old)
    if old != new:
        contexts.switch(task.process.kernel, task, new)
    return 0


@syscall("makecontext", "ucp:addr helper:addr args_size:size args:addr size:size")
def makecontext(task: Task, ucp: int, helper: int, args_size: int, args: int, size: int) -> int:
    _check_set(size)
    contexts.make(task.process.kernel, task, ucp, helper, args_size, args)
    return 0


@syscall("freecontext", "ucp:addr")
def freecontext(task: Task, ucp: int) -> int:
    contexts.free(task.process.kernel, task, ucp)
    return 0


for _number, _name, _handler, _first in ((3, "siggetmask", siggetmask, "set"), (4, "getcontext", getcontext, "ucp")):
    CALLS[FAST + _number] = Call(_name, FAST + _number, (Argument(_first, "addr"), Argument("size", "size")), _handler)
