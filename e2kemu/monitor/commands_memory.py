"""Commands that look at guest memory and at numbers: x, xp, p, memsave, pmemsave, gva2gpa.

``x``, ``memsave`` and ``gva2gpa`` take virtual addresses of a CPU, ``xp`` and ``pmemsave`` physical ones. The guest
stands still for as long as a command reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.disasm import disassemble_at
from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.mmu import PageFault
from e2kemu.cpu.rights import READ
from e2kemu.errors import CommandError
from e2kemu.monitor.dispatch import Context, command, hmp_command
from e2kemu.monitor.hmp_args import Format

CHUNK = 1 << 20
PAGE = 4096
LINE = 16
"""Bytes shown per line."""
MAX_WIDE = 256
"""At least the bytes of the longest wide instruction."""
MAX_COUNT = 1 << 20
"""Items of one ``x``."""

_ESCAPES = {
    0x00: "\\0", 0x07: "\\a", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x27: "\\'", 0x5C: "\\\\",
}  # fmt: skip
_last: tuple[str, int] = ("x", 4)
"""Format and size of the last dump: the next one's default."""


def character(value: int) -> str:
    """A byte as a C character constant."""
    text = _ESCAPES.get(value) or (chr(value) if 0x20 <= value < 0x7F else f"\\x{value:02x}")
    return f"'{text}'"


def item(data: bytes, kind: str) -> str:
    """One little-endian item as ``x`` shows it: fixed width for its size."""
    size = len(data)
    value = int.from_bytes(data, "little")
    bits = size * 8
    if kind == "c":
        return character(value & 0xFF)
    if kind == "f" and size >= 4:
        return f"{struct.unpack('<f' if size == 4 else '<d', data)[0]:g}"
    if kind == "o":
        return f"0{value:0{(bits + 2) // 3}o}"
    if kind == "t":
        return f"{value:0{bits}b}"
    width = (bits * 10 + 32) // 33
    if kind == "u":
        return f"{value:{width}d}"
    if kind == "d":
        return f"{value - (1 << bits) if value >> (bits - 1) else value:{width}d}"
    return f"0x{value:0{bits // 4}x}"


def check_mapped(ctx: Context, address: int, size: int) -> None:
    """Raises CommandError for the first byte where nothing is."""
    at = address
    while at < address + size:
        found = ctx.vm.space.find(at)
        if found is None:
            raise CommandError(f"Invalid addr 0x{at:016x}/size {address + size - at} specified")
        at = found.end


def pieces(cpu: Cpu | None, address: int, size: int) -> Iterator[tuple[int, int]]:
    """(physical address, bytes) of memory at a virtual address of a CPU (None: it is a physical one). Raises
    CommandError where nothing is mapped."""
    if cpu is None or not cpu.mmu.on:
        yield address, size
        return
    end = address + size
    while address < end:
        try:
            page = cpu.mmu.locate(address, READ)
        except PageFault:
            raise CommandError(f"Invalid addr 0x{address:016x}/size {end - address} specified") from None
        count = min(end - address, PAGE - address % PAGE)
        yield cpu.mmu.physical(page, address), count
        address += count


def read(ctx: Context, cpu: Cpu | None, address: int, size: int) -> bytes:
    """Memory at a virtual address of a CPU, or at a physical one. Raises CommandError where nothing is."""
    data = b""
    with ctx.vm.quiesced():
        for physical, count in pieces(cpu, address, size):
            check_mapped(ctx, physical, count)
            data += ctx.vm.space.read_bytes(physical, count)
    return data


