"""Capabilities and parameters of migration: one table each, read by QMP, HMP, completion and checks.

Only what works is listed; a name that is not here is refused as QEMU refuses a name it does not know.
Names, units, ranges and error texts are QEMU 11.1's; the order is that of ``info migrate_capabilities``
and ``info migrate_parameters``.

``Capabilities`` and ``MigrationParameters`` hold the values of one machine. Capabilities may not change
while a migration runs; parameters may, and act at once (max-bandwidth and downtime-limit in the next
window). Both check a whole request before they change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from e2kemu.errors import CommandError, OptionError
from e2kemu.options import parse_bool, parse_size

Value = int | str | bool

SIZE_MAX = (1 << 64) - 1
MIB = 1 << 20


@dataclass(frozen=True)
class Capability:
    """A switch; all are off at the start."""

    name: str
    since: str
    doc: str
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()

    def explain(self) -> str:
        """A line of help."""
        needs = f" [needs {', '.join(self.requires)}]" if self.requires else ""
        return f"{self.name:27s} {self.doc}{needs}"


@dataclass(frozen=True)
class Parameter:
    """A value with its range; ``unit`` is shown behind the value by ``info migrate_parameters``."""

    name: str
    default: Value
    since: str
    doc: str
    minimum: int = 0
    maximum: int = SIZE_MAX
    unit: str = ""
    expects: str = ""
    """What the error text says the parameter expects; {minimum} and {maximum} are put in."""
    choices: tuple[str, ...] = ()
    hmp_suffix: str = ""
    """Unit of a bare number in the human monitor ("M": MiB); empty: no size suffixes."""
    quoted: bool = False
    """Shown in quotes (names given by the user)."""
    power_of_two: bool = False
    floor: str = ""
    """The parameter whose value is the least this one may have."""

    def check(self, value: object) -> Value:
        """``value`` as it is stored. Raises CommandError with QEMU's text."""
        if isinstance(self.default, str):
            if value is None and not self.choices:
                return ""  # QMP null: back to none
            if not isinstance(value, str):
                raise CommandError(f"Invalid parameter type for '{self.name}', expected: string")
            if self.choices and value not in self.choices:
                raise CommandError(f"Parameter '{self.name}' does not accept value '{value}'")
            return value
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise CommandError(f"Invalid parameter type for '{self.name}', expected: boolean")
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise CommandError(f"Invalid parameter type for '{self.name}', expected: integer")
        if not self.minimum <= value <= self.maximum or (self.power_of_two and value & (value - 1)):
            raise self.out_of_range()
        return value

    def out_of_range(self) -> CommandError:
        """The error of a number that is too small, too large or not of the kind."""
        return CommandError(f"Option {self.name} expects {self.expected}")

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return self.expects.format(minimum=self.minimum, maximum=self.maximum)

    @property
    def values(self) -> tuple[str, ...]:
        """All values that may be typed, when they are few; else none."""
        return ("on", "off") if isinstance(self.default, bool) else self.choices

    def explain(self) -> str:
        """A line of help: what it is and which values it takes."""
        values = self.expected or "|".join(self.values)
        size = f"; a bare number counts {self.hmp_suffix}" if self.hmp_suffix not in ("", "B") else ""
        return f"{self.name:27s} {self.doc}" + (f" [{values}{size}]" if values else "")

    def parse(self, text: str) -> Value:
        """The value of what was typed into the human monitor. Raises CommandError."""
        try:
            if isinstance(self.default, bool):
                return parse_bool(text, self.name)
            if isinstance(self.default, int):
                if self.hmp_suffix:
                    return parse_size(text, self.hmp_suffix, self.name)
                return int(text, 0)
        except OptionError as error:
            raise CommandError(str(error)) from error
        except ValueError as error:
            raise CommandError(f"Parameter '{self.name}' expects {self.expected or 'a number'}") from error
        return text

    def show(self, value: Value) -> str:
        """The value as ``info migrate_parameters`` prints it."""
        if isinstance(value, bool):
            return "on" if value else "off"
        text = f"'{value}'" if self.quoted else str(value)
        return f"{text} {self.unit}" if self.unit else text


