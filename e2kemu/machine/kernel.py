"""What ``-kernel`` takes, and how each kind is started.

| file | goes to | starts |
|---|---|---|
| ELF executable | its physical addresses | at its entry, on CPU 0; own boot information (``Start.PLAIN``) |
| ELF with a boot block at 0x100 of a segment (Embox) | its addresses | at its entry, on all CPUs (``Start.ENTRY``) |
| ELF linked at 0xe20000000000 (Linux) | 32 MiB on | by system call 12 of its trap table, on all CPUs (``Start.CALL``) |
| raw image with a header of 64 KiB, whose boot block has a size (Linux) | the base it names, or 32 MiB on | the same |
| raw image with such a header and no size (Embox) | header to 0xff0000, kernel behind it | there, on all CPUs |

That Linux is entered by system call 12 with the boot block's address as argument, all CPUs at once, is what its loader
does; Embox counts CPUs that enter at its first trap table entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from e2kemu.errors import ImageError
from e2kemu.loader import ElfImage, Segment, read_elf, read_file
from e2kemu.machine.bootblock import HEADER_SIZE, IN_IMAGE, has_boot_block

LINUX_VIRTUAL = 0xE200_0000_0000
"""Where Linux is linked."""

LINUX_BASE = 0x0200_0000
"""Where it is put when it does not say: above what belongs to the firmware, at a multiple of 4 MiB."""

HEADER_BASE = 0x00FF_0000
"""Where the header of an image lies that is linked with it."""

CALL_ENTRY = 12 * 0x800
"""System call 12 in the trap table."""


class Start(IntEnum):
    """How a kernel is started."""

    PLAIN = 0
    ENTRY = 1
    CALL = 2


@dataclass(frozen=True)
class Kernel:
    """A kernel that is ready to be put into RAM; ``block`` is where its own boot block lies, None: it has none."""

    image: ElfImage
    start: Start = Start.PLAIN
    block: int | None = None

    @property
    def base(self) -> int:
        """The address of its trap table, or of its first byte."""
        return self.image.entry if self.start == Start.ENTRY else self.image.base


def read_kernel(path: str) -> Kernel:
    """Read and check a kernel. Raises ImageError with the file's name and what is wrong with it."""
    data = read_file(path, "kernel")
    if data[:4] != b"\x7fELF" and has_boot_block(data):
        return _read_raw(path, data)
    image = read_elf(path)
    header = next((part for part in image.segments if has_boot_block(part.data)), None)
    if header is not None:
        return Kernel(image, Start.ENTRY, header.address + IN_IMAGE)
    if image.base >= LINUX_VIRTUAL:
        down = image.base - LINUX_BASE
        moved = tuple(Segment(part.address - down, part.size, part.data) for part in image.segments)
        return Kernel(ElfImage(path, LINUX_BASE + CALL_ENTRY, moved), Start.CALL)
    return Kernel(image)


def _read_raw(path: str, data: bytes) -> Kernel:
    base, size = (int.from_bytes(data[IN_IMAGE + at : IN_IMAGE + at + 8], "little") for at in (0x08, 0x10))
    if len(data) <= HEADER_SIZE or len(data) < HEADER_SIZE + size:
        raise ImageError(f"could not load kernel '{path}': the file is truncated: {len(data)} bytes, its header of"
                         f" {HEADER_SIZE} bytes tells of a kernel of {size or 'some'} bytes behind it")
    if not size:
        segment = Segment(HEADER_BASE, len(data), data)
        image = ElfImage(path, HEADER_BASE + HEADER_SIZE, (segment,))
        return Kernel(image, Start.ENTRY, HEADER_BASE + IN_IMAGE)
    base = base or LINUX_BASE
    segment = Segment(base, size, data[HEADER_SIZE : HEADER_SIZE + size])
    return Kernel(ElfImage(path, base + CALL_ENTRY, (segment,)), Start.CALL)
