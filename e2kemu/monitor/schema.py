"""Types of the machine protocol (QMP): arguments checked, results encoded, the schema told to clients.

A type is a ``Qapi`` struct (msgspec); a Python name ``max_bandwidth`` is ``max-bandwidth`` on the wire, a
trailing underscore is dropped. An optional member has the default ``UNSET`` (left out of results) or a
value of its own. msgspec does the conversion; when it refuses, ``check`` finds the culprit again and says
it in QEMU's words::

    Parameter 'uri' is missing                      Parameter 'foo' is unexpected
    Invalid parameter type for 'a[0].b', expected: string
    Parameter 'state' does not accept value 'zz'
"""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from e2kemu.errors import CommandError

__all__ = ["UNSET", "Qapi", "Schema", "UnsetType", "arguments_of", "check", "encode", "wire_name"]

BUILTINS = {
    str: ("str", "string"),
    bool: ("bool", "boolean"),
    int: ("int", "int"),
    float: ("number", "number"),
}
"""QAPI's name and JSON type of the built-in types."""

S = TypeVar("S", bound=msgspec.Struct)


def wire_name(name: str) -> str:
    """The name on the wire of a Python name."""
    return name.rstrip("_").replace("_", "-")


class Qapi(msgspec.Struct, rename=wire_name, forbid_unknown_fields=True):
    """Base of the types of commands, results and events."""


def arguments_of(handler: Callable[..., Any], rename: Mapping[str, str]) -> type[msgspec.Struct]:
    """The argument struct of a handler, from its signature without the first parameter (the context).

    ``rename`` gives wire names that are not the kebab-case of the parameter's.
    """
    hints = typing.get_type_hints(handler, include_extras=True)
    fields: list[Any] = []
    for parameter in list(inspect.signature(handler).parameters.values())[1:]:
        annotation = hints[parameter.name]
        name = rename.get(parameter.name, wire_name(parameter.name))
        default = msgspec.NODEFAULT if parameter.default is parameter.empty else parameter.default
        fields.append((parameter.name, annotation, msgspec.field(default=default, name=name)))
    return msgspec.defstruct(
        f"{handler.__name__}-arg", fields, module=__name__, forbid_unknown_fields=True, kw_only=True
    )


def check(values: object, kind: type[S]) -> S:
    """``values`` (parsed JSON) as a ``kind``. Raises CommandError that names the wrong member."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise CommandError(_locate(values, kind, "") or str(error)) from error


def encode(value: object) -> Any:
    """A result as plain JSON values; None is the empty object."""
    return {} if value is None else msgspec.to_builtins(value, str_keys=True)


def _locate(value: object, kind: Any, path: str) -> str | None:
    """What is wrong with ``value``, in QEMU's words; None: nothing found."""
    kind = _plain(kind)
    if _accepts(value, kind):
        return None
    options = _alternatives(kind)
    if len(options) > 1:
        # Look into the alternative whose JSON type fits; else the value as a whole is wrong.
        fitting = [option for option in options if _fits(value, option)]
        if len(fitting) == 1:
            return _locate(value, fitting[0], path)
        return _wrong_type(path, " or ".join(_json_type(option) for option in options))
    kind = options[0]
    if not _fits(value, kind):
        return _wrong_type(path, _json_type(kind))
    if _is_struct(kind) and isinstance(value, Mapping):
        return _locate_member(value, kind, path)
    if typing.get_origin(kind) is list and isinstance(value, list):
        element = typing.get_args(kind)[0]
        for index, item in enumerate(value):
            if found := _locate(item, element, f"{path}[{index}]"):
                return found
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        for key, item in value.items():
            if found := _locate(item, typing.get_args(kind)[1], _join(path, str(key))):
                return found
    if _enum_values(kind):
        # QEMU tells the member's own name here, without the way to it.
        return f"Parameter '{path.rpartition('.')[2]}' does not accept value '{value}'"
    if isinstance(value, int):
        return f"Parameter '{path}' is out of range"
    return _wrong_type(path, _json_type(kind))


def _locate_member(value: Mapping[str, object], kind: type[msgspec.Struct], path: str) -> str | None:
    fields = msgspec.structs.fields(kind)
    for field in fields:
        if field.encode_name not in value:
            if field.required:
                return f"Parameter '{_join(path, field.encode_name)}' is missing"
        elif found := _locate(value[field.encode_name], field.type, _join(path, field.encode_name)):
            return found
    if not kind.__struct_config__.forbid_unknown_fields:
        return None
    known = {field.encode_name for field in fields}
    unexpected = next((key for key in value if key not in known), None)
    return None if unexpected is None else f"Parameter '{_join(path, unexpected)}' is unexpected"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong_type(path: str, expected: str) -> str:
    if not path:
        return f"Invalid parameter type, expected: {expected}"
    return f"Invalid parameter type for '{path}', expected: {expected}"


