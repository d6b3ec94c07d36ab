"""Assembler, text that is read several times: macros and repetitions.

``.macro NAME [parameters] .. .endm``, ``.rept N``, ``.irp NAME, values``, ``.irpc NAME, characters`` .. ``.endr``. In a
body ``\\name`` is a value, ``\\@`` the number of the expansion, ``\\()`` nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2kemu.cpu.asm_expr import Parser
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.asm_operands import constant

if TYPE_CHECKING:
    from e2kemu.cpu.asm import Assembler

MAX_REPEAT = 1 << 20
_OPENERS = {".macro": ".endm", ".rept": ".endr", ".irp": ".endr", ".irpc": ".endr"}


@dataclass
class MacroText:
    """A ``.macro``: parameters with defaults (None: none, "" given by ``:req`` counts as none)."""

    name: str
    parameters: list[tuple[str, str | None]]
    lines: list[str]
    place: int


def first_word(text: str) -> str:
    """The first word of a line in lower case, behind labels."""
    match = re.match(r"\s*(?:[\w.$]+:\s*)*([.\w]+)", text)
    return match[1].lower() if match else ""


def collect(asm: Assembler, opener: str) -> list[str]:
    """The raw lines up to the directive that closes ``opener``. Raises Trouble when there is none."""
    closer = _OPENERS[opener]
    family = [o for o, c in _OPENERS.items() if c == closer]
    depth = 1
    lines: list[str] = []
    start = asm.reader.line
    while (line := asm.reader.next_line()) is not None:
        word = first_word(line)
        if word in family:
            depth += 1
        elif word == closer or (closer == ".endm" and word == ".endmacro"):
            depth -= 1
            if depth == 0:
                return lines
        lines.append(line)
    asm.reader.line = start
    raise Trouble(f"{opener} without {closer}")


def macro(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    match = re.match(r"\s*([\w.$]+)\s*,?\s*(.*)", text, re.DOTALL)
    if match is None:
        raise Trouble(".macro needs a name", 0)
    parser.at = len(parser.toks)
    parameters: list[tuple[str, str | None]] = []
    for part in re.findall(r"[A-Za-z_$][\w$]*(?::\w+)?(?:\s*=\s*(?:\"[^\"]*\"|[^,\s]*))?", match[2]):
        head, equals, default = part.partition("=")
        parameters.append((head.partition(":")[0].strip(), default.strip().strip('"') if equals else None))
    asm.macros[match[1]] = MacroText(match[1], parameters, collect(asm, ".macro"), asm.reader.line)


def arguments(text: str) -> list[str]:
    """Arguments of a macro call: split at commas, or at blanks where there is no comma; quotes go."""
    parts: list[str] = []
    current, depth, quoted = "", 0, False
    for c in text.strip():
        if c == '"':
            quoted = not quoted
        elif not quoted:
            depth += (c in "([") - (c in ")]")
            if depth == 0 and c == ",":
                parts.append(current.strip())
                current = ""
                continue
        current += c
    if current.strip() or parts:
        parts.append(current.strip())
    if len(parts) == 1 and not any(c in parts[0] for c in '"+-*/[(<'):
        parts = parts[0].split()
    return [part[1:-1] if len(part) > 1 and part[0] == part[-1] == '"' else part for part in parts]


def expand(asm: Assembler, macro: MacroText, text: str) -> None:
    """Read the body of ``macro`` next, its parameters replaced. Raises Trouble."""
    values: dict[str, str] = {}
    positional = []
    names = [name for name, _ in macro.parameters]
    for argument in arguments(text):
        key, equals, value = argument.partition("=")
        if equals and key.strip() in names and not value.startswith("="):
            values[key.strip()] = value.strip().strip('"')
        else:
            positional.append(argument)
    if len(positional) > len(names):
        raise Trouble(
            f"macro {macro.name} has {len(names)} parameters, {len(positional)} arguments are given", 0
        )
    for (name, _), value in zip(macro.parameters, positional, strict=False):
        values[name] = value
    for name, default in macro.parameters:
        values.setdefault(name, default or "")
    asm.expansions += 1
    if asm.expansions > MAX_REPEAT:
        raise Trouble("too many macro expansions")
    body = substitute("\n".join(macro.lines), values, asm.expansions)
    asm.reader.push(body, asm.reader.file, first=asm.reader.line, raw=True)


def substitute(body: str, values: dict[str, str], number: int) -> str:
    """``\\name`` replaced by its value, ``\\@`` by ``number``, ``\\()`` by nothing."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name == "@":
            return str(number)
        if name == "()":
            return ""
        return values.get(name, match[0])

    return re.sub(r"\\(@|\(\)|[A-Za-z_$][\w$]*)", value, body)


def rept(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    count = constant(parser, "the count", 0, MAX_REPEAT)
    lines = collect(asm, name)
    if count * len(lines) > 4 * MAX_REPEAT:
        raise Trouble(".rept makes too many lines")
    asm.reader.push("\n".join(lines * count), asm.reader.file, first=asm.reader.line, raw=True)


def irp(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    parser.at = len(parser.toks)
    symbol, _, rest = text.strip().partition(",")
    lines = "\n".join(collect(asm, name))
    values = list(rest.strip()) if name == ".irpc" else arguments(rest) or [""]
    body = "\n".join(substitute(lines, {symbol.strip(): value}, asm.expansions) for value in values)
    asm.reader.push(body, asm.reader.file, first=asm.reader.line, raw=True)


def stray(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    raise Trouble(f"{name} without its beginning", 0)
