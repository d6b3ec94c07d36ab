"""The e2k assembler: text -> ``Image``.

``assemble`` takes MCST's gas syntax (``asm_parser``: operations, ``asm_directives``: directives,
``asm_cpp``: preprocessor), goes over it once, lays the sections out behind each other and fills in what
depends on addresses. ``Image`` is a flat image; ELF files are the business of ``asm_elf``.

A wide instruction is written in braces, or is one operation outside of them; then the assembler adds
the ``nop`` that the operation needs before its result may be used (``no_strict_delay`` turns it off).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2kemu.cpu import asm_directives, asm_macros, asm_parser
from e2kemu.cpu.asm_cpp import Reader
from e2kemu.cpu.asm_draft import Draft
from e2kemu.cpu.asm_expr import Parser, Section, Symbol, Tree, Value, evaluate
from e2kemu.cpu.asm_lexer import AsmError, Diagnostic, Place, Token, Trouble, tokens
from e2kemu.cpu.asm_wide import Patch, finish

MAX_DIAGNOSTICS = 20


@dataclass(frozen=True, slots=True)
class Image:
    """An assembled program with final addresses.

    ``sections`` are those with flag ``a`` in order of address. ``data`` is the flat image: all bytes from
    ``base`` to the end of the last section with contents (``.bss`` behind it has an address and no
    bytes). ``symbols`` holds every defined name but local ones (``.L``, ``1:``). ``entry`` is ``_start``, or
    ``base`` when there is none.
    """

    base: int
    data: bytes
    symbols: dict[str, int]
    entry: int
    version: int
    sections: tuple[Section, ...]


@dataclass
class Fixup:
    """A value in ``section`` at ``offset`` that depends on the layout.

    ``kind`` "lit64": a 64-bit literal whose low word is at ``offset``; "disp": a displacement in CS0 there,
    ``origin`` being the offset of its wide instruction; a number: bytes of data.
    """

    section: Section
    offset: int
    origin: int
    kind: str
    tree: Tree
    place: Place

    def store(self, data: bytearray, value: int) -> None:
        """Write ``value`` (for "disp" the distance in bytes) into ``data``. Raises Trouble."""
        at = self.offset
        if self.kind == "lit64":
            raw = _number_bytes(value, 8, 0)
            data[at : at + 4], data[at - 4 : at] = raw[:4], raw[4:]
        elif self.kind == "disp":
            if value % 8 or not -(1 << 30) <= value < 1 << 30:
                raise Trouble(f"the target is {value:#x} bytes away: not a multiple of 8 within 1 GiB")
            word = int.from_bytes(data[at : at + 4], "little") & 0xF000_0000 | value >> 3 & 0xFFF_FFFF
            data[at : at + 4] = word.to_bytes(4, "little")
        else:
            size = int(self.kind)
            data[at : at + size] = _number_bytes(value, size, 0)


class Assembler:
    """One assembly. ``run`` once, then ``image``."""

    def __init__(
        self,
        version: int,
        include_path: Iterable[Path] = (),
        defines: dict[str, str] | None = None,
        strict_delay: bool = True,
    ) -> None:
        self.version = version
        self.first_version = version
        self.strict_delay = strict_delay
        known = {"__ASSEMBLER__": "1", "__e2k__": "1", "__iset__": str(version)}
        self.reader = Reader(tuple(include_path), {**known, **(defines or {})})
        self.symbols: dict[str, Symbol] = {}
        self.sections: dict[str, Section] = {}
        self.macros: dict[str, asm_macros.MacroText] = {}
        self.conditions = asm_directives.Conditions()
        self.versions: list[int] = []
        self.expansions = 0
        self.value_last = False
        self.ended = False
        self.section = Section(".text", "ax")
        self.sections[".text"] = self.section
        self.last_section = self.section
        self.fixups: list[Fixup] = []
        self._locals: dict[int, int] = {}
        self._draft: Draft | None = None
        self._draft_place: Place | None = None
        self._diagnostics: list[Diagnostic] = []
        self._text = ""
        self._known: dict[tuple[str, int, bool, int], bytes] = {}  # lines that always mean the same
        self._emitted: bytes | None = None  # by the present line, if it asked for no symbol
        self._asked = 0

    # --- what directives use ---

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name, made when it is new."""
        self._asked += 1
        found = self.symbols.get(name)
        if found is None:
            found = self.symbols[name] = Symbol(name)
        return found

    def set_symbol(self, name: str, tree: Tree, column: int, once: bool = False) -> None:
        """``name = tree``. Raises Trouble when it is a label, or ``once`` and defined."""
        symbol = self.symbol(name)
        if symbol.fixed or (once and (symbol.defined or symbol.tree is not None)):
            raise Trouble(f"symbol {name} is defined already", column)
        value = evaluate(tree)
        if value is None or isinstance(value.base, Symbol):
            symbol.tree, symbol.place = tree, self._place(column)
        else:
            symbol.defined, symbol.tree = True, None
            symbol.section, symbol.value = value.base, value.offset
        symbol.fixed = once

    def label(self, name: str, column: int) -> None:
        """Define ``name`` here. Raises Trouble when it is defined."""
        if name.isdigit():
            number = int(name)
            self._locals[number] = self._locals.get(number, 0) + 1
            symbol = self._local(number, "b")
        else:
            symbol = self.symbol(name)
        if symbol.defined or symbol.tree is not None:
            raise Trouble(f"symbol {name} is defined already", column)
        symbol.defined = symbol.fixed = True
        symbol.section, symbol.value = self.section, self.section.size

    def switch(self, name: str, flags: str, nobits: bool) -> None:
        """Continue in section ``name``."""
        section = self.sections.get(name)
        if section is None:
            section = self.sections[name] = Section(name, flags, nobits)
        self.last_section, self.section = self.section, section

    def put(self, data: bytes) -> None:
        """Bytes at the end of the section. Raises Trouble in one without contents."""
        section = self.section
        if section.nobits:
            if any(data):
                raise Trouble(f"section {section.name} holds no bytes")
        else:
            section.data += data
        section.size += len(data)
        if section.size > asm_directives.MAX_SECTION:
            raise Trouble(f"section {section.name} is too large")

    def put_fill(self, count: int, byte: int) -> None:
        """``count`` times ``byte``. Raises Trouble when the section becomes too large."""
        if self.section.size + count > asm_directives.MAX_SECTION:
            raise Trouble(f"section {self.section.name} is too large")
        if self.section.nobits and byte == 0:
            self.section.size += count
        else:
            self.put(bytes([byte]) * count)

    def put_value(self, tree: Tree, size: int, column: int) -> None:
        """A number of ``size`` bytes, now or after the layout."""
        value = evaluate(tree)
        if value is not None and value.base is None:
            self.put(_number_bytes(value.offset, size, column))
            return
        self.fixups.append(Fixup(self.section, self.section.size, 0, str(size), tree, self._place(column)))
        if self.section.nobits:
            raise Trouble(f"section {self.section.name} holds no bytes", column)
        self.put(bytes(size))

    # --- reading ---

    def run(self, text: str, filename: str) -> None:
        """Assemble a whole source. Raises AsmError with up to 20 complaints."""
        folder = Path(filename).parent if filename and not filename.startswith("<") else None
        self.reader.push(text, filename, folder=folder)
        while not self.ended and len(self._diagnostics) < MAX_DIAGNOSTICS:
            self._text = ""
            try:
                line = self.reader.next_line()
                if line is None:
                    break
                self._text = line
                self._line(line)
            except Trouble as trouble:
                self._complain(trouble)
        if self._draft is not None and self._draft_place is not None and not self._diagnostics:
            self._diagnostics.append(Diagnostic(self._draft_place, "'{' without '}'"))
        if self.conditions.levels and not self._diagnostics:
            line_number = self.conditions.levels[-1][3]
            self._diagnostics.append(
                Diagnostic(Place(self.reader.file, line_number, 1, ""), ".if without .endif")
            )
        self._check()

    def _place(self, column: int) -> Place:
        return Place(self.reader.file, self.reader.line, max(column, 1), self._text)

    def _complain(self, trouble: Trouble, column: int = 0) -> None:
        self._diagnostics.append(Diagnostic(self._place(trouble.column or column), trouble.reason))

    def _check(self) -> None:
        if self._diagnostics:
            raise AsmError(self._diagnostics)

    def _line(self, line: str) -> None:
        if not self.conditions.live:
            word = asm_macros.first_word(line)
            if word.startswith(".if") or word in (".else", ".elseif", ".endif"):
                toks = tokens(line)
                rest = next((i for i, t in enumerate(toks) if str(t[1]).lower() == word), 0) + 1
                asm_directives.condition(self, word, self._parser(toks[rest:]), "")
            return
        if not line or line.isspace():
            return
        key = (line, self.version, self.value_last, len(self.macros))
        known = self._known.get(key) if self._draft is None else None
        if known is not None and self.section.size % 8 == 0:
            self._put_code(known)
            return
        self._emitted, asked = None, self._asked
        toks = tokens(line)
        start = 0
        for i, (kind, value, _) in enumerate(toks):
            if kind == "op" and value in (";", "{", "}"):
                self._statements(toks, start, i, line)
                if value == "{":
                    self._open(toks[i][2])
                elif value == "}":
                    self._close(toks[i][2])
                start = i + 1
        self._statements(toks, start, len(toks), line)
        if start == 0 and self._emitted is not None and self._asked == asked:
            self._known[key] = self._emitted

    def _statements(self, toks: list[Token], start: int, end: int, line: str) -> None:
        if start >= end or self.ended:
            return
        try:
            self._statement(toks[start:end], line[: toks[end][2] - 1] if end < len(toks) else line)
        except Trouble as trouble:
            self._complain(trouble, toks[start][2])

    def _parser(self, toks: list[Token]) -> Parser:
        return Parser(toks, self.symbol, self._here, self._local)

    def _here(self) -> Tree:
        self._asked += 1
        return ("here", self.section, self.section.size)

    def _local(self, number: int, way: str) -> Symbol:
        count = self._locals.get(number, 0) + (way == "f")
        if count == 0:
            raise Trouble(f"there is no label {number}: before this")
        return self.symbol(f"\1{number}\1{count}")

    def _statement(self, toks: list[Token], line: str) -> None:
        while len(toks) >= 2 and toks[1][:2] == ("op", ":") and toks[0][0] in ("id", "num"):
            if self._draft is not None:
                raise Trouble("a label cannot be inside braces", toks[0][2])
            if not self.conditions.live:
                return
            self.label(str(toks[0][1]), toks[0][2])
            toks = toks[2:]
        if not toks:
            return
        kind, name, column = toks[0]
        if kind != "id":
            raise Trouble(
                f"expected an instruction or a directive, found '{line[column - 1 :].strip()}'", column
            )
        if len(toks) >= 2 and toks[1][:2] == ("op", "=") and name != "wait":
            parser = self._parser(toks[2:])
            self.set_symbol(name, parser.expression(), column)
            if not parser.done:
                raise Trouble(f"unexpected {parser.describe()}", parser.column)
            return
        parser = self._parser(toks[1:])
        rest = line[column - 1 + len(name) :]
        if name[0] == ".":
            lower = name.lower()
            if asm_directives.condition(self, lower, parser, rest):
                return
            if self.conditions.live:
                if self._draft is not None and lower != ".ignore":
                    raise Trouble(f"{name} cannot be inside braces", column)
                asm_directives.run(self, lower, parser, rest)
            return
        if not self.conditions.live:
            return
        macro = self.macros.get(name)
        if macro is not None:
            asm_macros.expand(self, macro, rest)
            return
        if self._draft is not None:
            asm_parser.parse(self._draft, name, column, parser)
            return
        draft = Draft(self.version, self.value_last)
        asm_parser.parse(draft, name, column, parser)
        if self.strict_delay and not draft.nop:
            draft.nop = draft.nops
        self._emit(draft, column)

    def _open(self, column: int) -> None:
        if self._draft is not None:
            self._complain(Trouble("'{' inside braces", column))
            return
        self._draft = Draft(self.version, self.value_last)
        self._draft_place = self._place(column)

    def _close(self, column: int) -> None:
        draft, self._draft = self._draft, None
        if draft is None:
            self._complain(Trouble("'}' without '{'", column))
            return
        try:
            self._emit(draft, column)
        except Trouble as trouble:
            if self._draft_place is None or trouble.column:
                self._complain(trouble, column)
            else:
                self._diagnostics.append(Diagnostic(self._draft_place, trouble.reason))

    def _emit(self, draft: Draft, column: int) -> None:
        section = self.section
        if section.size % 8:
            raise Trouble(
                f"code at offset {section.size:#x} of {section.name}: an address must be a multiple of 8, "
                "use .align 8",
                column,
            )
        origin = section.size
        data, patches = finish(draft)
        for patch in patches:
            self._patch(section, origin, patch)
        self._put_code(data)
        self._emitted = data

    def _put_code(self, data: bytes) -> None:
        self.section.align = max(self.section.align, 8)
        self.put(data)

    def _patch(self, section: Section, origin: int, patch: Patch) -> None:
        self.fixups.append(
            Fixup(section, origin + patch.offset, origin, patch.kind, patch.tree, self._place(patch.column))
        )

    # --- layout ---

    def image(self, base: int) -> Image:
        """Give addresses from ``base`` on and fill in the values. Raises AsmError."""
        order = sorted(
            (s for s in self.sections.values() if "a" in s.flags),
            key=lambda s: (s.nobits, "w" in s.flags, "x" not in s.flags),
        )
        address = base
        for section in order:
            address += -address % section.align
            section.address = address
            address += section.size
        for fixup in self.fixups:
            self._apply(fixup)
            if len(self._diagnostics) >= MAX_DIAGNOSTICS:
                break
        self._check()
        filled = [s for s in order if not s.nobits and s.size]
        data = bytearray(max((s.address + s.size - base for s in filled), default=0))
        for section in filled:
            data[section.address - base : section.address - base + section.size] = section.data
        symbols: dict[str, int] = {}
        for symbol in self.symbols.values():
            if symbol.name.startswith(("\1", ".L")) or not (symbol.defined or symbol.tree is not None):
                continue
            value = self._symbol_value(symbol)
            if value is not None and value.base is None:
                symbols[symbol.name] = value.offset
        self._check()
        entry = symbols.get("_start", base)
        return Image(base, bytes(data), symbols, entry, self.first_version, tuple(s for s in order if s.size))

    def _symbol_value(self, symbol: Symbol) -> Value | None:
        try:
            return evaluate(("sym", symbol), True)
        except Trouble as trouble:
            place = symbol.place or self._place(1)
            self._diagnostics.append(Diagnostic(place, trouble.reason))
            return None

    def _apply(self, fixup: Fixup) -> None:
        try:
            value = evaluate(fixup.tree, True)
            if value is None:
                raise Trouble("the value is not known")
            if isinstance(value.base, Symbol):
                raise Trouble(f"symbol {value.base.readable} is not defined")
            distance = fixup.section.address + fixup.origin if fixup.kind == "disp" else 0
            fixup.store(fixup.section.data, value.offset - distance)
        except Trouble as trouble:
            self._diagnostics.append(Diagnostic(fixup.place, trouble.reason))


def _number_bytes(number: int, size: int, column: int) -> bytes:
    if not -(1 << 8 * size - 1) <= number < 1 << 8 * size:
        raise Trouble(f"{number:#x} does not fit in {8 * size} bits", column)
    return (number & (1 << 8 * size) - 1).to_bytes(size, "little")


def assemble(
    text: str,
    *,
    version: int = 4,
    base: int = 0,
    filename: str = "<text>",
    include_path: Iterable[str | Path] = (),
    defines: dict[str, str] | None = None,
    strict_delay: bool = True,
) -> Image:
    """Assemble ``text`` for instruction set ``version`` (1..7), to be loaded at ``base``.

    ``filename`` names the source in diagnostics and is where ``.include`` and ``.incbin`` look first, then
    in ``include_path``. ``strict_delay`` False leaves out the implicit nops. Raises AsmError.
    """
    assembler = Assembler(version, tuple(Path(p) for p in include_path), defines, strict_delay)
    assembler.run(text, filename)
    return assembler.image(base)


def assemble_file(path: str | Path, **options: Any) -> Image:
    """Assemble the source in ``path``; ``options`` as for ``assemble``. Raises OSError or AsmError."""
    return assemble(Path(path).read_text(), filename=str(path), **options)
