"""Memory: mmap, munmap, mprotect, mremap, brk, madvise, msync, mincore, mlock."""

from __future__ import annotations

import errno
import os

from e2kemu import trace
from e2kemu.linux.error import LinuxError
from e2kemu.linux.mapping import LOWEST, PAGE_BITS, PAGE_MASK, PAGE_SIZE, Area, SharedFile, page_up
from e2kemu.linux.strace import flags_text
from e2kemu.linux.table import Call, formatter, syscall
from e2kemu.linux.task import Task

PROT_ALL = 7
PROT_IGNORED = 0x8 | 0x20 | 0x40 | 0xFFFF00
"""PROT_SEM, PROT_GROWSDOWN, PROT_GROWSUP, and e2k's compilation unit index."""

MAP_SHARED, MAP_PRIVATE, MAP_TYPE, MAP_ANONYMOUS, MAP_FIXED, MAP_FIRST32 = 1, 2, 15, 0x10, 0x100, 0x80000
MAP_FIXED_NOREPLACE = 0x40000000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
MADV_DONTNEED, MADV_REMOVE, MADV_FREE = 4, 9, 8
MADV_KNOWN = frozenset((*range(5), 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21))
MS_KNOWN = 7

_PROT_NAMES = (("PROT_READ", 1), ("PROT_WRITE", 2), ("PROT_EXEC", 4))
_MAP_NAMES = (("MAP_SHARED", 1), ("MAP_PRIVATE", 2), ("MAP_ANONYMOUS", 0x10), ("MAP_FIXED", 0x100),
              ("MAP_GROWSDOWN", 0x1000), ("MAP_NORESERVE", 0x10000), ("MAP_STACK", 0x20000))