def dump(ctx: Context, fmt: Format, address: int, cpu: Cpu | None = None) -> None:
    """Show memory in a format: at a virtual address of a CPU, or at a physical one."""
    global _last
    kind = fmt.format or _last[0]
    size = fmt.size or (1 if kind == "c" else _last[1] if kind != "i" else 8)
    if kind == "f" and size < 4:
        size = 8
    _last = (kind, size if kind != "i" else _last[1])
    count = min(fmt.count, MAX_COUNT)
    address &= (1 << 64) - 1
    if kind == "i":
        disassemble(ctx, address, count, cpu)
        return
    data = read(ctx, cpu, address, count * size)
    per_line = max(1, (8 if kind in "ct" else LINE) // size)
    for first in range(0, count, per_line):
        items = [
            item(data[index * size : (index + 1) * size], kind)
            for index in range(first, min(count, first + per_line))
        ]
        ctx.monitor.print(f"{address + first * size:016x}: {' '.join(items)}")


def disassemble(ctx: Context, address: int, count: int, cpu: Cpu | None) -> None:
    """Show ``count`` wide instructions from ``address``, each as ``{ ... }``."""
    version = ctx.vm.cpus[0].model.version
    for _ in range(count):
        data = read(ctx, cpu, address, 8)
        try:
            data += read(ctx, cpu, address + 8, MAX_WIDE - 8)
        except CommandError:
            # the end of what is mapped: byte by byte would be the same
            data += read(ctx, cpu, address + 8, -(address + 8) % PAGE)
        try:
            size, lines = disassemble_at(data, version, address)
        except DecodeError as error:
            raise CommandError(f"0x{address:016x}: {error}") from error
        ctx.monitor.print(f"0x{address:016x}: {{")
        for line in lines:
            ctx.monitor.print(f"  {line}")
        ctx.monitor.print("}")
        address += size


@hmp_command("x", "fmt:/,addr:l", params="/fmt addr", help="virtual memory dump starting at 'addr'")
def hmp_x(ctx: Context, fmt: Format, addr: int) -> None:
    """``x``."""
    dump(ctx, fmt, addr, ctx.cpu)


@hmp_command(
    "gva2gpa", "addr:l", params="addr",
    help="print the guest physical address corresponding to a guest virtual address",
)  # fmt: skip
def hmp_gva2gpa(ctx: Context, addr: int) -> None:
    """``gva2gpa``."""
    try:
        (physical, _), *_ = pieces(ctx.cpu, addr & (1 << 64) - 1, 1)
    except CommandError:
        ctx.monitor.print("Unmapped")
    else:
        ctx.monitor.print(f"gpa: {physical:#x}")


@hmp_command("xp", "fmt:/,addr:l", params="/fmt addr", help="physical memory dump starting at 'addr'")
def hmp_xp(ctx: Context, fmt: Format, addr: int) -> None:
    """``xp``."""
    dump(ctx, fmt, addr)


@hmp_command(
    "print", "fmt:/,val:l", params="/fmt expr", aliases=("p",),
    help="print expression value (use $reg for CPU register access)",
)  # fmt: skip
def hmp_print(ctx: Context, fmt: Format, val: int) -> None:
    """``p``."""
    ctx.monitor.print(number(val, fmt.format or "d"))


def number(value: int, kind: str) -> str:
    """A 64-bit value as ``p`` shows it."""
    unsigned = value & ((1 << 64) - 1)
    if kind == "x":
        return f"{unsigned:#x}" if unsigned else "0"
    if kind == "o":
        return f"0{unsigned:o}" if unsigned else "0"
    if kind == "t":
        return f"{unsigned:b}"
    if kind == "u":
        return str(unsigned)
    if kind == "c":
        return character(unsigned & 0xFF)
    if kind == "f":
        return f"{struct.unpack('<d', struct.pack('<Q', unsigned))[0]:g}"
    return str(value)


# -- to a file -------------------------------------------------------------------------------------


def save(ctx: Context, address: int, size: int, filename: str, cpu: Cpu | None = None) -> None:
    """Write ``size`` bytes of guest memory to a file. Raises CommandError."""
    if size < 0 or address < 0:
        raise CommandError("address and size must not be negative")
    if cpu is None or not cpu.mmu.on:
        check_mapped(ctx, address, size)
    try:
        with open(filename, "wb") as file, ctx.vm.quiesced():
            for at in range(address, address + size, CHUNK):
                file.write(read(ctx, cpu, at, min(CHUNK, address + size - at)))
    except OSError as error:
        raise CommandError(f"Could not open '{filename}': {error.strerror}") from error


@command("memsave")
def memsave(ctx: Context, val: int, size: int, filename: str, cpu_index: int = 0) -> None:
    """Save virtual memory of a CPU."""
    if not 0 <= cpu_index < len(ctx.vm.cpus):
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    save(ctx, val, size, filename, ctx.vm.cpus[cpu_index])


@command("pmemsave")
def pmemsave(ctx: Context, val: int, size: int, filename: str) -> None:
    """Save physical memory."""
    save(ctx, val, size, filename)


@hmp_command(
    "memsave", "val:l,size:i,filename:s", params="addr size file",
    help="save to disk virtual memory dump starting at 'addr' of size 'size'",
)  # fmt: skip
def hmp_memsave(ctx: Context, val: int, size: int, filename: str) -> None:
    """``memsave``."""
    save(ctx, val & ((1 << 64) - 1), size, filename, ctx.cpu)


@hmp_command(
    "pmemsave", "val:l,size:i,filename:s", params="addr size file",
    help="save to disk physical memory dump starting at 'addr' of size 'size'",
)  # fmt: skip
def hmp_pmemsave(ctx: Context, val: int, size: int, filename: str) -> None:
    """``pmemsave``."""
    save(ctx, val & ((1 << 64) - 1), size, filename)


