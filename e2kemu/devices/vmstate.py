"""vmstate: a device declares its state once; this saves it, loads it and describes it, as QEMU does.

The body of a FULL section is the fields in the order of the list, without tags or padding, then the
subsections that are needed (migration stream, "vmstate encoding"):

    field ... field { 05 string8:"parent/child" be32:version field ... }...

| here                         | type in the vmdescription | bytes                                    |
|------------------------------|---------------------------|------------------------------------------|
| boolean u8 .. u64 i8 .. i64  | bool, uint8 .. int64      | 1, 2, 4, 8, big endian                   |
| equal(f)                     | "uint8 equal" ...         | as f; must be the value that is here     |
| at_most(i32)                 | "int32 le"                | 4; must not be above the value here      |
| timer                        | timer                     | be64 expiry in ns, all ones: not armed   |
| buffer, vbuffer              | buffer                    | the bytes; as many as an earlier field   |
| unused                       | unused_buffer             | zeroes, skipped                          |
| bitmap                       | bitmap                    | ceil(n/64) be64, bit 0 in the first      |
| struct                       | struct                    | the fields of another VMState, no header |
| array, varray                | that of the element       | elements back to back                    |
| pointers                     | that of the element       | element, or 0x30 where there is none     |
| sequence                     | qtailq                    | 01 element ... 00                        |

Pure bytes: nothing here knows of sockets, section ids or footers. A field's name is the attribute's
(dots reach into parts: "queue.count") and what the vmdescription shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from e2kemu.devices.vmstate_codecs import (
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Array,
    Bitmap,
    Bool,
    Buffer,
    Checked,
    Codec,
    Int,
    ListCodec,
    Pointers,
    Struct,
    TimerCodec,
    Unused,
    get_path,
    resolve,
)
from e2kemu.errors import StreamError
from e2kemu.wire import Reader, Writer

SUBSECTION = 0x05
"""The byte before a subsection (QEMU_VM_SUBSECTION)."""

Hook = str | Callable[..., Any]
"""A method's name, or a function that gets the object first."""


def _call(hook: Hook, obj: Any, *args: Any) -> Any:
    return getattr(obj, hook)(*args) if isinstance(hook, str) else hook(obj, *args)


