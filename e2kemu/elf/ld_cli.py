"""``e2kemu-ld``: link e2k objects into a static program or a flat image. The options have GNU ld's names."""

from __future__ import annotations

import argparse
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from e2kemu.elf.constants import SectionFlag
from e2kemu.elf.linker import LinkError, LinkOptions, Program, link, parse_number
from e2kemu.elf.reader import is_archive, read_archive, read_object
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import E2kError, OptionError
from e2kemu.version import __version__

MAX_LINES = 50
"""Findings printed; who has more of them begins with the first."""


def _number(text: str) -> int:
    value = parse_number(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not an address")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name.strip(), value


def _section_start(text: str) -> tuple[str, int]:
    name, value = _pair(text)
    return name, _number(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e2kemu-ld",
        allow_abbrev=False,
        description="Link e2k objects and archives into a static executable or a flat image.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="relocatable object or archive")
    parser.add_argument("-o", "--output", default="a.out", metavar="FILE", help="output (default: a.out)")
    parser.add_argument(
        "-e", "--entry", default="_start", metavar="ENTRY", help="symbol or address (default: _start)"
    )
    for name in ("text", "data", "bss"):
        parser.add_argument(f"-T{name}", type=_number, metavar="ADDR", help=f"address of .{name}")
    parser.add_argument(
        "--section-start",
        type=_section_start,
        action="append",
        default=[],
        metavar="NAME=ADDR",
        help="address of any section",
    )
    parser.add_argument(
        "--defsym",
        type=_pair,
        action="append",
        default=[],
        metavar="SYM=EXPR",
        help="define a symbol: a number, a symbol, or symbol+number",
    )
    parser.add_argument(
        "-u", "--undefined", action="append", default=[], metavar="SYM", help="take SYM from an archive"
    )
    parser.add_argument(
        "-L", "--library-path", action="append", default=[], metavar="DIR", help="where -l looks"
    )
    parser.add_argument(
        "-l", "--library", action="append", default=[], metavar="NAME", help="the archive libNAME.a"
    )
    parser.add_argument(
        "-N", "--omagic", action="store_true", help="data directly after code, in one segment"
    )
    parser.add_argument("-z", action="append", default=[], metavar="KEYWORD", help="max-page-size=BYTES")
    parser.add_argument(
        "--oformat", choices=("elf", "binary"), default="elf", help="binary: a flat image without headers"
    )
    parser.add_argument(
        "-s", "--strip-all", action="store_true", help="no symbol table, no debugging sections"
    )
    parser.add_argument("-Map", metavar="FILE", help="write the map ('-' for standard output)")
    parser.add_argument("-static", "--static", action="store_true", help="accepted: there is nothing else")
    parser.add_argument(
        "--start-group",
        "--end-group",
        action="store_true",
        help="accepted: archives are always searched until nothing is missing",
    )
    parser.add_argument("--version", action="version", version=f"e2kemu-ld {__version__}")
    return parser


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None


def _write(path: Path, data: bytes, *, executable: bool = False) -> None:
    try:
        path.write_bytes(data)
        if executable:
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o444) >> 2 | stat.S_IXUSR)
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None


def _library(name: str, directories: Sequence[str]) -> Path:
    for directory in directories:
        path = Path(directory) / f"lib{name}.a"
        if path.exists():
            return path
    raise OptionError(
        f"-l{name}: no lib{name}.a in {', '.join(directories) or 'any directory: name them with -L'}"
    )


def _page(keywords: Sequence[str]) -> int:
    page = 0x1000
    for keyword in keywords:
        name, _, value = keyword.partition("=")
        number = parse_number(value)
        if (
            name != "max-page-size"
            or number is None
            or number < 1
            or number & (number - 1)
            or number > 1 << 24
        ):
            raise OptionError(f"-z {keyword}: only max-page-size=POWER_OF_TWO is known")
        page = number
    return page


def _link(args: argparse.Namespace) -> Program:
    objects: list[ObjectFile] = []
    archives: list[list[ObjectFile]] = []
    paths = [Path(name) for name in args.files] + [_library(name, args.library_path) for name in args.library]
    for path in paths:
        data = _read(path)
        if is_archive(data):
            archives.append(read_archive(data, str(path)))
        else:
            objects.append(read_object(data, str(path)))
    starts = {
        f".{name}": address
        for name in ("text", "data", "bss")
        if (address := getattr(args, f"T{name}")) is not None
    }
    number = parse_number(args.entry)
    return link(
        objects,
        LinkOptions(
            entry=args.entry if number is None else number,
            starts=starts | dict(args.section_start),
            defines=args.defsym,
            undefined=args.undefined,
            page=_page(args.z),
            contiguous=args.omagic,
            need_entry=args.oformat == "elf",
            name=args.output,
        ),
        archives,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``e2kemu-ld``; the exit status (2 for wrong options, by argparse). Nothing is written unless
    everything is right.
    """
    args = _parser().parse_intermixed_args(argv)
    try:
        program = _link(args)
        if args.strip_all:
            program.executable.symbols = []
            sections = program.executable.sections
            program.executable.sections = [s for s in sections if s.flags & SectionFlag.ALLOC]
        image = program.executable.flat()[1] if args.oformat == "binary" else program.executable.to_bytes()
        _write(Path(args.output), image, executable=args.oformat == "elf")
        if args.Map == "-":
            sys.stdout.write(program.map_text())
        elif args.Map:
            _write(Path(args.Map), program.map_text().encode())
    except LinkError as error:
        for line in error.problems[:MAX_LINES]:
            print(f"e2kemu-ld: {line}", file=sys.stderr)
        if len(error.problems) > MAX_LINES:
            print(f"e2kemu-ld: and {len(error.problems) - MAX_LINES} more", file=sys.stderr)
        return 1
    except E2kError as error:
        print(f"e2kemu-ld: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
