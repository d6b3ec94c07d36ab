"""``e2kemu-dis``: disassemble an ELF file or a flat image, show the parts of an ELF file, explain words."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from e2kemu.cpu import disasm_elf as elf
from e2kemu.cpu.disasm_source import STYLE, source
from e2kemu.cpu.explain import explain, parse_words
from e2kemu.cpu.isa.models import DEFAULT_MODEL, MODELS
from e2kemu.cpu.isa.notation import VERSIONS
from e2kemu.cpu.listing import Piece, pieces
from e2kemu.errors import E2kError, ImageError, OptionError

_TARGETS = ("disp ", "ldisp ", "ibranch ", "puttsd ")


def version_of(name: str) -> int:
    """Instruction set of ``-cpu``: ``v4`` or the name of a CPU model. Raises OptionError."""
    if name in (f"v{version}" for version in VERSIONS):
        return int(name[1])
    if name in MODELS:
        return MODELS[name].version
    raise OptionError(f"unknown CPU '{name}': use v1..v7 or {', '.join(MODELS)}")


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2kemu-dis",
        allow_abbrev=False,
        add_help=False,
        description="Disassemble e2k code in the vendor's syntax, and show what an ELF file holds.",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="ELF file, or flat image with --raw; - is standard input"
    )
    parser.add_argument("--help", action="help", help="show this and exit")
    parser.add_argument(
        "-cpu",
        metavar="CPU",
        help=f"v1..v7 or a CPU model (default: what the ELF file says, {DEFAULT_MODEL} for a flat image)",
    )
    parser.add_argument("--raw", action="store_true", help="FILE is a flat image")
    parser.add_argument("--base", type=_number, default=0, metavar="ADDR", help="address of a flat image")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line for every wide instruction"
    )
    parser.add_argument(
        "--source", action="store_true", help="source from which e2kemu-as makes the same bytes"
    )
    views = parser.add_argument_group("views of an ELF file (default: -d)")
    views.add_argument("-d", action="store_true", help="disassemble the sections with code")
    views.add_argument("-D", action="store_true", help="disassemble all sections with contents")
    views.add_argument("-h", dest="headers", action="store_true", help="section headers")
    views.add_argument("-t", action="store_true", help="symbols")
    views.add_argument("-r", action="store_true", help="relocations (with -d: where they apply)")
    views.add_argument("-x", action="store_true", help="all headers, symbols and relocations")
    parser.add_argument(
        "--no-show-raw-insn", dest="show_words", action="store_false", help="leave out the words"
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)"
    )
    parser.add_argument(
        "--explain", nargs="+", metavar="WORD", help="explain one wide instruction, given as hex words"
    )
    options = parser.parse_args(argv)
    if (options.file is None) == (options.explain is None):
        parser.error("one of FILE and --explain is needed")
    return options


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None


class _Style:
    """Colours, or none."""

    def __init__(self, wanted: str) -> None:
        on = wanted == "always" or (
            wanted == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        )
        self.dim, self.name, self.label, self.bad, self.off = (
            ("\x1b[2m", "\x1b[36m", "\x1b[1;33m", "\x1b[31m", "\x1b[0m") if on else ("",) * 5
        )

    def operation(self, line: str) -> str:
        """A line with its mnemonic in colour."""
        head, space, rest = line.partition(" ")
        return f"{self.name}{head}{self.off}{space}{rest}"


def _json_lines(data: bytes, version: int, base: int, section: str = "") -> Iterator[str]:
    for piece in pieces(data, version, base):
        found: dict[str, object] = {"addr": piece.address, "words": piece.words(data)}
        if piece.error:
            found["error"] = piece.error
        else:
            found["text"] = piece.text
        if section:
            found["section"] = section
        yield json.dumps(found)


def _piece_lines(
    piece: Piece, data: bytes, nearest: elf.Nearest, options: argparse.Namespace, style: _Style
) -> Iterator[str]:
    words = "  " + " ".join(piece.words(data)) if options.show_words or piece.error else ""
    yield f"{style.dim}{piece.address:8x}:{words}{style.off}".rstrip()
    if piece.error:
        yield f"{'':10}{style.bad}error: {piece.error}{style.off}"
        return
    yield f"{'':10}{{"
    for line in piece.text:
        target = ""
        if line.startswith(_TARGETS):
            address = next((word for word in line.replace(",", " ").split() if word.startswith("0x")), "0")
            target = nearest.text(int(address, 16))
        yield f"{'':12}{style.operation(line)}{' ' * bool(target)}{target}"
    yield f"{'':10}}}"


def _code_lines(
    data: bytes,
    version: int,
    base: int,
    labels: dict[int, list[str]],
    relocs: tuple[elf.Reloc, ...],
    options: argparse.Namespace,
    style: _Style,
) -> Iterator[str]:
    nearest = elf.Nearest(labels)
    waiting = list(reversed(relocs))
    for piece in pieces(data, version, base):
        for name in labels.get(piece.address, ()):
            yield ""
            yield f"{style.label}{piece.address:016x} <{name}>:{style.off}"
        yield from _piece_lines(piece, data, nearest, options, style)
        while waiting and waiting[-1].offset < piece.address + piece.size:
            reloc = waiting.pop()
            yield f"{'':12}{reloc.offset:#x}: {reloc.kind} {reloc.target}"


def _flat(options: argparse.Namespace, data: bytes, style: _Style) -> Iterator[str]:
    version = version_of(options.cpu or DEFAULT_MODEL)
    if options.json:
        yield from _json_lines(data, version, options.base)
    elif options.source:
        yield STYLE
        yield from source(data, version, options.base)
    else:
        yield from _code_lines(data, version, options.base, {}, (), options, style)


def _elf_file(options: argparse.Namespace, data: bytes, style: _Style) -> Iterator[str]:
    view = elf.read_elf(data, options.file)
    if options.cpu:
        version = version_of(options.cpu)
    else:
        version = (view.machine.version if view.machine else 0) or MODELS[DEFAULT_MODEL].version
    code = options.d or options.D or not (options.headers or options.t or options.r or options.x)
    chosen = (
        [
            section
            for section in view.sections
            if section.is_code or (options.D and section.data and section.type == "PROGBITS")
        ]
        if code
        else []
    )
    if options.json:
        for section in chosen:
            yield from _json_lines(section.data, version, section.address, section.name)
        return
    if options.source:
        yield STYLE
        for section in chosen:
            yield f'.section {section.name}, "{"ax" if section.is_code else "a"}"'
            yield from source(section.data, version, section.address)
        return
    yield from elf.header_lines(view)
    if options.x or options.headers:
        yield ""
        yield from elf.section_lines(view)
    if options.x:
        yield ""
        yield from elf.segment_lines(view)
    if options.x or options.t:
        yield ""
        yield from elf.symbol_lines(view)
    if options.x or (options.r and not code):
        yield ""
        yield from elf.relocation_lines(view)
    for section in chosen:
        yield ""
        yield f"Disassembly of section {section.name}:"
        relocs = section.relocs if options.r else ()
        yield from _code_lines(
            section.data, version, section.address, view.labels(section), relocs, options, style
        )


def _run(options: argparse.Namespace) -> Iterator[str]:
    if options.explain is not None:
        yield from explain(
            parse_words(options.explain), version_of(options.cpu or DEFAULT_MODEL), options.base
        )
        return
    data, style = _read(options.file), _Style(options.color)
    if options.raw:
        yield from _flat(options, data, style)
    elif elf.is_elf(data):
        yield from _elf_file(options, data, style)
    else:
        raise ImageError(f"{options.file} is no ELF file (--raw reads a flat image)")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 1 with one line on stderr when the file cannot be read."""
    options = _options(argv)
    try:
        for line in _run(options):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except E2kError as error:
        sys.stdout.flush()
        print(f"e2kemu-dis: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: no complaint at exit
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
