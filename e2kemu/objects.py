"""Objects the user creates: ``-object TYPE,id=ID,...``, object_add and object-add.

A type registers itself with ``@user_object("tls-creds-x509")``; its class is called with the id, the
properties (text, as given) and the store (where it may look for objects it refers to) and raises OptionError
when they do not fit. It declares them in ``PROPERTIES``: from there come the checks and defaults
(``read_properties``), the help and the completion. ``ObjectStore`` holds the objects of one emulator by id.

Properties with a structure are written as QEMU's are: ``rules.0.match=bob,rules.0.policy=allow`` in an option
text, lists and objects in JSON; `flatten` turns the latter into the former, `numbered` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from e2kemu.errors import CommandError, OptionError
from e2kemu.options import parse_bool


@dataclass(frozen=True)
class Property:
    """What may be said of an object of some type."""

    name: str
    doc: str
    type: str = "string"
    """As the help shows it: "string", "bool" (on or off, which is checked), QEMU's name of an enumeration or struct."""
    default: str | None = None
    choices: tuple[str, ...] = ()
    """The values it takes; empty: any."""
    required: bool = False
    structured: bool = False
    """Given as ``name.0.member``, see ``numbered``."""

    def check(self, value: str) -> None:
        """Raises OptionError when it cannot be ``value``."""
        if self.type == "bool":
            parse_bool(value, self.name)
        elif self.choices and value not in self.choices:
            raise OptionError(f"Parameter '{self.name}' does not accept value '{value}'")

    def explain(self) -> str:
        """A line of help, in QEMU's layout."""
        values = f": {'|'.join(self.choices)}" if self.choices else ""
        default = f" (default: {self.default})" if self.default is not None else ""
        return f"{f'  {self.name}=<{self.type}>':24s} - {self.doc}{values}{default}"


class UserObject(Protocol):
    """What every user-created object has."""

    id: str

    def unload(self) -> None:
        """Called when the object is deleted. Raises OptionError while it is in use."""


class ObjectType(Protocol):
    """The class of such objects."""

    PROPERTIES: tuple[Property, ...]

    def __call__(self, ident: str, properties: Mapping[str, str], store: ObjectStore, /) -> UserObject:
        """Make one. Raises OptionError."""


T = TypeVar("T")

TYPES: dict[str, ObjectType] = {}
"""Registered types by name (``-object help``)."""


def user_object(name: str) -> Callable[[T], T]:
    """Class decorator: register the class as object type ``name``."""

    def register(factory: T) -> T:
        TYPES[name] = factory  # type: ignore[assignment]
        return factory

    return register


def find_type(name: str) -> ObjectType:
    """The type of that name. Raises OptionError."""
    if name not in TYPES:
        raise OptionError(f"invalid object type: {name}")
    return TYPES[name]


def read_properties(declared: tuple[Property, ...], given: Mapping[str, str]) -> dict[str, str]:
    """The properties as given, with defaults for those that are not. Raises OptionError.

    Wrong are one that is not declared, one that is missing, and a value that it cannot have.
    """
    known = {one.name: one for one in declared if not one.structured}
    heads = tuple(f"{one.name}." for one in declared if one.structured)
    check_properties((name for name in given if not name.startswith(heads)), known)
    for one in declared:
        if one.required:
            require_property(given, one.name)
    for name, value in given.items():
        if name in known:
            known[name].check(value)
    return {one.name: one.default for one in declared if one.default is not None} | dict(given)


def check_properties(properties: Iterable[str], known: Collection[str]) -> None:
    """Raises OptionError for the first property that is not ``known``."""
    for name in properties:
        if name not in known:
            raise OptionError(f"Invalid parameter '{name}'")


def require_property(properties: Mapping[str, str], name: str) -> str:
    """A property that has no default. Raises OptionError when it was not given."""
    if name not in properties:
        raise OptionError(f"Parameter '{name}' is missing")
    return properties[name]


def flatten(value: object, name: str) -> dict[str, str]:
    """A property given in JSON, as texts: members as ``name.member``, elements as ``name.0``, ``name.1``...

    Raises OptionError for null, which no property can be.
    """
    if isinstance(value, bool):
        return {name: "on" if value else "off"}
    if isinstance(value, str | int | float):
        return {name: str(value)}
    if isinstance(value, dict):
        members = list(value.items())
    elif isinstance(value, list):
        members = list(enumerate(value))
    else:
        raise OptionError(f"Invalid parameter type for '{name}', expected: string")
    flat: dict[str, str] = {}
    for key, member in members:
        flat |= flatten(member, f"{name}.{key}")
    return flat


def numbered(properties: Mapping[str, str], name: str) -> list[dict[str, str]]:
    """The objects ``name.0.member``, ``name.1.member``... Raises OptionError when a number is missing."""
    elements: dict[int, dict[str, str]] = {}
    for key, value in properties.items():
        if not key.startswith(f"{name}."):
            continue
        match = re.fullmatch(r"(0|[1-9][0-9]{0,8})\.([^.]+)", key[len(name) + 1 :])
        if match is None:
            raise OptionError(f"Invalid parameter '{key}'")
        elements.setdefault(int(match[1]), {})[match[2]] = value
    for position, number in enumerate(sorted(elements)):
        if position != number:
            raise OptionError(f"Parameter '{name}.{position}' is missing")
    return [elements[number] for number in sorted(elements)]


class ObjectStore:
    """The user-created objects of one emulator."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[str, UserObject]] = {}

    def __iter__(self) -> Iterator[tuple[str, str, UserObject]]:
        for ident, (type_name, instance) in self._objects.items():
            yield ident, type_name, instance

    def add(self, type_name: str, ident: str, properties: Mapping[str, str]) -> UserObject:
        """Create an object. Raises OptionError: unknown type, bad or taken id, wrong property."""
        kind = find_type(type_name)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", ident):
            raise OptionError("Parameter 'id' expects an identifier")
        if ident in self._objects:
            raise OptionError(f"attempt to add duplicate property '{ident}' to object (type 'container')")
        instance = kind(ident, properties, self)
        self._objects[ident] = (type_name, instance)
        return instance

    def get(self, ident: str) -> UserObject | None:
        """The object called ``ident``, or None."""
        entry = self._objects.get(ident)
        return entry[1] if entry else None

    def delete(self, ident: str) -> None:
        """Delete an object. Raises CommandError when there is none of that id."""
        entry = self._objects.get(ident)
        if entry is None:
            raise CommandError(f"object '{ident}' not found")
        entry[1].unload()
        del self._objects[ident]
