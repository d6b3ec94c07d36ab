"""A guest that works on its disk (``disk_guest.s``), and what its disk must look like."""

from __future__ import annotations

from pathlib import Path

from e2kemu.cpu.asm import assemble

SOURCE = Path(__file__).with_suffix(".s")
ROM_BASE = 0x1_0000_0000
BLOCK_SECTORS = 8


def make_rom(path: Path, *, blocks: int, stride: int, delay: int = 1) -> Path:
    """Assemble it for ``blocks`` blocks of 4 KiB, ``stride`` sectors apart."""
    defines = {"BLOCKS": str(blocks), "STRIDE": str(stride), "DELAY": str(delay)}
    path.write_bytes(assemble(SOURCE.read_text(), version=3, base=ROM_BASE, defines=defines).data)
    return path


def laps_on_disk(disk: bytes, *, blocks: int, stride: int) -> list[int]:
    """The lap in which each block was last written. Raises AssertionError when the disk is not what the guest made.

    Blocks are written in order, so the laps fall by at most one, once.
    """
    laps = []
    for block in range(blocks):
        found = set()
        for sector in range(block * stride, block * stride + BLOCK_SECTORS):
            word = int.from_bytes(disk[sector * 512 : sector * 512 + 8], "little")
            assert word & 0xFFFF_FFFF in (sector, 0), f"sector {sector} holds {word:#x}"
            found.add(word >> 32)
        assert len(found) == 1, f"block {block} is of laps {found}"
        laps.append(found.pop())
    assert laps == sorted(laps, reverse=True), laps
    assert laps[0] - laps[-1] <= 1, laps
    return laps