CAPABILITIES: tuple[Capability, ...] = (
    Capability("xbzrle", "1.2", "send of a page that is sent again only what has changed in it"),
    Capability("auto-converge", "1.6", "slow the guest down when it writes faster than can be sent"),
    Capability("compress", "2.4", "compress pages, in threads; in the first round only if xbzrle is on as well"),
    Capability("zero-blocks", "2.1", "in block migration, send chunks of zeroes as a flag"),
    Capability("events", "2.4", "emit MIGRATION and MIGRATION_PASS events"),
    Capability(
        "postcopy-ram",
        "2.5",
        "let the guest go on at the destination before all of its memory is there (migrate-start-postcopy);"
        " on at both ends",
    ),
    Capability("release-ram", "2.9", "in postcopy, free the source's pages as they are sent; then no recovery"),
    Capability(
        "return-path", "2.10", "demand a return path: the source completes only when the destination confirms"
    ),
    Capability(
        "pause-before-switchover", "2.11", "stop in pre-switchover until migrate-continue lets it go on"
    ),
    Capability("postcopy-blocktime", "3.0", "at the destination, account how long vCPUs wait for pages"),
    Capability("block", "2.11", "copy the disks that can be written (migrate -b)", conflicts=("postcopy-ram",)),
    Capability("validate-uuid", "4.2", "send the machine's UUID and refuse a destination with another"),
    Capability(
        "switchover-ack",
        "8.1",
        "do not stop the source before the destination has acknowledged",
        requires=("return-path",),
    ),
)

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "compress-level",
        1,
        "2.4",
        "how hard compression tries: 0 not at all, 1 fast, 9 best",
        maximum=9,
        expects="a value between {minimum} and {maximum}",
    ),
    Parameter(
        "compress-threads",
        8,
        "2.4",
        "threads of the source that compress",
        minimum=1,
        maximum=255,
        expects="a value between {minimum} and {maximum}",
    ),
    Parameter(
        "compress-wait-thread",
        True,
        "3.1",
        "wait for a thread to be free; off: pages go uncompressed meanwhile",
    ),
    Parameter(
        "decompress-threads",
        2,
        "2.4",
        "threads of the destination that inflate compressed pages",
        minimum=1,
        maximum=255,
        expects="a value between {minimum} and {maximum}",
    ),
    Parameter(
        "throttle-trigger-threshold",
        50,
        "5.0",
        "the guest is too fast when it writes more than this part of what is sent, twice",
        minimum=1,
        maximum=100,
        expects="an integer in the range of {minimum} to {maximum}",
    ),
    Parameter(
        "cpu-throttle-initial",
        20,
        "2.7",
        "percent of the time for which vCPUs sleep at first",
        minimum=1,
        maximum=99,
        expects="an integer in the range of {minimum} to {maximum}",
    ),
    Parameter(
        "cpu-throttle-increment",
        10,
        "2.7",
        "percent by which that grows each time the guest is still too fast",
        minimum=1,
        maximum=99,
        expects="an integer in the range of {minimum} to {maximum}",
    ),
    Parameter(
        "cpu-throttle-tailslow",
        False,
        "5.1",
        "grow by no more than what is needed, by what is known",
    ),
    Parameter(
        "max-cpu-throttle",
        99,
        "3.1",
        "percent of the time for which vCPUs sleep at most",
        minimum=1,
        maximum=99,
        expects="an integer in the range of cpu-throttle-initial to {maximum}",
        floor="cpu-throttle-initial",
    ),
    Parameter("tls-creds", "", "2.7", "id of the tls-creds object; empty: no TLS", quoted=True),
    Parameter(
        "tls-hostname",
        "",
        "2.7",
        "name the server's certificate must have; empty: the URI's host",
        quoted=True,
    ),
    Parameter(
        "tls-authz", "", "4.0", "id of the authz object that the client's name must pass; empty: any", quoted=True
    ),
    Parameter(
        "max-bandwidth",
        128 * MIB,
        "2.8",
        "limit of the transfer while the guest runs, in windows of 100 ms; 0: none",
        unit="bytes/second",
        expects="an integer in the range of {minimum} to {maximum} bytes/second",
        hmp_suffix="M",
    ),
    Parameter(
        "avail-switchover-bandwidth",
        0,
        "8.2",
        "bandwidth to count on when the guest is stopped; 0: the measured one",
        unit="bytes/second",
        expects="an integer in the range of {minimum} to {maximum} bytes/second",
        hmp_suffix="M",
    ),
    Parameter(
        "max-postcopy-bandwidth",
        0,
        "3.0",
        "limit of what is pushed in postcopy without having been asked for; 0: none",
        unit="bytes/second",
        expects="an integer in the range of {minimum} to {maximum} bytes/second",
        hmp_suffix="M",
    ),
    Parameter(
        "downtime-limit",
        300,
        "2.8",
        "how long the guest may stand still, tolerably",
        maximum=2_000_000,
        unit="ms",
        expects="an integer in the range of {minimum} to {maximum} ms",
    ),
    Parameter(
        "zero-page-detection",
        "multifd",
        "9.0",
        "where zero pages are found; none: every page is sent whole",
        choices=("none", "legacy", "multifd"),
    ),
    Parameter(
        "xbzrle-cache-size",
        64 * MIB,
        "2.11",
        "memory for pages as they were sent last; may change while a migration runs",
        minimum=4096,
        maximum=1 << 62,
        unit="bytes",
        expects="a power of two no less than the target page size",
        hmp_suffix="B",
        power_of_two=True,
    ),
)

