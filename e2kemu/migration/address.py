"""Where a migration goes: the addresses, their URIs and QEMU's MigrationAddress objects.

========================================================== ================= ============================
URI                                                        class             MigrationAddress
========================================================== ================= ============================
``tcp:[host]:port[,to=N][,ipv4=on|off][,ipv6=on|off]``     InetAddress       transport socket, type inet
``unix:path``                                              UnixAddress       transport socket, type unix
``fd:name-or-number``                                      FdAddress         transport socket, type fd
``exec:command``                                           ExecAddress       transport exec
``file:path[,offset=N]``                                   FileAddress       transport file
========================================================== ================= ============================

``tcp:`` also takes ``keep-alive=on|off``. An address' ``str()`` is its URI again. ``defer`` is no address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from e2kemu.errors import OptionError
from e2kemu.options import parse_bool, parse_size

INT64_MAX = (1 << 63) - 1

_SHELL = ("/bin/sh", "-c")

_NOT_HERE = {
    "rdma": "RDMA is not available in this build",
    "vsock": "vsock is not available in this build",
}


@dataclass(frozen=True)
class InetAddress:
    """A TCP endpoint. ``port`` is a number or a service name; ``to`` the last port to try when listening."""

    host: str
    port: str
    to: int | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    keep_alive: bool | None = None

    multichannel: ClassVar[bool] = True
    """Whether the same address can be connected to more than once (multifd, preempt)."""

    @property
    def hostname(self) -> str | None:
        """The name that the peer's certificate must bear, unless tls-hostname says otherwise."""
        return self.host or None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        text = f"tcp:{host}:{self.port}"
        if self.to is not None:
            text += f",to={self.to}"
        for key, value in (("ipv4", self.ipv4), ("ipv6", self.ipv6), ("keep-alive", self.keep_alive)):
            if value is not None:
                text += f",{key}={'on' if value else 'off'}"
        return text

    def to_qmp(self) -> dict[str, Any]:
        given = {"to": self.to, "ipv4": self.ipv4, "ipv6": self.ipv6, "keep-alive": self.keep_alive}
        present = {key: value for key, value in given.items() if value is not None}
        return {"transport": "socket", "type": "inet", "host": self.host, "port": self.port, **present}


@dataclass(frozen=True)
class UnixAddress:
    """A unix stream socket."""

    path: str

    multichannel: ClassVar[bool] = True
    hostname: ClassVar[str | None] = None

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def to_qmp(self) -> dict[str, Any]:
        return {"transport": "socket", "type": "unix", "path": self.path}


@dataclass(frozen=True)
class FdAddress:
    """A file descriptor: a number, or a name that ``getfd`` gave it."""

    name: str

    multichannel: ClassVar[bool] = False
    hostname: ClassVar[str | None] = None

    def __str__(self) -> str:
        return f"fd:{self.name}"

    def to_qmp(self) -> dict[str, Any]:
        return {"transport": "socket", "type": "fd", "str": self.name}


@dataclass(frozen=True)
class ExecAddress:
    """A command: its standard input gets the stream, what it prints is the incoming stream."""

    args: tuple[str, ...]

    multichannel: ClassVar[bool] = False
    hostname: ClassVar[str | None] = None

    def __str__(self) -> str:
        shell = len(self.args) == 3 and self.args[:2] == _SHELL
        return "exec:" + (self.args[2] if shell else " ".join(self.args))

    def to_qmp(self) -> dict[str, Any]:
        return {"transport": "exec", "args": list(self.args)}


@dataclass(frozen=True)
class FileAddress:
    """A file; the stream begins ``offset`` bytes into it."""

    filename: str
    offset: int = 0

    multichannel: ClassVar[bool] = True
    hostname: ClassVar[str | None] = None

    def __str__(self) -> str:
        return f"file:{self.filename}" + (f",offset={self.offset:#x}" if self.offset else "")

    def to_qmp(self) -> dict[str, Any]:
        return {"transport": "file", "filename": self.filename, "offset": self.offset}


Address = InetAddress | UnixAddress | FdAddress | ExecAddress | FileAddress


