"""``e2kemu-as``: assemble one source into a flat image, a relocatable object or a static executable."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.elf.constants import MACHINES
from e2kemu.errors import E2kError, OptionError


def version_of(name: str) -> int:
    """Instruction set version of ``-cpu``: v1..v7 or a CPU model. Raises OptionError."""
    machine = MACHINES.get(name)
    if machine is None or not machine.version:
        known = ", ".join(m.name for m in MACHINES.values() if m.version)
        raise OptionError(f"unknown CPU '{name}': known are {known}")
    return machine.version


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2kemu-as", description="Assemble e2k source in the syntax of MCST's gas.", allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE", help="source; - is standard input")
    parser.add_argument("-o", metavar="OUT", default="a.out", help="output file (default: %(default)s)")
    parser.add_argument(
        "-cpu", default="e8c", metavar="CPU", help="v1..v7 or a CPU model (default: %(default)s)"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--raw", action="store_true", help="write a flat image instead of an executable")
    kind.add_argument("-c", action="store_true", help="write a relocatable object instead of an executable")
    parser.add_argument(
        "--base",
        type=_number,
        metavar="ADDR",
        help="address of the image (default: 0) or of the executable's code (default: behind its headers "
        "at 0x10000)",
    )
    parser.add_argument(
        "-I", action="append", default=[], metavar="DIR", help="look for included files there"
    )
    parser.add_argument(
        "-D", action="append", default=[], metavar="NAME[=TEXT]", help="define a preprocessor macro"
    )
    parser.add_argument("-no_strict_delay", action="store_true", help="add no nops outside braces")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 1 with diagnostics on stderr."""
    options = _options(argv)
    try:
        version = version_of(options.cpu)
        given = {
            "filename": "<stdin>" if options.file == "-" else options.file,
            "include_path": options.I,
            "defines": {name.partition("=")[0]: name.partition("=")[2] or "1" for name in options.D},
            "strict_delay": not options.no_strict_delay,
        }
        text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text()
        if options.raw:
            data = assemble(text, version=version, base=options.base or 0, **given).data
        else:
            made = assemble_object(text, cpu=options.cpu, **given)
            data = made.to_bytes() if options.c else executable([made], options.base, options.o)
        Path(options.o).write_bytes(data)
    except AsmError as error:
        print(error.render(), file=sys.stderr)
        return 1
    except (E2kError, OSError, UnicodeDecodeError) as error:
        print(f"e2kemu-as: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
