"""How fast e2k code is decoded, printed and assembled: ``python bench/isa.py``.

The code is a text section of 1 MiB made of the golden vectors, the most diverse code there is: nearly every
operation in every channel with every kind of operand, in random order. Three sections:

* ``golden``    the wide instructions of all vectors that instruction set v6 has, shuffled, again and again
* ``distinct``  the same with other registers each time: no wide instruction occurs twice (the worst case, which
  need not reach what is wanted)
* ``program``   what programs are like: the wide instructions of a compiled program, again and again

Every measurement is a fresh process, so that nothing is remembered from before, and is the better of two. The
yardstick, in the same process on the same bytes: a Python loop that cuts the section into its wide
instructions by their headers and takes ``zlib.crc32`` of each. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from elftools.elf.elffile import ELFFile

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.listing import pieces, wides

DATA = Path(__file__).parents[1] / "tests" / "data"
VERSION, SIZE = 6, 1 << 20
WANTED = {"decode": 100_000, "disassemble": 20_000, "assemble": 20_000, "assemble without braces": 20_000}


def golden() -> list[bytes]:
    """The different wide instructions of the vectors that decode in VERSION."""
    found: dict[bytes, None] = {}
    for line in lzma.decompress((DATA / "vectors.jsonl.xz").read_bytes()).splitlines():
        data = b"".join(bytes.fromhex(word)[::-1] for word in json.loads(line)["words"])
        try:
            decode(data, VERSION)
        except DecodeError:
            continue
        found[data] = None
    return list(found)


def program() -> list[bytes]:
    """The wide instructions of a compiled program."""
    elf = ELFFile(io.BytesIO(lzma.decompress((DATA / "sieve-small.elf.xz").read_bytes())))
    section = elf.get_section_by_name(".text")
    code: bytes = section.data() if section else b""
    return [code[p.offset : p.offset + p.size] for p in pieces(code, 4)]


def renumbered(bundle: bytes, choose: random.Random) -> bytes:
    """``bundle`` with other window registers, where it is still one."""
    if len(bundle) < 8 or not bundle[3] >> 2:
        return bundle
    raw = bytearray(bundle)
    first = 8 if raw[1] & 0x10 else 4  # behind SS
    for at in range(first, first + 4 * (raw[3] >> 2).bit_count()):
        if at % 4 != 3 and raw[at] >> 6 == 2:
            raw[at] ^= choose.randrange(0x40)
    raw[0], raw[1] = raw[0] & 0x7F | choose.randrange(2) << 7, raw[1] & 0xFC | choose.randrange(4)  # nop
    try:
        decode(raw, VERSION)
    except DecodeError:
        return bundle
    return bytes(raw)


def sections(choose: random.Random) -> dict[str, bytes]:
    """The code to measure with, by name."""
    vectors, compiled = golden(), program()
    choose.shuffle(vectors)
    repeated = b"".join(vectors) * (SIZE // sum(map(len, vectors)) + 1)
    distinct = dict.fromkeys(vectors)
    size = sum(map(len, distinct))
    while size < SIZE:
        new = renumbered(choose.choice(vectors), choose)
        if new not in distinct:
            distinct[new] = None
            size += len(new)
    shuffled = list(distinct)
    choose.shuffle(shuffled)
    return {
        "golden": _whole(repeated),
        "distinct": _whole(b"".join(shuffled)),
        "program": _whole(b"".join(compiled) * (SIZE // sum(map(len, compiled)) + 1)),
    }


def _whole(data: bytes) -> bytes:
    """The wide instructions that fit in SIZE."""
    offset = 0
    while offset + 64 <= SIZE and offset < len(data):
        offset += 8 * ((data[offset] >> 4 & 7) + 1)
    return data[:offset]


def source(section: bytes, braces: bool) -> str:
    """The disassembly of what the assembler takes back."""
    lines, taken = [".ignore ld_st_style"], {}
    for wide in wides(section, VERSION):
        if isinstance(wide, DecodeError):
            continue
        text = disassemble(wide)
        key = "\n".join(text)
        if key not in taken:
            try:
                assemble(f".ignore ld_st_style\n{{\n{key}\n}}\n", version=VERSION)
                taken[key] = True
            except AsmError:
                taken[key] = False
        if taken[key]:
            lines += ["{", *text, "}"] if braces else text if len(text) == 1 else []
    return "\n".join(lines) + "\n"


def yardstick(data: bytes) -> float:
    """Wide instructions a second of the loop everything is compared with."""
    count = offset = 0
    start = time.process_time()
    while offset < len(data):
        size = 8 * ((data[offset] >> 4 & 7) + 1)
        zlib.crc32(data[offset : offset + size])
        offset, count = offset + size, count + 1
    return count / (time.process_time() - start)


def measure(what: str, path: Path, section: Path) -> dict[str, float]:
    """One measurement, in this process."""
    data, run = path.read_bytes(), _runs()[what]
    start = time.process_time()
    count = run(data)
    seconds = time.process_time() - start
    return {"count": count, "rate": count / seconds, "yardstick": yardstick(section.read_bytes())}


def _runs() -> dict[str, Callable[[bytes], int]]:
    def lines(data: bytes) -> int:
        assemble(data.decode(), version=VERSION)
        return data.count(b"\n")

    return {
        "decode": lambda data: sum(not isinstance(wide, DecodeError) for wide in wides(data, VERSION)),
        "disassemble": lambda data: sum(not piece.error for piece in pieces(data, VERSION)),
        "assemble": lines,
        "assemble without braces": lines,
    }


def main() -> int:
    """Print the table; exit status 1 when golden or program code is slower than wanted."""
    parser = argparse.ArgumentParser(description="Speed of the decoder, disassembler and assembler.")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, path, section = options.measure
        print(json.dumps(measure(what, Path(path), Path(section))))
        return 0
    print(f"seed {options.seed}; yardstick: zlib.crc32 of every wide instruction, in a Python loop")
    print(f"{'what':24} {'code':9} {'count':>8} {'per second':>11} {'yardstick':>10} {'ratio':>7} {'wanted':>8}")
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sections(random.Random(options.seed)).items():
            section = Path(folder, name)
            section.write_bytes(data)
            for what, wanted in WANTED.items():
                path = section
                if what.startswith("assemble"):
                    path = Path(folder, "source")
                    path.write_text(source(data, "without" not in what))
                best = max((_fresh(what, path, section) for _ in range(2)), key=lambda found: found["rate"])
                slow += name != "distinct" and best["rate"] < wanted
                print(
                    f"{what:24} {name:9} {best['count']:8.0f} {best['rate']:11.0f} {best['yardstick']:10.0f} "
                    f"{best['rate'] / best['yardstick']:7.4f} {wanted:8}",
                    flush=True,
                )
    return 1 if slow else 0


def _fresh(what: str, path: Path, section: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", what, str(path), str(section)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
