"""Assembler, input: files and texts -> lines without comments, through a small C preprocessor.

What it does: ``/* */``, ``//`` and (at the start of a line) ``!`` and ``#`` comments; lines joined by
a backslash; ``#define NAME text``, ``#define NAME(a, b) text``, ``#undef``, ``#include "f"`` and
``<f>``, ``#if #ifdef #ifndef #elif #else #endif`` with C integer expressions and ``defined``,
``#error``, and ``# 12 "file"`` line markers; in macros ``#parameter``, ``##`` and ``...`` with ``__VA_ARGS__``.
What it does not: ``#pragma`` (ignored), predefined macros other than ``__ASSEMBLER__``, ``__e2k__``,
``__iset__`` and ``__LINE__``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from e2kemu.cpu.asm_expr import Parser, Symbol, evaluate
from e2kemu.cpu.asm_lexer import Trouble, tokens, unescape

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:\\.|[^\\\'])\'|//.*|/\*|[A-Za-z_]\w*')
_DIRECTIVE = re.compile(
    r"\s*#\s*(define|undef|include|if|ifdef|ifndef|elif|else|endif|error|warning|pragma|line)\b\s*(.*)",
    re.DOTALL,
)
_MARKER = re.compile(r'\s*#\s*(\d+)\s+"((?:[^"\\]|\\.)*)"')
_MACRO = re.compile(r"([A-Za-z_]\w*)(\(([^)]*)\))?\s*(.*)", re.DOTALL)
_PASTE = re.compile(r"\s*##\s*")
_PARAMETER = re.compile(r"(?P<before>##\s*|)(?P<hash>(?<!#)#\s*|)(?P<name>\b[A-Za-z_]\w*)")
MAX_DEPTH = 64
"""Deepest nesting of included files and macros."""


@dataclass
class Macro:
    """A ``#define``: ``parameters`` None for an object-like one."""

    parameters: tuple[str, ...] | None
    body: str


@dataclass
class _Source:
    file: str
    lines: list[str]
    at: int = 0
    first: int = 1  # number of lines[0]
    folder: Path | None = None
    conditions: list[str] = field(default_factory=list)  # "on", "off" (a later branch may run), "done"
    opened: list[int] = field(default_factory=list)
    raw: bool = False  # an expanded .macro: already preprocessed


