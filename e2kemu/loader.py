"""Guest images: raw boot ROM files and ELF programs, read and checked; nothing is loaded half.

ELF: 64-bit or 32-bit, little endian, executable, machine 175 (EM_MCST_ELBRUS) or 49 (the number early
e2k tools used). Its loadable segments go to their physical addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from e2kemu.errors import ImageError

ELF_MACHINES = (175, 49)
"""e_machine of e2k: EM_MCST_ELBRUS, and the older number."""

_NAMES = {3: "i386", 8: "MIPS", 20: "PowerPC", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}


@dataclass(frozen=True)
class Segment:
    """``data``, then zeroes up to ``size`` bytes, at physical ``address``."""

    address: int
    size: int
    data: bytes


@dataclass(frozen=True)
class ElfImage:
    """The loadable part of an ELF file."""

    path: str
    entry: int
    segments: tuple[Segment, ...]

    @property
    def base(self) -> int:
        """Lowest address."""
        return min(segment.address for segment in self.segments)

    @property
    def end(self) -> int:
        """One past the highest address."""
        return max(segment.address + segment.size for segment in self.segments)

    def check_fits(
        self, banks: Sequence[tuple[int, int]], reserved: Sequence[tuple[int, int, str]] = ()
    ) -> None:
        """Raises ImageError unless every segment lies inside one of the RAM ``banks`` (address, size)
        and outside of the ``reserved`` ranges (address, size, what is there)."""
        wrong = f"could not load ELF file '{self.path}':"
        for segment in self.segments:
            first, last = segment.address, segment.address + segment.size - 1
            where = f"segment {first:#x}-{last:#x}"
            if not any(base <= first and last < base + size for base, size in banks):
                raise ImageError(f"{wrong} {where} is outside of RAM")
            for base, size, what in reserved:
                if first < base + size and base <= last:
                    raise ImageError(f"{wrong} {where} covers {what} at {base:#x}")


def read_file(path: str, what: str) -> bytes:
    """The contents of a file; ``what`` ("kernel", "BIOS") is for the message. Raises ImageError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"could not load {what} '{path}': {error.strerror}") from error


def read_rom(path: str, size: int) -> bytes:
    """A raw boot ROM image of at most ``size`` bytes. Raises ImageError."""
    data = read_file(path, "BIOS")
    if not data:
        raise ImageError(f"could not load BIOS '{path}': the file is empty")
    if len(data) > size:
        raise ImageError(f"could not load BIOS '{path}': {len(data)} bytes, the ROM has {size}")
    return data


def read_elf(path: str, what: str = "kernel") -> ElfImage:
    """Read and check an ELF file. Raises ImageError with the file's name and what is wrong with it."""
    # 35 ms that a Linux program, a start by firmware and one from a stream need not wait
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    data = read_file(path, what)

    def wrong(reason: str) -> ImageError:
        return ImageError(f"could not load {what} '{path}': {reason}")

    if data[:4] != b"\x7fELF":
        raise wrong("not an ELF file")
    try:
        elf = ELFFile(BytesIO(data))
        header = elf.header
        machine = _machine_number(data, elf.little_endian)
        if not elf.little_endian or machine not in ELF_MACHINES:
            raise wrong(f"it is for {_NAMES.get(machine, f'machine {machine}')}, not for e2k")
        if header["e_type"] != "ET_EXEC":
            raise wrong(f"it is not an executable ({header['e_type']})")
        segments = []
        for index in range(elf.num_segments()):
            part = elf.get_segment(index).header
            if part["p_type"] == "PT_LOAD" and part["p_memsz"]:
                segments.append(_segment(data, part, index, wrong))
    except (ELFError, ConstructError, KeyError, ValueError, OverflowError, AttributeError) as error:
        raise wrong(f"the file is truncated or damaged ({error or type(error).__name__})") from error
    if not segments:
        raise wrong("it has no loadable segment")
    image = ElfImage(path, int(header["e_entry"]), tuple(segments))
    if not any(s.address <= image.entry < s.address + s.size for s in segments):
        virtual = _physical_entry(elf, image.entry)
        if virtual is None:
            raise wrong(f"its entry point {image.entry:#x} is in no segment")
        image = ElfImage(path, virtual, image.segments)
    return image


def _physical_entry(elf: Any, entry: int) -> int | None:
    """The physical address of ``entry`` when the segments' virtual addresses differ from them."""
    for part in elf.iter_segments(type="PT_LOAD"):
        if part["p_vaddr"] <= entry < part["p_vaddr"] + part["p_memsz"]:
            return int(entry - part["p_vaddr"] + part["p_paddr"])
    return None


def _segment(data: bytes, part: Any, index: int, wrong: Any) -> Segment:
    offset, file_size, size = int(part["p_offset"]), int(part["p_filesz"]), int(part["p_memsz"])
    if offset + file_size > len(data):
        end = offset + file_size
        raise wrong(f"the file is truncated: segment {index} ends at byte {end} of {len(data)}")
    if file_size > size:
        raise wrong(f"segment {index} has more bytes in the file than in memory")
    return Segment(int(part["p_paddr"]), size, data[offset : offset + file_size])


def _machine_number(data: bytes, little: bool) -> int:
    # the library gives a name for numbers it knows; the number is what is compared here
    return int.from_bytes(data[18:20], "little" if little else "big")