def explanations(rows: Iterable[Capability | Parameter]) -> str:
    """What the human monitor's help tells of all of a table."""
    return "".join(f"  {row.explain()}\n" for row in rows)


CAPABILITY = {row.name: row for row in CAPABILITIES}
PARAMETER = {row.name: row for row in PARAMETERS}

STRING_PARAMETERS = tuple(row.name for row in PARAMETERS if isinstance(row.default, str))
"""What ``migrate_set_str_parameter`` takes."""


class Capabilities:
    """Which capabilities are on. ``busy()`` says whether a migration is in progress."""

    def __init__(self, busy: Callable[[], bool] = lambda: False) -> None:
        self._values = dict.fromkeys(CAPABILITY, False)
        self._busy = busy

    def __getitem__(self, name: str) -> bool:
        return self._values[name]

    def items(self) -> list[tuple[str, bool]]:
        """Name and state of all, in the order of the table."""
        return list(self._values.items())

    def set(self, changes: Mapping[str, bool]) -> None:
        """Switch; all or nothing. Raises CommandError."""
        if self._busy():
            raise CommandError("There's a migration process in progress")
        values = dict(self._values)
        for name, value in changes.items():
            if name not in values:
                raise CommandError(f"Parameter 'capability' does not accept value '{name}'")
            values[name] = value
        for row in CAPABILITIES:
            if not values[row.name]:
                continue
            for needed in row.requires:
                if not values[needed]:
                    raise CommandError(f"Capability '{row.name}' requires capability '{needed}'")
            for other in row.conflicts:
                if values.get(other):
                    raise CommandError(f"{row.name} is not compatible with {other}")
        self._values = values


class MigrationParameters:
    """The values of the parameters; typed attributes for the ones the conductors read."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {row.name: row.default for row in PARAMETERS}
        self.given: set[str] = set()
        """Parameters that somebody has set, be it to their defaults."""

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def items(self) -> list[tuple[str, Value]]:
        """Name and value of all, in the order of the table."""
        return list(self._values.items())

    def set(self, changes: Mapping[str, object]) -> None:
        """Change; all or nothing. Raises CommandError."""
        checked: dict[str, Value] = {}
        for name, value in changes.items():
            row = PARAMETER.get(name)
            if row is None:
                raise CommandError(f"Parameter '{name}' is unexpected")
            checked[name] = row.check(value)
        values = self._values | checked
        for row in PARAMETERS:
            if row.floor and int(values[row.name]) < int(values[row.floor]):
                raise row.out_of_range()
        self._values = values
        self.given.update(checked)

    def set_text(self, name: str, text: str) -> None:
        """One parameter as typed into the human monitor. Raises CommandError."""
        row = PARAMETER.get(name)
        if row is None:
            raise CommandError(f"invalid parameter value: {name}")
        self.set({name: row.parse(text)})

    @property
    def max_bandwidth(self) -> int:
        """Bytes per second; 0: no limit."""
        return int(self._values["max-bandwidth"])

    @property
    def switchover_bandwidth(self) -> int:
        """Bytes per second to count on for the switchover; 0: measure."""
        return int(self._values["avail-switchover-bandwidth"])

    @property
    def max_postcopy_bandwidth(self) -> int:
        """Bytes per second that are pushed in postcopy; 0: no limit."""
        return int(self._values["max-postcopy-bandwidth"])

    @property
    def downtime_limit(self) -> int:
        """Milliseconds."""
        return int(self._values["downtime-limit"])

    @property
    def tls_creds(self) -> str:
        return str(self._values["tls-creds"])

    @property
    def tls_hostname(self) -> str:
        return str(self._values["tls-hostname"])

    @property
    def tls_authz(self) -> str:
        return str(self._values["tls-authz"])

    @property
    def zero_page_detection(self) -> bool:
        """Look for zero pages at all."""
        return self._values["zero-page-detection"] != "none"
