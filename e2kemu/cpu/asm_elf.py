"""An assembled source as an ELF file: a relocatable object, or a static executable linked from it.

Files and links are those of ``e2kemu.elf``. What depends on addresses of other sections or on symbols
of other files becomes a relocation: R_E2K_64_ABS_LIT for 64-bit literals, R_E2K_DISP for branches
(the addend has the offset of CS0 in its wide instruction), R_E2K_64_ABS and R_E2K_32_ABS for data.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from e2kemu.cpu.asm import Assembler, Fixup
from e2kemu.cpu.asm_expr import Section, Symbol, evaluate
from e2kemu.cpu.asm_lexer import AsmError, Diagnostic, Place, Trouble
from e2kemu.elf import model
from e2kemu.elf.constants import Binding, SectionFlag, SectionType, Special, SymbolType, machine_named
from e2kemu.elf.linker import LinkOptions, link
from e2kemu.elf.writer import ObjectFile

_FLAGS = {"a": SectionFlag.ALLOC, "w": SectionFlag.WRITE, "x": SectionFlag.EXEC, "M": SectionFlag.MERGE,
          "S": SectionFlag.STRINGS, "T": SectionFlag.TLS}  # fmt: skip
_TYPES = {"function": SymbolType.FUNC, "STT_FUNC": SymbolType.FUNC, "object": SymbolType.OBJECT,
          "STT_OBJECT": SymbolType.OBJECT}  # fmt: skip
_BINDINGS = {"global": Binding.GLOBAL, "weak": Binding.WEAK}
_KINDS = {"lit64": "R_E2K_64_ABS_LIT", "disp": "R_E2K_DISP", "8": "R_E2K_64_ABS", "4": "R_E2K_32_ABS"}


DATA_ALIGN = 16
"""Least alignment of the standard data sections, as the vendor's assembler has it."""


class _Writer:
    """One source on its way into an object."""

    def __init__(self, assembler: Assembler, cpu: str | int, name: str) -> None:
        self.assembler = assembler
        self.file = ObjectFile(cpu, name=name)
        self.sections: dict[int, model.Section] = {}
        self.symbols: dict[int, model.Symbol] = {}
        self.diagnostics: list[Diagnostic] = []

    def write(self) -> ObjectFile:
        """The object. Raises AsmError."""
        for section in self.assembler.sections.values():
            self._section(section)
        for symbol in self.assembler.symbols.values():
            if not symbol.name.startswith(("\1", ".L")) and symbol.name != "":
                try:
                    self._define(symbol)
                except Trouble as trouble:
                    place = symbol.place or Place(self.file.name, 1, 1, "")
                    self.diagnostics.append(Diagnostic(place, trouble.reason))
        for fixup in self.assembler.fixups:
            try:
                self._fixup(fixup)
            except Trouble as trouble:
                self.diagnostics.append(Diagnostic(fixup.place, trouble.reason))
        if self.diagnostics:
            raise AsmError(self.diagnostics)
        return self.file

    def _section(self, section: Section) -> None:
        flags = SectionFlag(0)
        for letter in section.flags:
            flags |= _FLAGS.get(letter, SectionFlag(0))
        kind = SectionType.NOBITS if section.nobits else None
        align = (
            max(section.align, DATA_ALIGN) if section.name in (".data", ".rodata", ".bss") else section.align
        )
        made = self.file.section(section.name, flags, align, type=kind)
        if section.nobits:
            made.reserve(section.size)
        else:
            made.data += section.data
        self.sections[id(section)] = made

    def _define(self, symbol: Symbol) -> None:
        """Make the ELF symbol of ``symbol``, unless nothing defines or declares it."""
        value = evaluate(("sym", symbol))
        home: model.Section | Special = Special.UNDEFINED
        binding = _BINDINGS.get(symbol.binding, Binding.LOCAL)
        offset = 0
        if value is not None and value.base is None:
            home, offset = Special.ABSOLUTE, value.offset
        elif value is not None and isinstance(value.base, Section):
            home, offset = self.sections[id(value.base)], value.offset
        elif not symbol.binding:
            return
        self.symbols[id(symbol)] = self.file.symbol(
            symbol.name, home, offset, size=symbol.size, binding=binding,
            type=_TYPES.get(symbol.type, SymbolType.NOTYPE))  # fmt: skip

    def _target(self, base: Section | Symbol) -> model.Symbol:
        if isinstance(base, Section):
            return self.sections[id(base)].symbol
        if base.name.startswith("\1"):
            raise Trouble(f"symbol {base.readable} is not defined")
        if id(base) not in self.symbols:
            self.symbols[id(base)] = self.file.symbol(base.name, binding=Binding.GLOBAL)
        return self.symbols[id(base)]

    def _fixup(self, fixup: Fixup) -> None:
        section = self.sections[id(fixup.section)]
        value = evaluate(fixup.tree)
        if value is None:
            raise Trouble("the value depends on where the sections lie: no relocation can say that")
        if value.base is fixup.section and fixup.kind == "disp":
            fixup.store(section.data, value.offset - fixup.origin)
        elif value.base is None:
            if fixup.kind == "disp":
                raise Trouble("a branch to a number")
            fixup.store(section.data, value.offset)
        else:
            kind = _KINDS.get(fixup.kind)
            if kind is None:
                raise Trouble(f"no relocation has {fixup.kind} bytes")
            # a literal's relocation stands at its high word, which comes first
            offset = fixup.offset - 4 if fixup.kind == "lit64" else fixup.offset
            addend = value.offset + (fixup.offset - fixup.origin if fixup.kind == "disp" else 0)
            section.relocate(offset, kind, self._target(value.base), addend)


def assemble_object(
    text: str,
    *,
    cpu: str | int = "v4",
    filename: str = "<text>",
    include_path: Iterable[str | Path] = (),
    defines: dict[str, str] | None = None,
    strict_delay: bool = True,
) -> ObjectFile:
    """Assemble ``text`` into a relocatable object for ``cpu`` (v1..v7 or a CPU model). Raises AsmError,
    and OptionError for an unknown ``cpu``."""
    paths = tuple(Path(path) for path in include_path)
    assembler = Assembler(machine_named(cpu).version, paths, defines, strict_delay)
    assembler.run(text, filename)
    return _Writer(assembler, cpu, filename).write()


def executable(objects: Iterable[ObjectFile], base: int | None = None, name: str = "") -> bytes:
    """A static executable of ``objects`` that starts at ``_start``; ``base`` is the address of its code
    (None: behind the headers at 0x10000). Raises ImageError."""
    starts = {} if base is None else {".text": base}
    return link(list(objects), LinkOptions(starts=starts, name=name)).executable.to_bytes()
