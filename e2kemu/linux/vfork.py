"""The memory that a child borrows from its parent: vfork, and clone with CLONE_VFORK.

A child is a forked emulator, so its memory is a copy. Until it executes a program or ends, its parent shall see
every store, and stands still: it is enough that the parent gets them all before it goes on. The child sends what
it has changed through a pipe, and closes it:

| size | what |
|---|---|
| 8 | little endian: bytes of the document |
| document | JSON: areas, brk, and for each RAM block its base and the numbers of the pages that follow |
| 4096 each | these pages |

The other threads of the parent stand still as well: they would not see the child's stores in time. Hardware stacks
are the child's own. A child that is killed sends nothing.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from e2kemu import trace
from e2kemu.linux.error import POLLIN, WouldBlock
from e2kemu.linux.mapping import PAGE_BITS, PAGE_SIZE, AddressMap, Area

if TYPE_CHECKING:
    from e2kemu.linux.task import Process, Task

_HEAD = struct.Struct("<Q")
_CHUNK = 1 << 20


class Borrower:
    """A child's end: ``fd`` is the pipe; ``shared`` tells whether the memory is the parent's (CLONE_VM)."""

    def __init__(self, fd: int, process: Process, *, shared: bool) -> None:
        self.fd = fd
        self.shared = shared
        self._process = process
        self._parents = _stacks(process.map)
        if shared:
            for ram in process.map.rams:
                ram.block.harvest_dirty()      # from here on the log has the child's stores

    def give_back(self) -> None:
        """The parent goes on: the program is about to be replaced, or to end."""
        with suppress(OSError):                # the parent is gone
            if self.shared:
                for part in self._changes():
                    view = memoryview(part)
                    while view:
                        view = view[os.write(self.fd, view):]
        os.close(self.fd)

    def _changes(self) -> Iterator[bytes]:
        process, space = self._process, self._process.map
        own = self._parents + _stacks(space)
        pages: list[tuple[int, list[int]]] = []
        for ram in space.rams:
            first = ram.base >> PAGE_BITS
            numbers = ram.block.harvest_dirty().nonzero()[0].tolist()
            pages.append((ram.base, [n for n in numbers if not any(low <= first + n < high for low, high in own)]))
        document = json.dumps({"areas": [_area(area) for area in space.areas if not area.private],
                               "brk": process.map.brk, "blocks": pages}, separators=(",", ":")).encode()
        yield _HEAD.pack(len(document)) + document
        for ram, (_, numbers) in zip(space.rams, pages, strict=True):
            for number in numbers:
                yield ram.block.read(number << PAGE_BITS, PAGE_SIZE)


class Lender:
    """A parent's end: what has come through the pipe ``fd`` from the child ``pid`` so far."""

    def __init__(self, fd: int, pid: int) -> None:
        self.fd = fd
        self.pid = pid
        self._data = bytearray()
        os.set_blocking(fd, False)

    def collect(self, task: Task) -> int:
        """Take what has come; the child's pid once all has. Raises WouldBlock before."""
        while True:
            try:
                part = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                raise WouldBlock([(self.fd, POLLIN)]) from None
            if not part:
                break
            self._data += part
        os.close(self.fd)
        if self._data:
            self._apply(task.process)
        return self.pid

    def _apply(self, process: Process) -> None:
        (size,) = _HEAD.unpack_from(self._data)
        at = _HEAD.size + size
        document: dict[str, Any] = json.loads(self._data[_HEAD.size : at])
        blocks = {ram.base: ram.block for ram in process.map.rams}
        if sum(len(numbers) for _, numbers in document["blocks"]) * PAGE_SIZE != len(self._data) - at:
            return                             # it was killed meanwhile
        for base, numbers in document["blocks"]:
            for number in numbers:
                blocks[base].write(number << PAGE_BITS, self._data[at : at + PAGE_SIZE])
                at += PAGE_SIZE
        process.map.brk = int(document["brk"])
        _take_areas(process.map, document["areas"])


def _stacks(space: AddressMap) -> list[tuple[int, int]]:
    """First page and one past the last of each hardware stack."""
    return [(area.start >> PAGE_BITS, area.end >> PAGE_BITS) for area in space.areas if area.private]


def _area(area: Area) -> list[object]:
    return [area.start, area.end, area.prot, area.name, area.offset, area.mark, area.shared.fd if area.shared else -1]


def _take_areas(space: AddressMap, saved: list[list[Any]]) -> None:
    """What the child has mapped, unmapped and protected; hardware stacks stay, and mappings of files that only the
    child has are left out."""
    files = {area.shared.fd: area.shared for area in space.areas if area.shared is not None}
    areas = [area for area in space.areas if area.private]
    for start, end, prot, name, offset, mark, fd in saved:
        if fd >= 0 and fd not in files:
            trace.unimp(f"shared mapping of '{name}' made by a vfork child: the parent does not get it")
        elif not any(area.start < end and start < area.end for area in areas if area.private):
            areas.append(Area(start, end, prot, name, offset, files.get(fd), mark=mark))
    areas.sort(key=lambda area: area.start)
    if areas != space.areas:
        space.restore(areas)
