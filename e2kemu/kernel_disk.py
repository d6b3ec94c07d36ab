"""The disk that the bundled kernel checks while it pages from it: ``python -m e2kemu.kernel_disk FILE``.

The double word at offset ``o`` is ``o * FACTOR + START`` modulo 2^64, little endian (``firmware/kernel/users.inc``).
"""

from __future__ import annotations

import struct
import sys
from importlib import resources
from pathlib import Path

FACTOR, START = 0x9E37_79B9_7F4A_7C15, 0x0123_4567_89AB_CDEF
SIZE = 64 * 4096
"""Bytes that the kernel reads."""


def contents(size: int = SIZE) -> bytes:
    """The first ``size`` bytes of the disk, a multiple of 8."""
    return struct.pack(f"<{size // 8}Q", *((at * FACTOR + START) % (1 << 64) for at in range(0, size, 8)))


def kernel_image(name: str = "kernel-v4.elf") -> Path:
    """The bundled kernel: ``kernel-v4.elf`` for v3 to v5 with a local APIC, ``kernel-v6.elf`` for v6 with EPIC."""
    return Path(str(resources.files("e2kemu") / "firmware_images" / name))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m e2kemu.kernel_disk FILE")
    Path(sys.argv[1]).write_bytes(contents())