class Reader:
    """A stack of sources that gives one preprocessed line after the other.

    After ``next_line`` returned a text, ``file`` and ``line`` say where it came from. Raises Trouble.
    """

    def __init__(self, include_path: tuple[Path, ...] = (), defines: dict[str, str] | None = None) -> None:
        self.include_path = include_path
        self.macros = {name: Macro(None, body) for name, body in (defines or {}).items()}
        self.file, self.line = "<text>", 0
        self._stack: list[_Source] = []
        self._names = re.compile("(?!)")
        self._known = -1

    def push(
        self, text: str, file: str, *, folder: Path | None = None, first: int = 1, raw: bool = False
    ) -> None:
        """Read ``text`` next. Raises Trouble when sources nest too deeply."""
        if len(self._stack) >= MAX_DEPTH:
            raise Trouble(f"files or macros are nested more than {MAX_DEPTH} deep")
        self._stack.append(_Source(file, text.split("\n"), first=first, folder=folder, raw=raw))

    def find(self, name: str, angle: bool = False) -> Path:
        """The file that ``#include``, ``.include`` or ``.incbin`` means. Raises Trouble."""
        near = [] if angle else [s.folder for s in reversed(self._stack) if s.folder is not None][:1]
        for folder in (*near, *self.include_path):
            if (folder / name).is_file():
                return folder / name
        if Path(name).is_absolute() and Path(name).is_file():
            return Path(name)
        raise Trouble(f"cannot find file {name}")

    def include(self, name: str, angle: bool = False) -> None:
        """Read that file next. Raises Trouble when it is not there or is not text."""
        path = self.find(name, angle)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Trouble(f"cannot read {path}: {error}") from None
        self.push(text, str(path), folder=path.parent)

    def next_line(self) -> str | None:
        """The next line that the assembler shall see; None at the end. Raises Trouble."""
        while self._stack:
            source = self._stack[-1]
            if source.at >= len(source.lines):
                if source.opened:
                    self.line, self.file = source.opened[-1], source.file
                    self._stack.pop()
                    raise Trouble("#if without #endif")
                self._stack.pop()
                continue
            if source.raw:
                self.file, self.line = source.file, source.first
                source.at += 1
                return source.lines[source.at - 1]
            text = self._strip(source)
            if "#" in text and self._directive(source, text):
                continue
            if all(c == "on" for c in source.conditions):
                if text and self._mentions(text):
                    text = self._expand(text, ())
                return text
        return None

    def _mentions(self, text: str) -> bool:
        """Whether a macro may occur in ``text``: a quick look before the slow one."""
        if self._known < 0:
            self._known = len(self.macros)
            self._names = re.compile("|".join(map(re.escape, (*self.macros, "__LINE__"))))
        return self._names.search(text) is not None

    def _take(self, source: _Source) -> str:
        line = source.lines[source.at]
        source.at += 1
        return line

    def _strip(self, source: _Source) -> str:
        """One logical line, comments replaced by spaces so that columns stay."""
        self.file, self.line = source.file, source.first + source.at
        text = self._take(source)
        while text.endswith("\\") and source.at < len(source.lines):
            text = text[:-1] + self._take(source)
        if text.lstrip()[:1] == "!":
            return ""
        if "/" not in text:
            return text
        out, at = "", 0
        while match := _PIECE.search(text, at):
            found = match[0]
            if found.startswith("//"):
                return out + text[at : match.start()]
            if found == "/*":
                out += text[at : match.start()]
                start, text = match.start(), text[match.start() :]
                while "*/" not in text[2:]:
                    if source.at >= len(source.lines):
                        raise Trouble("unterminated comment", start + 1)
                    text += " " + self._take(source)
                at = text.index("*/", 2) + 2
                out += " " * at
                continue
            out += text[at : match.end()]
            at = match.end()
        return out + text[at:]

    def _directive(self, source: _Source, text: str) -> bool:
        marker = _MARKER.match(text)
        if marker:
            source.file, source.first = (
                unescape(marker[2]).decode("utf-8", "replace"),
                int(marker[1]) - source.at,
            )
            return True
        match = _DIRECTIVE.match(text)
        if match is None:
            return text.lstrip().startswith("#")
        word, rest = match[1], match[2].strip()
        live = all(c == "on" for c in source.conditions)
        if word in ("if", "ifdef", "ifndef"):
            outer = live
            if word == "if":
                truth = outer and self._condition(rest)
            else:
                truth = (rest in self.macros) == (word == "ifdef")
            source.conditions.append("done" if not outer else "on" if truth else "off")
            source.opened.append(self.line)
        elif word in ("elif", "else", "endif"):
            if not source.conditions:
                raise Trouble(f"#{word} without #if")
            state = source.conditions.pop()
            if word == "endif":
                source.opened.pop()
            elif state == "off" and (word == "else" or self._condition(rest)):
                source.conditions.append("on")
            else:
                source.conditions.append("off" if state == "off" else "done")
        elif live:
            self._define_or_include(word, rest)
        return True

    def _define_or_include(self, word: str, rest: str) -> None:
        if word == "define":
            match = _MACRO.fullmatch(rest)
            if match is None:
                raise Trouble("#define needs a name")
            names = None if match[3] is None else tuple(p.strip() for p in match[3].split(",") if p.strip())
            self.macros[match[1]] = Macro(names, match[4].strip())
            self._known = -1
        elif word == "undef":
            self.macros.pop(rest, None)
            self._known = -1
        elif word == "include":
            rest = self._expand(rest, ())
            if len(rest) < 3 or rest[0] + rest[-1] not in ('""', "<>"):
                raise Trouble('#include needs "file" or <file>')
            self.include(rest[1:-1], rest[0] == "<")
        elif word == "error":
            raise Trouble(f"#error {rest}")

    def _condition(self, text: str) -> bool:
        text = re.sub(r"\bdefined\s*\(?\s*(\w+)\s*\)?", lambda m: "1" if m[1] in self.macros else "0", text)
        parser = Parser(
            tokens(self._expand(text, ())),
            lambda name: Symbol(name, defined=True),
            lambda: 0,
            lambda number, way: Symbol("", defined=True),
        )
        value = evaluate(parser.expression())
        if not parser.done or value is None or value.base is not None:
            raise Trouble("#if needs a constant expression")
        return bool(value.offset)

    def _replace(
        self, name: str, macro: Macro, parameters: tuple[str, ...], given: list[str], busy: tuple[str, ...], column: int
    ) -> str:
        """The body of a macro with its arguments: expanded, but as they are next to ``##`` and behind ``#``."""
        if parameters[-1:] == ("...",):
            parameters = (*parameters[:-1], "__VA_ARGS__")
            fixed = len(parameters) - 1
            given = [*given[:fixed], ", ".join(given[fixed:])]
        if len(given) != len(parameters) and not (given == [""] and not parameters):
            raise Trouble(f"macro {name} needs {len(parameters)} arguments, {len(given)} given", column)
        raw = dict(zip(parameters, given, strict=False))

        def argument(match: re.Match[str]) -> str:
            found = raw.get(match["name"])
            if found is None:
                return match[0]
            if match["hash"]:
                return _quoted(found)
            if match["before"] or _PASTE.match(match.string, match.end()):
                return match["before"] + found
            return self._expand(found, busy)

        return _PARAMETER.sub(argument, macro.body)

    def _expand(self, text: str, busy: tuple[str, ...]) -> str:
        """``text`` with macros replaced; names in ``busy`` are being replaced already."""
        if len(busy) > MAX_DEPTH:
            raise Trouble("macros are nested too deeply")
        out, at = [], 0
        while match := _PIECE.search(text, at):
            name = match[0]
            macro = self.macros.get(name) if name not in busy else None
            if name == "__LINE__":
                macro = Macro(None, str(self.line))
            end = match.end()
            if macro is None:
                out.append(text[at:end])
                at = end
                continue
            body = macro.body
            if macro.parameters is not None:
                found = _arguments(text, end)
                if found is None:
                    out.append(text[at:end])
                    at = end
                    continue
                given, end = found
                body = self._replace(name, macro, macro.parameters, given, busy, match.start() + 1)
            body = _PASTE.sub("", body)
            out.append(text[at : match.start()])
            out.append(self._expand(body, (*busy, name)))
            at = end
        out.append(text[at:])
        return "".join(out)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _arguments(text: str, at: int) -> tuple[list[str], int] | None:
    """The arguments in the parentheses that follow position ``at``, and where they end."""
    start = at + len(text[at:]) - len(text[at:].lstrip())
    if text[start : start + 1] != "(":
        return None
    depth, arguments, begin = 0, [], start + 1
    for i in range(start, len(text)):
        c = text[i]
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0:
                arguments.append(text[begin:i].strip())
                return arguments, i + 1
        elif c == "," and depth == 1:
            arguments.append(text[begin:i].strip())
            begin = i + 1
    raise Trouble("unterminated macro arguments", start + 1)
