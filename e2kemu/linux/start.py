"""Starting a program: its segments and its interpreter are mapped, the first task's stacks and registers are set.

The user stack from its pointer on: argc, argv pointers, NULL, envp pointers, NULL, auxiliary vector, NUL-terminated
strings above; 8 bytes a word, 4 in a 32-bit program. The registers: a window of 16 doubles, all zero, of
which 8 are the arguments, %b at double 8; UPSR fe|ie|nmie, PSR ie|sge|nmie.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from e2kemu.cpu.state import BR, PSR, UPSR, WD, CpuState
from e2kemu.errors import ImageError
from e2kemu.linux import hwstacks
from e2kemu.linux.elf import PF_R, PF_W, PF_X, Program
from e2kemu.linux.mapping import PAGE_MASK, PROT_EXEC, PROT_READ, PROT_WRITE, AddressMap, Area, page_up

(AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY, AT_UID, AT_EUID, AT_GID, AT_EGID,
 AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE, AT_RANDOM, AT_EXECFN) = (
    0, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 23, 25, 31)

STACK_SIZE = 8 << 20
"""Bytes of the first task's user stack; an eighth of a small RAM."""
STACK_GUARD = 1 << 20
LARGEST_ARGUMENTS = 2 << 20
"""Bytes of argv and envp together."""
CLOCK_TICKS = 100

READ_EXECUTE_WRITE = ((PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC))


@dataclass(frozen=True)
class Started:
    """What the kernel wants to know of a program that is in memory."""

    program: Program
    base: int
    """What was added to its addresses."""
    entry: int
    """Where execution starts: in the interpreter when there is one."""
    brk: int


def map_program(areas: AddressMap, program: Program, at: int) -> int:
    """Map the segments; ``at`` is where one without its own addresses goes. Returns what was added.

    Raises ImageError when there is no memory at its addresses.
    """
    base = 0 if program.fixed else at - program.start
    start, end = program.start + base, program.end + base
    if not areas.backed(start, end) or start < 0x1000:
        raise ImageError(f"could not load program '{program.path}': there is no memory at {start:#x}-{end - 1:#x}"
                         f" (RAM ends at {areas.limit - 1:#x}; -m makes it larger)")
    bytes_at: list[tuple[int, bytes]] = []
    rights: dict[int, int] = {}
    for segment in program.segments:
        prot = sum(bit for flag, bit in READ_EXECUTE_WRITE if segment.flags & flag)
        low, high = segment.address + base & ~PAGE_MASK, page_up(segment.address + base + segment.size)
        for page in range(low, high, PAGE_MASK + 1):
            rights[page] = rights.get(page, 0) | prot
        bytes_at.append((segment.address + base, segment.data))
    for pages, prot in _runs(rights):
        name, offset = _origin(program, base, pages.start)
        areas.map(Area(pages.start, pages.stop, prot, name, offset))
    for address, data in bytes_at:
        areas.store(address, data)
    return base


def _runs(rights: dict[int, int]) -> list[tuple[range, int]]:
    runs: list[tuple[range, int]] = []
    for page in sorted(rights):
        if runs and runs[-1][0].stop == page and runs[-1][1] == rights[page]:
            runs[-1] = (range(runs[-1][0].start, page + PAGE_MASK + 1), rights[page])
        else:
            runs.append((range(page, page + PAGE_MASK + 1), rights[page]))
    return runs


def _origin(program: Program, base: int, page: int) -> tuple[str, int]:
    for segment in program.segments:
        first = segment.address + base & ~PAGE_MASK
        if first <= page < segment.address + base + max(len(segment.data), 1):
            return program.path, (segment.offset & ~PAGE_MASK) + page - first
    return "", 0


def load(areas: AddressMap, program: Program, interpreter: Program | None) -> Started:
    """Map a program and its interpreter. Raises ImageError."""
    base = map_program(areas, program, areas.limit // 4 & ~PAGE_MASK)
    entry = program.entry + base
    brk = page_up(program.end + base)
    if interpreter is not None:
        size = interpreter.end - interpreter.start
        place = areas.find_free(size, below=areas.limit - STACK_GUARD - stack_size(areas))
        if place is None:
            raise ImageError(f"could not load interpreter '{interpreter.path}': there is no room for it")
        entry = interpreter.entry + map_program(areas, interpreter, place)
    return Started(program, base, entry, brk)


def stack_size(areas: AddressMap) -> int:
    """Bytes of the user stack."""
    return min(STACK_SIZE, areas.limit // 8 & ~PAGE_MASK)


def build_stack(areas: AddressMap, started: Started, interpreter: int | None, arguments: list[bytes],
                environment: list[bytes], platform: str) -> tuple[int, int, int]:
    """Map and fill the user stack; (its top, the stack pointer, its bottom).

    Raises ImageError when arguments and environment are too long.
    """
    top = areas.limit - STACK_GUARD
    bottom = top - stack_size(areas)
    prot = PROT_READ | PROT_WRITE | (PROT_EXEC if started.program.executable_stack else 0)
    if sum(len(text) + 1 for text in arguments + environment) > min(LARGEST_ARGUMENTS, (top - bottom) // 4):
        raise ImageError(f"could not start program '{started.program.path}': the argument list is too long")
    areas.map(Area(bottom, top, prot, "[stack]"))
    at = top - 16

    def place(data: bytes) -> int:
        nonlocal at
        at -= len(data)
        areas.store(at, data)
        return at

    program, size = started.program, started.program.pointer_size
    name = place(os.fsencode(program.path) + b"\0")
    platform_at = place(platform.encode() + b"\0")
    env = [place(text + b"\0") for text in reversed(environment)][::-1]
    args = [place(text + b"\0") for text in reversed(arguments)][::-1]
    at &= ~15
    random = place(secrets.token_bytes(16))
    auxv = [
        (AT_PHDR, program.phdr + started.base if program.phdr else 0), (AT_PHENT, program.phent),
        (AT_PHNUM, program.phnum), (AT_PAGESZ, PAGE_MASK + 1), (AT_BASE, interpreter or 0), (AT_FLAGS, 0),
        (AT_ENTRY, program.entry + started.base), (AT_UID, os.getuid()), (AT_EUID, os.geteuid()),
        (AT_GID, os.getgid()), (AT_EGID, os.getegid()), (AT_SECURE, 0), (AT_CLKTCK, CLOCK_TICKS), (AT_HWCAP, 0),
        (AT_PLATFORM, platform_at), (AT_RANDOM, random), (AT_EXECFN, name), (AT_NULL, 0),
    ]
    words = [len(args), *args, 0, *env, 0, *(word for pair in auxv for word in pair)]
    block = b"".join(word.to_bytes(size, "little") for word in words)
    sp = at - len(block) & ~15
    areas.store(sp, block)
    return top, sp, bottom


def set_registers(state: CpuState, entry: int, top: int, sp: int, bottom: int, areas: AddressMap) -> bool:
    """The registers of a first task; False when there is no room for its hardware stacks."""
    state.reset()
    state.S[PSR] = 1 << 1 | 1 << 2 | 1 << 5
    state.S[UPSR] = 1 | 1 << 5 | 1 << 7
    state.S[WD] = 8 * 8 << 32 | 16 * 8 << 16
    state.S[BR] = 4 | 3 << 6
    hwstacks.set_user_stack(state, top & ~15, sp, bottom)
    state.pc = entry
    return hwstacks.make(state, areas)