@formatter("prot")
def _prot(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return flags_text(value, _PROT_NAMES) if value else "PROT_NONE"


@formatter("map_flags")
def _map_flags(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return flags_text(value, _MAP_NAMES)


def _prot_of(prot: int) -> int:
    if prot & ~(PROT_ALL | PROT_IGNORED):
        raise LinuxError(errno.EINVAL)
    return prot & PROT_ALL


def _range(task: Task, address: int, length: int) -> tuple[int, int]:
    """Whole pages, of which none is the kernel's own. Raises EINVAL."""
    end = page_up(address + length)
    if address & PAGE_MASK or length <= 0 or end > 1 << 47:
        raise LinuxError(errno.EINVAL)
    if any(area.private for area in task.process.map.overlapping(address, end)):
        raise LinuxError(errno.EINVAL)
    return address, end


def _place(task: Task, address: int, size: int, flags: int) -> int:
    areas = task.process.map
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        _range(task, address, size)
        if address < LOWEST:
            raise LinuxError(errno.EPERM)
        if not areas.backed(address, address + size):
            trace.unimp(f"mmap at {address:#x}: there is no RAM (-m makes it larger)")
            raise LinuxError(errno.ENOMEM)
        if flags & MAP_FIXED_NOREPLACE and areas.overlapping(address, address + size):
            raise LinuxError(errno.EEXIST)
        return address
    hint = address & ~PAGE_MASK
    if hint >= LOWEST and areas.backed(hint, hint + size) and not areas.overlapping(hint, hint + size):
        return hint
    place = areas.find_free(size, above=max(LOWEST, task.process.map.brk + PAGE_MASK & ~PAGE_MASK))
    if place is None:
        place = areas.find_free(size)
    if place is None:
        trace.unimp(f"mmap of {size:#x} bytes: RAM is full (-m makes it larger)")
        raise LinuxError(errno.ENOMEM)
    return place


def do_mmap(task: Task, address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    """Map ``length`` bytes; the address."""
    kind = flags & MAP_TYPE
    if not length or kind not in (MAP_SHARED, MAP_PRIVATE, 3) or offset & PAGE_MASK:
        raise LinuxError(errno.EINVAL)
    if length > task.process.map.limit:
        raise LinuxError(errno.ENOMEM)
    prot, size, shared = _prot_of(prot), page_up(length), kind != MAP_PRIVATE
    if flags & MAP_ANONYMOUS:
        at = _place(task, address, size, flags)
        task.process.map.map(Area(at, at + size, prot, mark=shared))
        return at
    file = task.files.get(fd)
    access = file.flags & 3
    if access == os.O_WRONLY or (shared and prot & 2 and access != os.O_RDWR):
        raise LinuxError(errno.EACCES)
    if file.kind not in ("file", "memfd"):
        raise LinuxError(errno.ENODEV)
    at = _place(task, address, size, flags)
    writes = SharedFile(os.dup(file.host_fd), file.path) if shared and access == os.O_RDWR else None
    task.process.map.map(Area(at, at + size, prot, file.path or "/memfd", offset, writes, mark=shared))
    _read_file(task, file.host_fd, at, size, offset)
    return at


def _read_file(task: Task, host_fd: int, at: int, size: int, offset: int) -> None:
    done = 0
    while done < size:
        data = os.pread(host_fd, min(size - done, 1 << 20), offset + done)
        if not data:
            break
        task.process.map.store(at + done, data)
        done += len(data)


@syscall("mmap", "addr:addr length:size prot:prot flags:map_flags fd:fd offset:off")
def mmap(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    return do_mmap(task, addr, length, prot, flags, fd, offset)


@syscall("mmap2", "addr:addr length:size prot:prot flags:map_flags fd:fd pages:ulong")
def mmap2(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, pages: int) -> int:
    return do_mmap(task, addr, length, prot, flags, fd, pages << PAGE_BITS)


@syscall("munmap", "addr:addr length:size")
def munmap(task: Task, addr: int, length: int) -> int:
    start, end = _range(task, addr, length)
    task.process.map.unmap(start, end)
    return 0


@syscall("mprotect|pkey_mprotect", "addr:addr length:size prot:prot")
def mprotect(task: Task, addr: int, length: int, prot: int) -> int:
    if addr & PAGE_MASK:
        raise LinuxError(errno.EINVAL)
    wanted = _prot_of(prot)
    if not length:
        return 0
    start, end = _range(task, addr, length)
    areas = task.process.map
    if not areas.covered(start, end):
        parts = sorted(areas.overlapping(start, end), key=lambda area: area.start)
        good = start
        while parts and parts[0].start <= good:
            good = parts.pop(0).end
        if good > start:
            areas.protect(start, good, wanted)       # the kernel, too, changes what is before the hole
        raise LinuxError(errno.ENOMEM)
    areas.protect(start, end, wanted)
    return 0


@syscall("mremap", "addr:addr old_size:size new_size:size flags:hex new_addr:addr")
def mremap(task: Task, addr: int, old_size: int, new_size: int, flags: int, new_addr: int) -> int:
    areas = task.process.map
    if flags & ~3 or not new_size or addr & PAGE_MASK or (flags & MREMAP_FIXED and not flags & MREMAP_MAYMOVE):
        raise LinuxError(errno.EINVAL)
    old, new = page_up(old_size), page_up(new_size)
    if not old:
        raise LinuxError(errno.EINVAL)
    _range(task, addr, old)
    parts = areas.overlapping(addr, addr + old)
    if len(parts) != 1 or parts[0].end - parts[0].start != old:
        raise LinuxError(errno.EFAULT)
    area = parts[0]
    if not flags & MREMAP_FIXED:
        if new <= old:
            if new < old:
                areas.unmap(addr + new, addr + old)
            return addr
        free = areas.backed(addr + old, addr + new) and not areas.overlapping(addr + old, addr + new)
        if free:
            _extend(task, area, addr, old, new)
            return addr
        if not flags & MREMAP_MAYMOVE:
            raise LinuxError(errno.ENOMEM)
        at = _place(task, 0, new, 0)
    else:
        at = _place(task, new_addr, new, MAP_FIXED)
        if at < addr + old and addr < at + new:
            raise LinuxError(errno.EINVAL)
    data = areas.load(addr, min(old, new))
    areas.map(Area(at, at + min(old, new), area.prot, area.name, area.offset, area.shared, mark=area.mark))
    areas.store(at, data)
    if new > old:
        _extend(task, area.part(addr, addr + old), at, old, new)
    areas.unmap(addr, addr + old)
    return at


def _extend(task: Task, area: Area, at: int, old: int, new: int) -> None:
    offset = area.offset + old if area.name and not area.name.startswith("[") else 0
    task.process.map.map(Area(at + old, at + new, area.prot, area.name, offset, area.shared, mark=area.mark))
    if area.shared is not None:
        _read_file(task, area.shared.fd, at + old, new - old, offset)


@syscall("brk", "addr:addr")
def brk(task: Task, addr: int) -> int:
    process = task.process
    if addr < process.map.brk_start:
        return process.map.brk
    old, new = page_up(process.map.brk), page_up(addr)
    if new > old:
        free = process.map.backed(old, new) and not process.map.overlapping(old, new)
        if not free:
            return process.map.brk
        process.map.map(Area(old, new, 3, "[heap]"))
    elif new < old:
        process.map.unmap(new, old)
    process.map.brk = addr
    return addr


@syscall("madvise", "addr:addr length:size advice:int")
def madvise(task: Task, addr: int, length: int, advice: int) -> int:
    if advice not in MADV_KNOWN or addr & PAGE_MASK:
        raise LinuxError(errno.EINVAL)
    if not length:
        return 0
    start, end = _range(task, addr, length)
    if not task.process.map.covered(start, end):
        raise LinuxError(errno.ENOMEM)
    if advice in (MADV_DONTNEED, MADV_FREE, MADV_REMOVE):
        task.process.map.discard(start, end)
    return 0


@syscall("msync", "addr:addr length:size flags:hex")
def msync(task: Task, addr: int, length: int, flags: int) -> int:
    if addr & PAGE_MASK or flags & ~MS_KNOWN or flags & 5 == 5:
        raise LinuxError(errno.EINVAL)
    if length:
        start, end = _range(task, addr, length)
        if not task.process.map.covered(start, end):
            raise LinuxError(errno.ENOMEM)
        task.process.map.write_back(start, end)
    return 0


@syscall("mincore", "addr:addr length:size vec:addr")
def mincore(task: Task, addr: int, length: int, vec: int) -> int:
    start, end = _range(task, addr, length)
    if not task.process.map.covered(start, end):
        raise LinuxError(errno.ENOMEM)
    task.memory.write(vec, b"\1" * ((end - start) // PAGE_SIZE))
    return 0


@syscall("mlock|munlock", "addr:addr length:size")
def mlock(task: Task, addr: int, length: int) -> int:
    """Nothing of a guest's memory is ever slow, so nothing needs locking."""
    start = addr & ~PAGE_MASK
    end = page_up(addr + length)
    if end > start and (end > 1 << 47 or not task.process.map.covered(start, end)):
        raise LinuxError(errno.ENOMEM)
    return 0


@syscall("mlock2", "addr:addr length:size flags:hex")
def mlock2(task: Task, addr: int, length: int, flags: int) -> int:
    if flags & ~1:
        raise LinuxError(errno.EINVAL)
    return mlock(task, addr, length)


@syscall("mlockall|munlockall", "flags:hex")
def mlockall(task: Task, flags: int) -> int:
    """As mlock."""
    return 0
