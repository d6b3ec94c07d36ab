"""Commands on what hangs at an emulator: user objects, descriptors, character devices, the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from e2kemu import objects, trace
from e2kemu.errors import CommandError, OptionError
from e2kemu.monitor.dispatch import Context, command, hmp_command
from e2kemu.monitor.schema import Qapi, wire_name
from e2kemu.options import Options, split_pairs


class ObjectAdd(msgspec.Struct, rename=wire_name):
    """Arguments of object-add; the type's own properties come beside these."""

    qom_type: str
    id: str


class ObjectProperty(Qapi):
    """One of qom-list."""

    name: str
    type: str


class ChardevInfo(Qapi):
    """One of query-chardev."""

    label: str
    filename: str
    frontend_open: bool


# -- objects ---------------------------------------------------------------------------------------


def _add(store: objects.ObjectStore, values: dict[str, Any]) -> None:
    """Create an object from JSON. ``values`` has qom-type and id, both texts."""
    properties: dict[str, str] = {}
    for name, value in values.items():
        if name not in ("qom-type", "id"):
            properties |= objects.flatten(value, name)
    store.add(values["qom-type"], values["id"], properties)


@command("object-add", arguments=ObjectAdd, raw=True)
def object_add(ctx: Context, values: dict[str, Any]) -> None:
    """Create an object."""
    _add(ctx.objects, values)


@command("object-del")
def object_del(ctx: Context, id: str) -> None:
    """Delete an object."""
    ctx.objects.delete(id)


def add_from_text(store: objects.ObjectStore, text: str) -> None:
    """``TYPE,id=ID,...`` or a JSON object, as in ``-object``. Raises OptionError."""
    if text.startswith("{"):
        try:
            msgspec.json.decode(text, type=ObjectAdd)
            _add(store, msgspec.json.decode(text, type=dict[str, Any]))
        except msgspec.MsgspecError as error:
            raise OptionError(f"invalid JSON object: {error}") from error
        return
    options = Options(text, implied="qom-type")
    kind = options.require("qom-type")
    ident = options.require("id")
    store.add(kind, ident, options.rest())


HELP = ("help", "?")


def object_help(text: str) -> str | None:
    """The answer to ``-object help`` and ``-object TYPE,help``; None: ``text`` asks for nothing. Raises OptionError."""
    if text.startswith("{"):
        return None
    pairs = split_pairs(text, implied="qom-type")
    if not any(name in HELP or (name, value) in [("qom-type", word) for word in HELP] for name, value in pairs):
        return None
    kind = dict(pairs)["qom-type"] if pairs[0][0] == "qom-type" else "help"
    if kind in HELP:
        return "List of user creatable objects:\n" + "".join(f"  {name}\n" for name in sorted(objects.TYPES))
    lines = sorted(one.explain() for one in objects.find_type(kind).PROPERTIES)
    return f"{kind} options:\n" + "".join(f"{line}\n" for line in lines)


def _object_words(ctx: Context, words: list[str], text: str) -> Iterable[str]:
    """Completion of ``TYPE,id=ID,NAME=VALUE...``."""
    done, comma, _ = text.rpartition(",")
    if not comma:
        return [f"{name},id=" for name in objects.TYPES]
    kind = objects.TYPES.get(text.partition(",")[0].removeprefix("qom-type="))
    given = {part.partition("=")[0] for part in done.split(",")}
    names = ["id", *(one.name for one in kind.PROPERTIES)] if kind is not None else []
    return [f"{done},{name}=" for name in names if name not in given]


@hmp_command(
    "object_add", "object:S", params="[qom-type=]type,id=str[,prop=value][,...]", help="create QOM object",
    completion=_object_words,
)  # fmt: skip
def hmp_object_add(ctx: Context, object: str) -> None:
    """``object_add``."""
    answer = object_help(object)
    if answer is not None:
        ctx.monitor.print(answer, end="")
    else:
        add_from_text(ctx.objects, object)


@hmp_command(
    "object_del", "id:s", params="id", help="destroy QOM object",
    completion=lambda ctx, words, text: (ident for ident, _, _ in ctx.objects),
)  # fmt: skip
def hmp_object_del(ctx: Context, id: str) -> None:
    """``object_del``."""
    ctx.objects.delete(id)


@command("qom-list")
def qom_list(ctx: Context, path: str) -> list[ObjectProperty]:
    """The user-created objects, path "/objects"; there is no other tree."""
    if path.rstrip("/") != "/objects":
        raise CommandError(f"Device '{path}' not found", "DeviceNotFound")
    return [ObjectProperty(name=ident, type=f"child<{kind}>") for ident, kind, _ in ctx.objects]


# -- descriptors -----------------------------------------------------------------------------------


@command("getfd")
def getfd(ctx: Context, fdname: str) -> None:
    """Name the descriptor that came with this request (SCM_RIGHTS)."""
    received = ctx.monitor.received_fds()
    if not received:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    if fdname[:1].isdigit():
        raise CommandError("Parameter 'fdname' expects a name not starting with a digit")
    ctx.monitor.add_fd(fdname, received[0])


@command("closefd")
def closefd(ctx: Context, fdname: str) -> None:
    """Close a named descriptor."""
    ctx.monitor.close_fd(fdname)


hmp_command(
    "getfd", "fdname:s", params="getfd name",
    help="receive a file descriptor via SCM rights and assign it a name",
)(getfd)  # fmt: skip
hmp_command(
    "closefd", "fdname:s", params="closefd name",
    help="close a file descriptor previously passed via SCM rights",
    completion=lambda ctx, words, text: ctx.monitor.fds,
)(closefd)  # fmt: skip


# -- character devices -----------------------------------------------------------------------------


@command("query-chardev")
def query_chardev(ctx: Context) -> list[ChardevInfo]:
    """All character devices."""
    return [
        ChardevInfo(label=label, filename=device.describe(), frontend_open=device.has_frontend)
        for label, device in ctx.chardevs.devices.items()
    ]


# -- the log ---------------------------------------------------------------------------------------


def _log_items(ctx: Context, words: list[str], text: str) -> list[str]:
    done, comma, _ = text.rpartition(",")
    names = ["none", "all", *(item.name.lower() for item in trace.Log if item.name)]
    return [f"{done}{comma}{name}" for name in names]


@hmp_command("log", "items:s", params="item1[,...]", help="activate logging of the specified items",
             completion=_log_items, details=trace.help_text)  # fmt: skip
def hmp_log(ctx: Context, items: str) -> None:
    """``log``: as ``-d``."""
    if items == "help":
        ctx.monitor.print(trace.help_text().rstrip())
        return
    try:
        trace.set_items(items)
    except OptionError as error:
        raise CommandError(str(error).replace("-d help", "help log")) from error


@hmp_command("logfile", "filename:F", params="filename", help="output logs to 'filename'")
def hmp_logfile(ctx: Context, filename: str) -> None:
    """``logfile``: as ``-D``."""
    trace.set_file(filename)
