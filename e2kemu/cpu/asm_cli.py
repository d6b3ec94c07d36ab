"""``e2kemu-as``: assemble one source into a flat image (``--raw``) or a static ELF executable."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_elf import MACHINES, executable
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.cpu.isa.models import MODELS
from e2kemu.errors import E2kError, OptionError

ELF_BASE = 0x10000
"""Where an executable starts when --base does not say."""


def version_of(name: str) -> tuple[int, int]:
    """(instruction set version, machine of e_flags) of ``-cpu``: v1..v7 or a model. Raises OptionError."""
    if len(name) == 2 and name[0] == "v" and name[1] in "1234567":
        return int(name[1]), int(name[1])
    if name in MODELS:
        return MODELS[name].version, MACHINES[name]
    raise OptionError(f"unknown CPU '{name}': use v1..v7 or {', '.join(MODELS)}")


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
    parser.add_argument("--raw", action="store_true", help="write a flat image instead of an ELF executable")
    parser.add_argument(
        "--base",
        type=_number,
        metavar="ADDR",
        help=f"load address (default: 0 with --raw, {ELF_BASE:#x} without)",
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
        version, machine = version_of(options.cpu)
        defines = {name.partition("=")[0]: name.partition("=")[2] or "1" for name in options.D}
        text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text()
        base = options.base if options.base is not None else 0 if options.raw else ELF_BASE
        image = assemble(
            text,
            version=version,
            base=base,
            include_path=options.I,
            defines=defines,
            filename="<stdin>" if options.file == "-" else options.file,
            strict_delay=not options.no_strict_delay,
            separate=not options.raw,
        )
        Path(options.o).write_bytes(image.data if options.raw else executable(image, machine))
    except AsmError as error:
        print(error.render(), file=sys.stderr)
        return 1
    except (E2kError, OSError, UnicodeDecodeError) as error:
        print(f"e2kemu-as: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
