"""Names across objects: which objects and sections are in the program, and how each global name is defined.

The strongest definition wins: a global symbol, then the largest common block, then the first weak symbol. Two
global symbols of one name are a finding in ``problems``. Of the sections of one COMDAT group the first copy
stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e2kemu.elf.constants import Binding, SectionFlag, SectionType, Special, SymbolType
from e2kemu.elf.format import align_up
from e2kemu.elf.model import DATA, Section, Symbol
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import ImageError


@dataclass(eq=False, slots=True)
class Definition:
    """The definition chosen for a global name, and the file that has it."""

    symbol: Symbol
    owner: str
    object: ObjectFile | None = None


def _strength(symbol: Symbol) -> int:
    """Which of two definitions wins: undefined, weak, common, global."""
    if symbol.section is Special.UNDEFINED:
        return 0
    if symbol.section is Special.COMMON:
        return 2
    return 1 if symbol.binding == Binding.WEAK else 3


class Names:
    """The objects of a link and their global names.

    ``dropped`` has the ids of sections of COMDAT groups that another object has already given.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.objects: list[ObjectFile] = []
        self.definitions: dict[str, Definition] = {}
        self.dropped: set[int] = set()
        self.problems: list[str] = []
        self._groups: set[str] = set()

    def add(self, object: ObjectFile) -> None:
        """Take an object into the program."""
        if object.bits != self.bits:
            raise ImageError(
                f"{object.name}: {object.layout_name} does not link with {self.objects[0].name}, "
                f"which is {self.objects[0].layout_name}"
            )
        self.objects.append(object)
        groups = {section.group for section in object.sections if section.group is not None}
        self.dropped |= {id(section) for section in object.sections if section.group in groups & self._groups}
        self._groups |= groups
        for symbol in object.symbols:
            if symbol.binding == Binding.LOCAL:
                if symbol.section is Special.COMMON:
                    self.problems.append(f"{object.name}: the common symbol '{symbol.name}' is local")
            elif isinstance(symbol.section, Special) or id(symbol.section) not in self.dropped:
                self.define(symbol, object.name, object)

    def define(self, symbol: Symbol, owner: str, object: ObjectFile | None) -> None:
        """Enter a definition (or a mention) of a global name; the strongest stays."""
        old = self.definitions.get(symbol.name)
        new = Definition(symbol, owner, object)
        if old is None:
            if symbol.section is not Special.UNDEFINED:
                self.definitions[symbol.name] = new
            return
        before, now = _strength(old.symbol), _strength(symbol)
        if before == now == 3:
            self.problems.append(
                f"{owner}: {_place(symbol)}: symbol '{symbol.name}' is already defined in {old.owner} "
                f"({_place(old.symbol)})"
            )
        elif before == now == 2:
            # The larger of two common blocks; aligned for both.
            keep = new if symbol.size > old.symbol.size else old
            s = keep.symbol
            self.definitions[symbol.name] = Definition(
                Symbol(
                    s.name,
                    s.section,
                    max(symbol.value, old.symbol.value),
                    s.size,
                    s.binding,
                    s.type,
                    s.visibility,
                ),
                keep.owner,
                keep.object,
            )
        elif now > before:
            self.definitions[symbol.name] = new

    def add_from_archives(self, archives: Sequence[Sequence[ObjectFile]], wanted: list[str]) -> None:
        """Take those members of ``archives`` that define a name in ``wanted`` or one that is missing."""
        index: dict[str, ObjectFile] = {}
        for archive in archives:
            for member in archive:
                for symbol in member.symbols:
                    if symbol.binding != Binding.LOCAL and symbol.section is not Special.UNDEFINED:
                        index.setdefault(symbol.name, member)
        if not index:
            return
        wanted = [*wanted]
        taken: set[int] = set()
        done = 0
        while wanted or done < len(self.objects):
            for object in self.objects[done:]:
                wanted += [
                    s.name
                    for s in object.symbols
                    if s.section is Special.UNDEFINED and s.binding == Binding.GLOBAL
                ]
            done = len(self.objects)
            for name in wanted:
                if name not in self.definitions and name in index and id(index[name]) not in taken:
                    taken.add(id(index[name]))
                    self.add(index[name])
            wanted = []

    def commons(self) -> list[Section]:
        """Give the common symbols a place among the zeros."""
        zeros = Section(".bss", DATA, type=SectionType.NOBITS)
        thread = Section(".tbss", DATA | SectionFlag.TLS, type=SectionType.NOBITS)
        for d in self.definitions.values():
            if d.symbol.section is Special.COMMON:
                section = thread if d.symbol.type == SymbolType.TLS else zeros
                align = max(d.symbol.value, 1)
                section.align = max(section.align, align)
                section.reserve(align_up(section.size, align) - section.size)
                type = SymbolType.OBJECT if d.symbol.type == SymbolType.COMMON else d.symbol.type
                d.symbol = Symbol(
                    d.symbol.name,
                    section,
                    section.reserve(d.symbol.size),
                    d.symbol.size,
                    d.symbol.binding,
                    type,
                    d.symbol.visibility,
                )
        return [section for section in (zeros, thread) if section.size]

    def resolve(self, symbol: Symbol) -> Symbol:
        """What a mention of ``symbol`` means."""
        if symbol.binding == Binding.LOCAL:
            return symbol
        definition = self.definitions.get(symbol.name)
        return symbol if definition is None else definition.symbol


def _place(symbol: Symbol) -> str:
    return f"{symbol.section.name}+{symbol.value:#x}" if isinstance(symbol.section, Section) else "absolute"