def parse_uri(text: str) -> Address:
    """The address that ``text`` names. Raises OptionError with QEMU's words."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _NOT_HERE:
        raise OptionError(f"{text}: {_NOT_HERE[scheme]}")
    if not colon or scheme not in _PARSERS:
        raise OptionError(f"unknown migration protocol: {text}")
    return _PARSERS[scheme](rest)


def _parse_tcp(text: str) -> InetAddress:
    if text.startswith(":"):
        kind, pattern = "port in address", r":(?P<port>[^,:]{1,32})"
    elif text.startswith("["):
        kind, pattern = "IPv6 address", r"\[(?P<host>[^\]]{1,64})\]:(?P<port>[^,:]{1,32})"
    else:
        kind, pattern = "address", r"(?P<host>[^:]{1,64}):(?P<port>[^,:]{1,32})"
    match = re.match(pattern + r"(?P<options>(,.*)?)\Z", text, re.DOTALL)
    if match is None or "," in (match.groupdict().get("host") or ""):
        raise OptionError(f"error parsing {kind} '{text}'")
    found = match.groupdict()
    values: dict[str, Any] = {}
    for option in found["options"].split(",")[1:]:
        key, equals, value = option.partition("=")
        if key == "to":
            if not re.fullmatch(r"[0-9]{1,5}", value) or int(value) > 0xFFFF:
                raise OptionError(f"error parsing to= argument '{value}'")
            values["to"] = int(value)
        elif key in ("ipv4", "ipv6", "keep-alive"):
            values[key.replace("-", "_")] = parse_bool(value, key) if equals else True
        else:
            raise OptionError(f"error parsing address '{text}': unknown option '{key}'")
    return _checked(InetAddress(found.get("host") or "", found["port"], **values))


def _checked(address: InetAddress) -> InetAddress:
    if address.ipv4 is False and address.ipv6 is False:
        raise OptionError(f"{address}: Cannot disable IPv4 and IPv6 at same time")
    if re.fullmatch(r"[0-9]+", address.port) and int(address.port) > 0xFFFF:
        raise OptionError(f"port number '{address.port}' is out of range: it must be at most 65535")
    return address


def _parse_unix(text: str) -> UnixAddress:
    if not text or "\0" in text:
        raise OptionError("invalid Unix socket address")
    return UnixAddress(text)


def _parse_fd(text: str) -> FdAddress:
    if not text:
        raise OptionError("fd: needs the number of a file descriptor, or the name that getfd gave it")
    return FdAddress(text)


def _parse_exec(text: str) -> ExecAddress:
    if not text.strip() or "\0" in text:
        raise OptionError("exec: needs a command")
    return ExecAddress((*_SHELL, text))


def _parse_file(text: str) -> FileAddress:
    filename, found, offset = text.partition(",offset=")
    if not filename or "\0" in filename:
        raise OptionError("file: needs the name of a file")
    return FileAddress(filename, parse_offset(offset) if found else 0)


def parse_offset(text: str) -> int:
    """Bytes, as `options.parse_size` reads them. Raises OptionError: no size, or too large."""
    try:
        value = parse_size(text)
    except OptionError as error:
        raise OptionError(f"file URI has bad offset {text}: Invalid argument") from error
    if value > INT64_MAX:
        raise OptionError(f"file URI has bad offset {text}: Numerical result out of range")
    return value


_PARSERS: dict[str, Callable[[str], Address]] = {
    "tcp": _parse_tcp,
    "unix": _parse_unix,
    "fd": _parse_fd,
    "exec": _parse_exec,
    "file": _parse_file,
}


# -- QMP


class _Fields:
    """The members of one QMP object, taken one by one; what is left over is an error."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._left = dict(members)

    def take(self, name: str, kind: type, type_name: str) -> Any:
        if name not in self._left:
            raise OptionError(f"Parameter 'addr.{name}' is missing")
        return self.take_optional(name, kind, type_name)

    def take_optional(self, name: str, kind: type, type_name: str) -> Any:
        value = self._left.pop(name, None)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise OptionError(f"Invalid parameter type for 'addr.{name}', expected: {type_name}")
        return value

    def end(self) -> None:
        for name in self._left:
            raise OptionError(f"Parameter 'addr.{name}' is unexpected")


def from_qmp(address: Mapping[str, Any]) -> Address:
    """The address of a MigrationAddress object. Raises OptionError naming the member that is wrong."""
    fields = _Fields(address)
    transport = fields.take("transport", str, "string")
    if transport == "rdma":
        raise OptionError(f"rdma: {_NOT_HERE['rdma']}")
    if transport not in ("socket", "exec", "file"):
        raise OptionError(f"Parameter 'addr.transport' does not accept value '{transport}'")
    kind = fields.take("type", str, "string") if transport == "socket" else transport
    result: Address
    if kind == "inet":
        host, port = fields.take("host", str, "string"), fields.take("port", str, "string")
        to = fields.take_optional("to", int, "integer")
        if to is not None and not 0 <= to <= 0xFFFF:
            raise OptionError(f"Parameter 'addr.to' expects uint16_t, got {to}")
        switches = [fields.take_optional(key, bool, "boolean") for key in ("ipv4", "ipv6", "keep-alive")]
        result = _checked(InetAddress(host, port, to, *switches))
    elif kind == "unix":
        result = _parse_unix(fields.take("path", str, "string"))
    elif kind == "fd":
        result = _parse_fd(fields.take("str", str, "string"))
    elif kind == "exec":
        args = fields.take("args", list, "array")
        if not args or not all(isinstance(arg, str) and "\0" not in arg for arg in args):
            raise OptionError("Invalid parameter type for 'addr.args', expected: array of strings, not empty")
        result = ExecAddress(tuple(args))
    elif kind == "file":
        filename, offset = fields.take("filename", str, "string"), fields.take("offset", int, "integer")
        if not filename or "\0" in filename:
            raise OptionError("file: needs the name of a file")
        if not 0 <= offset <= INT64_MAX:
            raise OptionError(f"file URI has bad offset {offset}: Numerical result out of range")
        result = FileAddress(filename, offset)
    elif kind == "vsock":
        raise OptionError(f"vsock: {_NOT_HERE['vsock']}")
    else:
        raise OptionError(f"Parameter 'addr.type' does not accept value '{kind}'")
    fields.end()
    return result


def from_channels(channels: Sequence[Mapping[str, Any]]) -> Address:
    """The address of QMP's ``channels``: a list of one MigrationChannel, type "main". Raises OptionError."""
    if len(channels) != 1:
        raise OptionError(f"Channel list must have exactly one entry, not {len(channels)}")
    channel = channels[0]
    if channel.get("channel-type") != "main":
        raise OptionError(f"Channel type '{channel.get('channel-type')}' is not available: only 'main' is")
    address = channel.get("addr")
    if not isinstance(address, Mapping):
        raise OptionError("Parameter 'addr' is missing")
    return from_qmp(address)
