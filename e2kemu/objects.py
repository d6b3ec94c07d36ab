"""Objects the user creates: ``-object TYPE,id=ID,...``, object_add and object-add.

A type registers itself with ``@user_object("tls-creds-x509")``; its class is called with the id, the
properties (text, as given) and the store (where it may look for objects it refers to) and raises OptionError
when they do not fit. ``ObjectStore`` holds the objects of one emulator by id.

Properties with a structure are written as QEMU's are: ``rules.0.match=bob,rules.0.policy=allow`` in an option
text, lists and objects in JSON; `flatten` turns the latter into the former, `numbered` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from e2kemu.errors import CommandError, OptionError


class UserObject(Protocol):
    """What every user-created object has."""

    id: str

    def unload(self) -> None:
        """Called when the object is deleted. Raises OptionError while it is in use."""


Factory = Callable[[str, Mapping[str, str], "ObjectStore"], UserObject]
T = TypeVar("T")

TYPES: dict[str, Factory] = {}
"""Registered types by name (``-object help``)."""


def user_object(name: str) -> Callable[[T], T]:
    """Class decorator: register the class as object type ``name``."""

    def register(factory: T) -> T:
        TYPES[name] = factory  # type: ignore[assignment]
        return factory

    return register


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
        if type_name not in TYPES:
            raise OptionError(f"invalid object type: {type_name}")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", ident):
            raise OptionError("Parameter 'id' expects an identifier")
        if ident in self._objects:
            raise OptionError(f"attempt to add duplicate property '{ident}' to object (type 'container')")
        instance = TYPES[type_name](ident, properties, self)
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
