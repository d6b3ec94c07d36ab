"""The static linker: relocatable objects in, an executable with fixed addresses out.

    program = link([read_object(data, "a.o"), obj], LinkOptions(starts={".text": 0x200000}))
    program.executable.to_bytes()       # or .flat() for an image without headers

The steps: collect objects, and from archives those that define what is missing; choose one definition for
every global name; count the slots of the global offset table; lay sections out (:mod:`e2kemu.elf.layout`);
patch (:mod:`e2kemu.elf.relocations`). The objects are not changed: they may be linked again.

Every finding is one line, ``file: section+offset: what``; all findings of a step come together in one
:class:`LinkError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from struct import unpack_from

from e2kemu.elf.constants import Binding, SectionFlag, SectionType, Special, SymbolType, Value, merge_flags
from e2kemu.elf.executable import Executable
from e2kemu.elf.format import LAYOUTS, align_up
from e2kemu.elf.layout import Piece, assign, gather
from e2kemu.elf.model import DATA, Relocation, Section, Symbol
from e2kemu.elf.relocations import (
    GOT_VALUES,
    NEEDS_GOT,
    NOT_STATIC,
    THREAD_HEADER_WORDS,
    THREAD_VALUES,
    Operands,
    RelocationError,
    evaluate,
    patch,
)
from e2kemu.elf.symbols import Definition, Names
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import ImageError, one_line

GOT_SYMBOL = "_GLOBAL_OFFSET_TABLE_"
LINKER = "the linker"
"""Owner of what no file defines."""

_ALWAYS = ("__bss_start", "_edata", "_end")
_ARRAY_BOUNDS = ("preinit_array", "init_array", "fini_array")
_ADDRESS_VALUES = frozenset(
    {Value.SYMBOL, Value.PLACE, Value.BRANCH, Value.PREFETCH, Value.GOT_SLOT, Value.GOT_OFFSET}
)


class LinkError(ImageError):
    """What keeps the objects from being linked: ``problems`` has one line for each finding."""

    def __init__(self, problems: Sequence[str]) -> None:
        problems = [one_line(problem) for problem in problems]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


@dataclass(slots=True)
class LinkOptions:
    """What the user may choose.

    ``entry``: symbol or address; ``starts``: addresses of output sections; ``defines``: (name, ``symbol``,
    ``number`` or ``symbol+number``); ``undefined``: names to look for in archives; ``page``: bytes, between
    code and data; ``contiguous``: data directly after code; ``need_entry``: a program must say where it
    starts (a flat image need not).
    """

    entry: str | int = "_start"
    starts: dict[str, int] = field(default_factory=dict)
    defines: list[tuple[str, str]] = field(default_factory=list)
    undefined: list[str] = field(default_factory=list)
    page: int = 0x1000
    contiguous: bool = False
    need_entry: bool = True
    name: str = ""


@dataclass(slots=True)
class Program:
    """The result of a link."""

    executable: Executable
    pieces: list[Piece]
    addresses: dict[str, int]
    owners: dict[str, str]

    def map_text(self) -> str:
        """The map: every section with the files in it, every global symbol with its address and owner."""
        lines = [
            f"Entry {self.executable.entry:#018x}",
            "",
            "Sections",
            f"{'address':18} {'size':>18} align name",
        ]
        for section in self.executable.sections:
            lines.append(f"{section.address:#018x} {section.size:#18x} {section.align:5} {section.name}")
            lines += [
                f"{piece.address:#018x} {piece.source.size:#18x} {piece.source.align:5}   "
                f"{piece.source.name} {piece.owner}"
                for piece in self.pieces
                if piece.output is section
            ]
        lines += ["", "Symbols", f"{'address':18} name"]
        lines += [
            f"{address:#018x} {name} ({self.owners[name]})"
            for name, address in sorted(self.addresses.items(), key=lambda item: (item[1], item[0]))
        ]
        return "".join(one_line(line) + "\n" for line in lines)


def link(
    objects: Sequence[ObjectFile],
    options: LinkOptions | None = None,
    archives: Sequence[Sequence[ObjectFile]] = (),
) -> Program:
    """Link ``objects`` and what they need of ``archives``. Raises LinkError, or ImageError for what concerns
    no place.
    """
    try:
        return _Link(objects, options or LinkOptions(), archives).run()
    except LinkError:
        raise
    except ImageError as error:
        raise ImageError(one_line(str(error))) from None


class _Link:
    """One link."""

    def __init__(
        self, objects: Sequence[ObjectFile], options: LinkOptions, archives: Sequence[Sequence[ObjectFile]]
    ) -> None:
        members = [member for archive in archives for member in archive]
        if not objects and not members:
            raise ImageError("no objects to link")
        self.options = options
        self.inputs = objects
        self.archives = archives
        self.bits = (objects or members)[0].bits
        self.names = Names(self.bits)
        self.problems = self.names.problems
        self.slots: dict[tuple[Value, object], int] = {}
        self.slot_symbols: list[tuple[Value, Symbol | None]] = []
        self.needs_got = False

    def run(self) -> Program:
        for object in self.inputs:
            self.names.add(object)
        for name, _ in self.options.defines:
            self.names.define(Symbol(name, Special.ABSOLUTE, binding=Binding.GLOBAL), "--defsym", None)
        entry = [self.options.entry] if isinstance(self.options.entry, str) else []
        self.names.add_from_archives(self.archives, entry + self.options.undefined)
        self._stop_on_problems()
        flags = merge_flags((object.name, object.e_flags) for object in self.names.objects)
        extra = [(LINKER, section) for section in self.names.commons()]
        referenced = self._scan()
        got = self._make_got()
        if got is not None:
            extra.append((LINKER, got))
        inputs = [
            (o.name, s) for o in self.names.objects for s in o.sections if id(s) not in self.names.dropped
        ]
        outputs, self.pieces = gather(inputs + extra)
        self.placed = {id(piece.source): piece for piece in self.pieces}
        mapped = assign(
            outputs,
            self.options.starts,
            bits=self.bits,
            page=self.options.page,
            contiguous=self.options.contiguous,
        )
        self._find_thread_image(outputs)
        self._define_own(outputs, referenced, got)
        self._check_undefined()
        self._stop_on_problems()
        self._evaluate_defines()
        if got is not None:
            self._fill_got(got)
        self._relocate(got)
        self._stop_on_problems()
        executable = Executable(
            bits=self.bits, name=self.options.name, page=self.options.page, map_headers=mapped
        )
        executable.e_flags = flags
        executable.sections = [s for s in outputs if s.size or s.flags & SectionFlag.ALLOC]
        executable.entry = self._entry()
        executable.symbols = list(self._output_symbols())
        addresses = {
            name: address
            for name, d in self.names.definitions.items()
            if (address := self._address(d.symbol)) is not None
        }
        return Program(
            executable, self.pieces, addresses, {name: d.owner for name, d in self.names.definitions.items()}
        )

    def _stop_on_problems(self) -> None:
        if self.problems:
            raise LinkError(self.problems)

    def _address(self, symbol: Symbol) -> int | None:
        """The address of a resolved symbol; None if its section is not in the program."""
        if isinstance(symbol.section, Special):
            return symbol.value if symbol.section is Special.ABSOLUTE else 0
        piece = self.placed.get(id(symbol.section))
        return None if piece is None else piece.address + symbol.value

    # --- relocations ---

    def _relocations(self) -> Iterator[tuple[ObjectFile, Section, Relocation]]:
        for object in self.names.objects:
            for section in object.sections:
                if id(section) not in self.names.dropped:
                    for relocation in section.relocations:
                        yield object, section, relocation

    def _scan(self) -> set[str]:
        """Names that relocations mention; allots the slots of the global offset table on the way."""
        mentioned = {
            name for _, text in self.options.defines for name in re.findall(r"[A-Za-z_.$][\w.$]*", text)
        }
        for _, _, r in self._relocations():
            mentioned.add(r.symbol.name)
            self.needs_got |= r.kind.value in NEEDS_GOT
            if r.kind.value in GOT_VALUES:
                key = self._slot_key(r)
                if key not in self.slots:
                    self.slots[key] = len(self.slot_symbols)
                    module = r.kind.value is Value.GOT_MODULE
                    self.slot_symbols.append((r.kind.value, None if module else r.symbol))
        return mentioned

    def _slot_key(self, r: Relocation) -> tuple[Value, object]:
        """All symbols share the slot of the module id: a static program is one module."""
        if r.kind.value is Value.GOT_MODULE:
            return r.kind.value, None
        return r.kind.value, id(r.symbol) if r.symbol.binding == Binding.LOCAL else r.symbol.name

    def _make_got(self) -> Section | None:
        if not self.needs_got and all(s.name != GOT_SYMBOL for o in self.names.objects for s in o.symbols):
            return None
        word = LAYOUTS[self.bits].word
        got = Section(".got", DATA, word, entsize=word)
        got.reserve(word * max(len(self.slot_symbols), 1))
        return got

    def _find_thread_image(self, outputs: list[Section]) -> None:
        thread = [s for s in outputs if s.flags & SectionFlag.TLS and s.flags & SectionFlag.ALLOC]
        self.thread_start = self.thread_pointer = 0
        if thread:
            self.thread_start = min(s.address for s in thread)
            header = THREAD_HEADER_WORDS * LAYOUTS[self.bits].word
            self.thread_pointer = self.thread_start - align_up(header, max(s.align for s in thread))

    def _fill_got(self, got: Section) -> None:
        word = LAYOUTS[self.bits].word
        piece = self.placed[id(got)]
        for number, (value, mention) in enumerate(self.slot_symbols):
            if mention is None:
                content = 1
            else:
                symbol = self.names.resolve(mention)
                base = {Value.GOT_DTPREL: self.thread_start, Value.GOT_TPREL: self.thread_pointer}.get(
                    value, 0
                )
                content = (self._address(symbol) or 0) - base
                if symbol.section is Special.UNDEFINED:
                    content = 0
            at = piece.offset + word * number
            piece.output.data[at : at + word] = (content % (1 << self.bits)).to_bytes(word, "little")

    def _check_undefined(self) -> None:
        """One line for every name that is missing, at the first place that mentions it."""
        reported: set[tuple[int, str]] = set()
        for object, section, r in self._relocations():
            symbol = self.names.resolve(r.symbol)
            if (
                symbol.section is Special.UNDEFINED
                and symbol.name
                and r.symbol.binding != Binding.WEAK
                and r.kind.value is not Value.NOTHING
                and (id(object), symbol.name) not in reported
            ):
                reported.add((id(object), symbol.name))
                self.problems.append(
                    f"{object.name}: {section.name}+{r.offset:#x}: undefined symbol '{symbol.name}'"
                )

    def _relocate(self, got: Section | None) -> None:
        got_address = self.placed[id(got)].address if got is not None else 0
        for object, section, r in self._relocations():
            piece = self.placed.get(id(section))
            if piece is None or r.kind.value is Value.NOTHING:
                continue
            symbol = self.names.resolve(r.symbol)
            try:
                self._relocate_one(object, piece, r, symbol, got_address)
            except RelocationError as error:
                name = symbol.name or (
                    symbol.section.name if isinstance(symbol.section, Section) else "nothing"
                )
                self.problems.append(
                    f"{object.name}: {section.name}+{r.offset:#x}: {r.kind.name} against '{name}': {error}"
                )

    def _relocate_one(
        self, object: ObjectFile, piece: Piece, r: Relocation, symbol: Symbol, got_address: int
    ) -> None:
        value = r.kind.value
        allocated = bool(piece.source.flags & SectionFlag.ALLOC)
        address = self._address(symbol)
        if address is None and allocated and value not in NOT_STATIC:
            raise RelocationError("it is in a section that was left out")
        if symbol.type == SymbolType.GNU_IFUNC and value in _ADDRESS_VALUES:
            raise RelocationError("an indirect function " + NOT_STATIC[Value.RESOLVER])
        thread = symbol.type == SymbolType.TLS or (
            isinstance(symbol.section, Section) and bool(symbol.section.flags & SectionFlag.TLS)
        )
        undefined = symbol.section is Special.UNDEFINED
        if value in THREAD_VALUES and not thread and not undefined:
            raise RelocationError("it is not thread-local")
        if value in _ADDRESS_VALUES and thread and allocated and not undefined:
            raise RelocationError("it is thread-local and has no address of its own")
        data = piece.output.data
        at = piece.offset + r.offset
        slot = 0
        if value in GOT_VALUES:
            slot = got_address + LAYOUTS[self.bits].word * self.slots[self._slot_key(r)]
        old = unpack_from("<I", data, at)[0] if r.kind.field.size >= 4 else 0
        definition = self.names.definitions.get(symbol.name) if r.symbol.binding != Binding.LOCAL else None
        # A weak symbol that nobody defines has offset 0 in every sense, as its address is 0.
        base = 0 if undefined else None
        patch(
            data,
            at,
            r.kind,
            evaluate(
                r.kind,
                Operands(
                    symbol=address or 0,
                    addend=r.addend,
                    place=piece.address + r.offset,
                    size=symbol.size,
                    got=got_address,
                    slot=slot,
                    thread_start=self.thread_start if base is None else base,
                    thread_pointer=self.thread_pointer if base is None else base,
                    defined=not undefined,
                    same_object=not undefined and (definition is None or definition.object is object),
                    old=old,
                ),
            ),
        )

    # --- what the linker itself defines ---

    def _define_own(self, outputs: list[Section], mentioned: set[str], got: Section | None) -> None:
        loaded = [
            s
            for s in outputs
            if s.flags & SectionFlag.ALLOC
            and not (s.flags & SectionFlag.TLS and s.type == SectionType.NOBITS)
        ]
        code = [s for s in loaded if s.flags & SectionFlag.EXEC]
        filled = [s for s in loaded if s.type != SectionType.NOBITS]
        zeros = [s for s in loaded if s.type == SectionType.NOBITS]
        data_end = max(
            (s.end for s in filled if s.flags & SectionFlag.WRITE),
            default=max((s.end for s in filled), default=0),
        )
        end = align_up(max((s.end for s in loaded), default=0), 8)
        own = {
            "__bss_start": min((s.address for s in zeros), default=data_end),
            "_edata": data_end,
            "_end": end,
            "edata": data_end,
            "end": end,
            "__executable_start": min((s.address for s in loaded), default=0),
        }
        own |= dict.fromkeys(("etext", "_etext", "__etext"), max((s.end for s in code), default=0))
        if got is not None:
            own[GOT_SYMBOL] = self.placed[id(got)].address
        bounds = dict.fromkeys(_ARRAY_BOUNDS, (0, 0))
        for section in loaded:
            if section.name.isidentifier():
                own[f"__start_{section.name}"], own[f"__stop_{section.name}"] = section.address, section.end
            if section.name[1:] in bounds:
                bounds[section.name[1:]] = section.address, section.end
        for name, (first, last) in bounds.items():
            own[f"__{name}_start"], own[f"__{name}_end"] = first, last
        for name, address in own.items():
            if name in _ALWAYS or name in mentioned or self.options.entry == name:
                symbol = Symbol(name, Special.ABSOLUTE, address, binding=Binding.GLOBAL)
                if name not in self.names.definitions:
                    self.names.definitions[name] = Definition(symbol, LINKER)

    def _evaluate_defines(self) -> None:
        for name, text in self.options.defines:
            symbol = self.names.definitions[name].symbol
            symbol.value = self._expression(f"--defsym {name}", text) % (1 << self.bits)

    def _expression(self, what: str, text: str) -> int:
        """A number, a symbol, or a symbol plus or minus a number."""
        for sign, operator in ((1, "+"), (-1, "-")):
            left, found, right = text.rpartition(operator)
            if found and left.strip() and (number := parse_number(right)) is not None:
                return self._expression(what, left) + sign * number
        value = parse_number(text)
        if value is None:
            definition = self.names.definitions.get(text.strip())
            value = self._address(definition.symbol) if definition is not None else None
        if value is None:
            raise ImageError(f"{what}: '{text.strip()}' is neither a number nor a defined symbol")
        return value

    def _entry(self) -> int:
        entry = self.options.entry
        if isinstance(entry, int):
            return entry
        definition = self.names.definitions.get(entry)
        address = self._address(definition.symbol) if definition is not None else None
        if address is None:
            if self.options.need_entry:
                raise ImageError(f"the entry '{entry}' is not defined: define it or name another with -e")
            return 0
        return address

    def _output_symbols(self) -> Iterator[Symbol]:
        chosen = {id(d.symbol) for d in self.names.definitions.values()}
        for object in self.names.objects:
            local = [s for s in object.symbols if s.binding == Binding.LOCAL and s.type != SymbolType.SECTION]
            if any(s.type != SymbolType.FILE for s in local) and all(
                s.type != SymbolType.FILE for s in local
            ):
                yield Symbol(object.name, Special.ABSOLUTE, type=SymbolType.FILE)
            for symbol in local:
                if symbol.defined and id(symbol) not in chosen and (copy := self._final(symbol)) is not None:
                    yield copy
        for d in self.names.definitions.values():
            if (copy := self._final(d.symbol)) is not None:
                yield copy

    def _final(self, symbol: Symbol) -> Symbol | None:
        """The symbol as it stands in the executable; None if its section is not there."""
        section, value = symbol.section, symbol.value
        if isinstance(section, Section):
            piece = self.placed.get(id(section))
            if piece is None:
                return None
            section, value = piece.output, piece.offset + value
        return Symbol(
            symbol.name, section, value, symbol.size, symbol.binding, symbol.type, symbol.visibility
        )


def parse_number(text: str) -> int | None:
    """A number as the options take it (``4096``, ``0x1000``); None if it is none."""
    try:
        return int(text.strip(), 0)
    except ValueError:
        return None
