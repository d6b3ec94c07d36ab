"""What a machine version decides about a stream: the properties of QEMU's object "migration", and suppress-vmdesc.

A stream of an older machine type lacks parts that came later. Which ones is a property of the machine type
(``Board.compat``), changed by ``-global migration.NAME=on|off``; both ends must agree, as with QEMU:

| property | off means |
|---|---|
| send-configuration | no configuration section (QEMU: machines before 2.4) |
| send-section-footer | no footers behind sections (before 2.4) |
| store-global-state | no section "globalstate" unless the run state is neither "running" nor "paused" (before 2.4) |
| send-switchover-start | no command SWITCHOVER_START (before 10.0) |

Capabilities are properties as well (``migration.x-events=on``), and so are parameters (``migration.downtime-limit``).
The vmdescription is left out with the machine property ``suppress-vmdesc=on``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from e2kemu.errors import OptionError
from e2kemu.migration.options import CAPABILITY, PARAMETER, Capabilities, MigrationParameters
from e2kemu.options import parse_bool

OBJECT = "migration"
"""Name of the object whose properties ``-global`` sets."""

CLEAR_BITMAP_SHIFT = 18
"""What QEMU's property of that name is: our dirty log is not cleared in chunks, so nothing depends on it."""


@dataclass(frozen=True)
class StreamFormat:
    """Which optional parts a stream has. The defaults are those of the newest machine type."""

    store_global_state: bool = True
    send_configuration: bool = True
    send_section_footer: bool = True
    send_switchover_start: bool = True
    suppress_vmdesc: bool = False
    """No vmdescription; a property of the machine, not of the object "migration"."""


NEWEST = StreamFormat()

SWITCHES = tuple(field.name.replace("_", "-") for field in fields(StreamFormat) if field.name != "suppress_vmdesc")
"""The properties of the object "migration" that a StreamFormat holds."""


@dataclass(frozen=True)
class MigrationSettings:
    """What the command line and the machine type say about migration before there is any."""

    format: StreamFormat = NEWEST
    only_migratable: bool = False
    """Adding a blocker is an error."""
    capabilities: tuple[tuple[str, bool], ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    def apply(self, capabilities: Capabilities, parameters: MigrationParameters) -> None:
        """Set what ``-global`` asked for. Raises CommandError."""
        capabilities.set(dict(self.capabilities))
        for name, text in self.parameters:
            parameters.set({name: _parameter(name, text)})

    def shown(self) -> dict[str, str]:
        """The table "Globals" of ``info migrate -a``, in its order."""
        switches = {name: _on(getattr(self.format, name.replace("-", "_"))) for name in SWITCHES}
        first = {"store-global-state": switches.pop("store-global-state")}
        last = {"clear-bitmap-shift": str(CLEAR_BITMAP_SHIFT)}
        return first | {"only-migratable": _on(self.only_migratable)} | switches | last


DEFAULTS = MigrationSettings()


def migration_settings(
    compat: Mapping[str, str],
    given: Iterable[tuple[str, str]] = (),
    *,
    suppress_vmdesc: bool = False,
    only_migratable: bool = False,
) -> MigrationSettings:
    """The settings of a machine type with ``compat`` (property -> value) and of ``-global`` (property, value).

    Raises OptionError for a property that does not exist or a value it does not take.
    """
    settings = MigrationSettings(replace(NEWEST, suppress_vmdesc=suppress_vmdesc), only_migratable)
    for name, text in (*compat.items(), *given):
        settings = _with(settings, name, text)
    settings.apply(Capabilities(), MigrationParameters())
    return settings


def _with(settings: MigrationSettings, name: str, text: str) -> MigrationSettings:
    if name in SWITCHES:
        value = parse_bool(text, name)
        return replace(settings, format=replace(settings.format, **{name.replace("-", "_"): value}))
    if name == "only-migratable":
        return replace(settings, only_migratable=parse_bool(text, name))
    if name.startswith("x-") and name[2:] in CAPABILITY:
        return replace(settings, capabilities=(*settings.capabilities, (name[2:], parse_bool(text, name))))
    if name in PARAMETER:
        return replace(settings, parameters=(*settings.parameters, (name, text)))
    raise OptionError(f"Property '{OBJECT}.{name}' not found")


def _parameter(name: str, text: str) -> object:
    """A parameter's value: numbers count in the parameter's own unit, unlike in the human monitor."""
    row = PARAMETER[name]
    if isinstance(row.default, int) and not isinstance(row.default, bool) and text.isdecimal():
        return int(text)
    return row.parse(text)


def _on(value: bool) -> str:
    return "on" if value else "off"


def parse_global(text: str) -> tuple[str, str]:
    """``-global``: ``migration.NAME=VALUE`` or ``driver=migration,property=NAME,value=VALUE``.

    Returns property and value. Raises OptionError.
    """
    head, equals, value = text.partition("=")
    driver, dot, name = head.partition(".")
    if not dot and equals:
        parts = dict(part.partition("=")[::2] for part in text.split(","))
        if set(parts) != {"driver", "property", "value"}:
            raise OptionError("expected driver.property=value")
        driver, name, value = parts["driver"], parts["property"], parts["value"]
    elif not (dot and equals and driver and name):
        raise OptionError("expected driver.property=value")
    if driver != OBJECT:
        raise OptionError(f"'{driver}' has no properties to set: only '{OBJECT}' has")
    return name, value
