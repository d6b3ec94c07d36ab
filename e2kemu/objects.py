"""Objects the user creates: ``-object TYPE,id=ID,...``, object_add and object-add.

A type registers itself with ``@user_object("tls-creds-x509")``; its class is called with the id and
the properties (text, as given) and raises OptionError when they do not fit. ``ObjectStore`` holds the
objects of one emulator by id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from e2kemu.errors import CommandError, OptionError


class UserObject(Protocol):
    """What every user-created object has."""

    id: str

    def unload(self) -> None:
        """Called when the object is deleted. Raises OptionError while it is in use."""


Factory = Callable[[str, Mapping[str, str]], UserObject]
T = TypeVar("T")

TYPES: dict[str, Factory] = {}
"""Registered types by name (``-object help``)."""


def user_object(name: str) -> Callable[[T], T]:
    """Class decorator: register the class as object type ``name``."""

    def register(factory: T) -> T:
        TYPES[name] = factory  # type: ignore[assignment]
        return factory

    return register


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
        instance = TYPES[type_name](ident, properties)
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