# -- fields -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """One field: ``name`` in the vmdescription, the attribute ``attr`` of the object, its ``codec``.

    It is there when ``min_version`` <= the version loaded, or, when ``exists`` is given, exactly when
    ``exists(obj, version)`` is true.
    """

    name: str
    codec: Codec
    attr: str = ""
    min_version: int = 0
    exists: Hook | None = None

    @property
    def path(self) -> str:
        """The attribute, with dots."""
        return self.attr or self.name

    def since(self, version: int) -> Field:
        """The same field, which came with ``version``."""
        return replace(self, min_version=version)

    def when(self, exists: Hook) -> Field:
        """The same field, there only when ``exists(obj, version)``."""
        return replace(self, exists=exists)

    def of(self, attr: str) -> Field:
        """The same field, kept in attribute ``attr``."""
        return replace(self, attr=attr)

    def vm_field(self) -> Field:
        """Itself: what everything in a list of fields can turn into."""
        return self

    def is_there(self, obj: Any, version: int) -> bool:
        """Whether a stream of ``version`` has it."""
        if self.exists is not None:
            return bool(_call(self.exists, obj, version))
        return self.min_version <= version


class FieldLike(Protocol):
    """What may stand in a list of fields: a Field, or something (a device's Reg) that gives one."""

    def vm_field(self) -> Field:
        """The field."""


def _maker(codec: Codec) -> Callable[[str], Field]:
    return lambda name: Field(name, codec)


u8, u16, u32, u64 = _maker(U8), _maker(U16), _maker(U32), _maker(U64)
i8, i16, i32, i64 = _maker(I8), _maker(I16), _maker(I32), _maker(I64)
boolean = _maker(Bool())
timer = _maker(TimerCodec())

BUFFER_LIMIT = 1 << 24
"""The most bytes or elements that a count in a stream can ask for, where no smaller limit is given."""


def equal(field: Field) -> Field:
    """An integer field whose value must be the one here."""
    assert isinstance(field.codec, Int)
    return replace(field, codec=Checked(field.codec, "equal"))


def at_most(field: Field) -> Field:
    """An integer field whose value must not be above the one here."""
    assert isinstance(field.codec, Int)
    return replace(field, codec=Checked(field.codec, "le"))


def buffer(name: str, size: int) -> Field:
    """``size`` bytes."""
    return Field(name, Buffer(size, size))


def vbuffer(name: str, count: str, limit: int = BUFFER_LIMIT) -> Field:
    """As many bytes as the earlier field ``count`` says."""
    return Field(name, Buffer(count, limit))


def unused(size: int) -> Field:
    """``size`` bytes of nothing."""
    return Field("unused", Unused(size))


def bitmap(name: str, bits: int) -> Field:
    """``bits`` bits in one integer."""
    return Field(name, Bitmap(bits))


def struct(name: str, vmstate: VMState, version: int | None = None) -> Field:
    """A part with its own VMState."""
    return Field(name, Struct(vmstate, version))


def array(field: Field, count: int) -> Field:
    """``count`` times ``field``."""
    return replace(field, codec=Array(field.codec, count, count))


def varray(field: Field, count: str, limit: int = BUFFER_LIMIT) -> Field:
    """``field`` as many times as the earlier field ``count`` says."""
    return replace(field, codec=Array(field.codec, count, limit))


def pointers(field: Field, count: int) -> Field:
    """``count`` times ``field``, or nothing where the object has None."""
    return replace(field, codec=Pointers(field.codec, count))


def sequence(name: str, vmstate: VMState, factory: Callable[[], Any], limit: int = 65536) -> Field:
    """A list of objects of one VMState."""
    return Field(name, ListCodec(vmstate, factory, limit))


# -- the whole ----------------------------------------------------------------------------------------


class VMState:
    """The state of one kind of object: name, version, fields in the order of the wire, subsections.

    A subsection is a VMState called "parent/child" with ``needed``: it is sent only when
    ``needed(obj)`` is true. Hooks: ``pre_save(obj)``, ``pre_load(obj)``, ``post_load(obj, version)``,
    each a function or the name of a method; ``post_load`` raises StreamError or ValueError when the
    values make no sense. Raises ValueError when the declaration contradicts itself.
    """

    def __init__(
        self,
        name: str,
        version: int = 1,
        fields: Sequence[FieldLike] = (),
        *,
        minimum_version: int | None = None,
        subsections: Sequence[VMState] = (),
        pre_save: Hook | None = None,
        pre_load: Hook | None = None,
        post_load: Hook | None = None,
        needed: Hook | None = None,
    ) -> None:
        self.name, self.version = name, version
        self.minimum_version = version if minimum_version is None else minimum_version
        if self.minimum_version > version:
            raise ValueError(f"{name}: minimum version {minimum_version} is above version {version}")
        for child in subsections:
            if not child.name.startswith(name + "/"):
                raise ValueError(f"subsection '{child.name}' of '{name}' is not called '{name}/...'")
        self.subsections = tuple(subsections)
        self.pre_save, self.pre_load, self.post_load = pre_save, pre_load, post_load
        self.needed = needed
        self._declared = tuple(fields)
        self._fields: tuple[Field, ...] | None = None

    def __repr__(self) -> str:
        return f"<VMState {self.name} v{self.version}>"

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields. Made when first asked for: a Reg learns its name only after its class is made."""
        if self._fields is None:
            fields = tuple(item.vm_field() for item in self._declared)
            for field in fields:
                if field.min_version > self.version:
                    raise ValueError(f"{self.name}:{field.name} is newer than version {self.version}")
            self._fields = fields
        return self._fields

    def is_needed(self, obj: Any) -> bool:
        """Whether it must be sent for ``obj``."""
        return self.needed is None or bool(_call(self.needed, obj))

    # -- save

    def save(self, w: Writer, obj: Any, version: int | None = None) -> None:
        """Write the body for ``obj``."""
        if self.pre_save is not None:
            _call(self.pre_save, obj)
        version = self.version if version is None else version
        for field in self.fields:
            if field.is_there(obj, version):
                field.codec.put(w, self._value(field, obj), obj)
        for child in self.subsections:
            if child.is_needed(obj):
                w.be8(SUBSECTION)
                w.string8(child.name)
                w.be32(child.version)
                child.save(w, obj)

    @staticmethod
    def _value(field: Field, obj: Any) -> Any:
        return None if isinstance(field.codec, Unused) else get_path(obj, field.path)

    # -- load

    def load(self, r: Reader, obj: Any, version: int) -> None:
        """Read a body of ``version`` into ``obj``. Raises StreamError; ``obj`` is then partly loaded."""
        if version > self.version:
            raise StreamError(
                f"{self.name}: incoming version_id {version} is too new for local version_id {self.version}",
                offset=r.position,
            )
        if version < self.minimum_version:
            raise StreamError(
                f"{self.name}: incoming version_id {version} is too old"
                f" for local minimum version_id  {self.minimum_version}",
                offset=r.position,
            )
        if self.pre_load is not None:
            _call(self.pre_load, obj)
        for field in self.fields:
            if field.is_there(obj, version):
                self._load_field(r, obj, field)
        self._load_subsections(r, obj)
        if self.post_load is not None:
            try:
                _call(self.post_load, obj, version)
            except ValueError as error:
                raise StreamError(f"{self.name}: {error}", offset=r.position) from error

    def _load_field(self, r: Reader, obj: Any, field: Field) -> None:
        old = self._value(field, obj)
        try:
            new = field.codec.get(r, old, obj)
        except StreamError as error:
            if error.message.startswith("Failed to load "):
                raise                      # a part's field has been named already
            text = f"Failed to load {self.name}:{field.name}: {error.message}"
            raise StreamError(text, section=error.section, offset=error.offset) from error
        if new is not old and not isinstance(field.codec, Unused):
            holder, last = resolve(obj, field.path)
            setattr(holder, last, new)

    def _load_subsections(self, r: Reader, obj: Any) -> None:
        while True:
            # a name that is not ours belongs to an outer VMState: leave it there
            head = r.peek(2)
            if len(head) < 2 or head[0] != SUBSECTION or head[1] <= len(self.name):
                return
            raw = r.peek(2 + head[1])[2:]
            if len(raw) < head[1] or not raw.startswith(self.name.encode() + b"/"):
                return
            name = raw.decode("utf-8", "backslashreplace")
            child = next((item for item in self.subsections if item.name == name), None)
            if child is None:
                text = f"VM subsection '{name}' in '{self.name}' does not exist"
                raise StreamError(text, offset=r.position)
            r.skip(2 + head[1])
            child.load(r, obj, r.be32())

    # -- describe

    def describe(self, obj: Any, version: int | None = None) -> dict[str, Any]:
        """The vmdescription of what ``save`` writes: vmsd_name, version, fields, subsections."""
        if self.pre_save is not None:
            _call(self.pre_save, obj)
        version = self.version if version is None else version
        entries: list[dict[str, Any]] = []
        for field in self.fields:
            if field.is_there(obj, version):
                parts = field.codec.describe(self._value(field, obj), obj)
                entries.extend({"name": field.name, **part} for part in parts)
        _number_duplicates(entries)
        result: dict[str, Any] = {"vmsd_name": self.name, "version": version, "fields": entries}
        children = [child.describe(obj) for child in self.subsections if child.is_needed(obj)]
        if children:
            result["subsections"] = children
        return result


def _number_duplicates(entries: list[dict[str, Any]]) -> None:
    """Several fields of one name become name[0], name[1]; elements of one array keep theirs."""
    plain = [entry for entry in entries if "index" not in entry]
    for name in {entry["name"] for entry in plain}:
        same = [entry for entry in plain if entry["name"] == name]
        if len(same) > 1:
            for number, entry in enumerate(same):
                entry["name"] = f"{name}[{number}]"


class VMStateSection:
    """A FULL section made of one object and its VMState: a SaveHandler.

    ``idstr`` is the section's name (default: the VMState's).
    """

    def __init__(self, obj: Any, vmstate: VMState, instance_id: int = 0, idstr: str = "") -> None:
        self.obj, self.vmstate = obj, vmstate
        self.instance_id = instance_id
        self.idstr = idstr or vmstate.name
        self.version = vmstate.version
        self.minimum_version = vmstate.minimum_version

    def is_needed(self) -> bool:
        """Whether the section is sent at all."""
        return self.vmstate.is_needed(self.obj)

    def save(self, w: Writer) -> None:
        """Write the body."""
        self.vmstate.save(w, self.obj)

    def load(self, r: Reader, version: int) -> None:
        """Read a body of ``version``. Raises StreamError."""
        self.vmstate.load(r, self.obj, version)

    def vmdesc(self) -> dict[str, Any]:
        """The section's entry in the vmdescription."""
        return {"name": self.idstr, "instance_id": self.instance_id, **self.vmstate.describe(self.obj)}