def _accepts(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _plain(kind: Any) -> Any:
    return kind.__origin__ if hasattr(kind, "__metadata__") and not isinstance(kind, type) else kind


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union without UNSET; a plain type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [_plain(option) for option in typing.get_args(kind) if option is not UnsetType]
    return [kind]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _enum_values(kind: Any) -> list[str]:
    if typing.get_origin(kind) is typing.Literal:
        return [str(value) for value in typing.get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [str(member.value) for member in kind]
    return []


def _json_type(kind: Any) -> str:
    """The JSON type name QEMU uses for a Python type."""
    origin = typing.get_origin(kind) or kind
    if _is_struct(kind) or origin is dict:
        return "object"
    if _enum_values(kind):
        return "string"
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return names.get(origin, "null" if kind is types.NoneType else "value")


def _fits(value: object, kind: Any) -> bool:
    """Has ``value`` the JSON type of ``kind``?"""
    wanted = _json_type(kind)
    if wanted == "value":
        return True
    actual = {
        str: {"string"}, bool: {"boolean"}, int: {"integer", "number"}, float: {"number"},
        list: {"array"}, dict: {"object"}, types.NoneType: {"null"},
    }  # fmt: skip
    return wanted in actual.get(type(value), set())


def _member_type(field: msgspec.structs.FieldInfo) -> Any:
    """The type of a member; None as the default is how a handler calls what is left out, and no value."""
    options = [option for option in _alternatives(field.type) if option is not types.NoneType]
    return options[0] if field.default is None and len(options) == 1 else field.type


class Schema:
    """Collects what ``query-qmp-schema`` tells: QAPI introspection records."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}

    def entries(self) -> list[dict[str, Any]]:
        """All records."""
        return list(self._entries.values())

    def command(self, name: str, arguments: type[msgspec.Struct], result: Any, *, oob: bool) -> None:
        """Add a command and the types it uses."""
        self._entries[f":{name}"] = {
            "name": name,
            "meta-type": "command",
            "arg-type": self._type(arguments),
            "ret-type": self._type(result),
            "allow-oob": oob,
        }

    def event(self, name: str, arguments: type[msgspec.Struct] | None) -> None:
        """Add an event and the types it uses."""
        kind = self._type(arguments)
        self._entries[f"!{name}"] = {"name": name, "meta-type": "event", "arg-type": kind}

    def _add(self, name: str, meta: str, **members: object) -> str:
        self._entries[name] = {"name": name, "meta-type": meta, **members}
        return name

    def _type(self, kind: Any) -> str:
        kind = _plain(kind)
        options = _alternatives(kind)
        if kind in (None, types.NoneType):
            return self._add("empty", "object", members=[])
        if len(options) > 1:
            names = [self._null() if option is types.NoneType else self._type(option) for option in options]
            name = "Or".join(re.sub(r"\W", "", part).title() for part in names)
            return self._add(name, "alternate", members=[{"type": part} for part in names])
        kind = options[0]
        if _is_struct(kind):
            return self._struct(kind)
        if values := _enum_values(kind):
            name = kind.__name__ if isinstance(kind, type) else "enum-" + "-".join(values)
            return self._add(name, "enum", members=[{"name": value} for value in values], values=values)
        if typing.get_origin(kind) is list or kind is list:
            arguments = typing.get_args(kind)
            element = self._type(arguments[0] if arguments else Any)
            return self._add(f"[{element}]", "array", **{"element-type": element})
        name, json = BUILTINS.get(kind, ("any", "value"))
        return self._add(name, "builtin", **{"json-type": json})

    def _null(self) -> str:
        """JSON's null as an alternative to something else."""
        return self._add("null", "builtin", **{"json-type": "null"})

    def _struct(self, kind: type[msgspec.Struct]) -> str:
        name = kind.__name__
        if name not in self._entries:
            self._add(name, "object", members=[])  # first, in case the type contains itself
            members: list[dict[str, Any]] = []
            for field in msgspec.structs.fields(kind):
                member: dict[str, Any] = {"name": field.encode_name, "type": self._type(_member_type(field))}
                if not field.required:
                    member["default"] = None
                members.append(member)
            self._entries[name]["members"] = members
        return name
