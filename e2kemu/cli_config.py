"""What the command line describes: options -> the configuration of a machine, and of migration.

``cli_table`` has the options and parses them; ``cli_disks`` and ``cli_net`` make drives and cards of theirs.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from e2kemu.chardev import Chardev
from e2kemu.cli_table import Given
from e2kemu.errors import E2kError, OptionError
from e2kemu.linux.options import ProcessOptions
from e2kemu.linux.sandbox import Sandbox
from e2kemu.machine import boards
from e2kemu.machine.config import ACCELERATORS, MachineConfig
from e2kemu.machine.icount import Icount, parse_icount
from e2kemu.machine.smp import Topology, parse_smp
from e2kemu.machine.watchdog import ACTIONS
from e2kemu.migration.compat import MigrationSettings, migration_settings, parse_global
from e2kemu.options import Options


@contextmanager
def blame(option: str, value: str = "") -> Iterator[None]:
    """Errors inside are those of this option."""
    try:
        yield
    except E2kError as error:
        raise OptionError(f"{option} {value}".rstrip() + f": {error}") from error


def config_of(given: Given, serials: tuple[Chardev | None, ...] = ()) -> MachineConfig:
    """The machine that the options describe. Raises OptionError that names the option."""
    machine, suppress_vmdesc = _machine(given)
    cpus, grouping = _smp(given)
    return MachineConfig(
        machine=machine,
        suppress_vmdesc=suppress_vmdesc,
        cpu=_single(given, "cpu", "-cpu", "model") or "",
        ram_size=_ram_size(given),
        smp=cpus,
        grouping=grouping,
        icount=_icount(given),
        accel=_single(given, "accel", "-accel", "accel") or ACCELERATORS[0],
        bios=given.text("bios"),
        kernel=given.text("kernel"),
        initrd=given.text("initrd"),
        append=given.text("append") or "",
        name=_single(given, "name", "-name", "guest") or "",
        uuid=_uuid(given),
        paused=given.flag("S"),
        incoming=given.text("incoming") is not None,
        no_shutdown=given.flag("no_shutdown"),
        no_reboot=given.flag("no_reboot"),
        serials=serials,
        process=process_options(given),
    )


PROCESS_OPTIONS = ("prefix", "root", "deny_net", "read_only", "environment", "strace", "stats", "job_control")
"""Options of a machine that is a Linux process, by attribute."""


def process_options(given: Given) -> ProcessOptions:
    """What the options say about a Linux program. Raises OptionError when the machine is a computer."""
    if not is_process(given):
        for option, word, argument in given.order:
            if option.attribute in PROCESS_OPTIONS:
                raise OptionError(f"{word} {argument}".rstrip() + ": only for machine 'linux-user'")
    root = given.text("root")
    if root is not None and not os.path.isdir(root):
        raise OptionError(f"-root {root}: not a directory")
    environment = {}
    for text in given.all("environment"):
        name, equals, value = text.partition("=")
        if equals:
            environment[name] = value
        elif name in os.environ:
            environment[name] = os.environ[name]
    sandbox = Sandbox(None if root is None else os.path.abspath(root), given.flag("read_only"), given.flag("deny_net"))
    return ProcessOptions((), environment, sandbox, given.text("prefix"), given.flag("strace"), given.flag("stats"),
                          given.flag("job_control"))


def is_process(given: Given) -> bool:
    name, _ = _machine(given)
    with blame("-machine", name):
        return boards.find_board(name).process


def _machine(given: Given) -> tuple[str, bool]:
    """Machine type and its property suppress-vmdesc."""
    text = given.text("machine")
    if text is None:
        return boards.DEFAULT.name, False
    with blame("-machine", text):
        options = Options(text, implied="type")
        machine = options.get("type") or boards.DEFAULT.name
        suppress_vmdesc = options.get_bool("suppress-vmdesc", False)
        options.finish()
        return machine, suppress_vmdesc


def settings_of(given: Given, config: MachineConfig) -> MigrationSettings:
    """What the machine type, ``-global`` and ``-only-migratable`` say about migration. Raises OptionError."""
    properties = []
    suppress, only = config.suppress_vmdesc, given.flag("only_migratable")
    for text in given.all("global"):
        with blame("-global", text):
            properties.append(parse_global(text))
            migration_settings({}, properties[-1:])
    with blame("-global"):
        return migration_settings(config.board.compat, properties, suppress_vmdesc=suppress, only_migratable=only)


def _single(given: Given, attribute: str, option: str, key: str) -> str | None:
    """The one value of an option like ``-machine [type=]name``."""
    text = given.text(attribute)
    if text is None:
        return None
    with blame(option, text):
        options = Options(text, implied=key)
        value = options.require(key)
        options.finish()
        return value


def _ram_size(given: Given) -> int:
    text = given.text("m")
    if text is None:
        return 0
    with blame("-m", text):
        options = Options(text, implied="size")
        size = options.get_size("size", 0, "M")
        options.finish()
        if size == 0:
            raise OptionError("Parameter 'size' expects a size greater than zero")
        return size


def _smp(given: Given) -> tuple[int, Topology | None]:
    text = given.text("smp")
    if text is None:
        return 1, None
    with blame("-smp", text):
        return parse_smp(text)


def _icount(given: Given) -> Icount | None:
    text = given.text("icount")
    if text is None:
        return None
    with blame("-icount", text):
        return parse_icount(text)


def _uuid(given: Given) -> uuid.UUID | None:
    text = given.text("uuid")
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        raise OptionError(f"-uuid {text}: failed to parse UUID string: wrong format") from None


def watchdog_action(given: Given) -> str:
    text = given.text("watchdog_action") or ACTIONS[0]
    if text not in ACTIONS:
        raise OptionError(f"-watchdog-action {text}: Unknown -watchdog-action parameter")
    return text


def checked_config(given: Given) -> MachineConfig:
    """``config_of``, with what cannot be blamed on the option that asks for it. Raises OptionError."""
    wanted = config_of(given)
    config = MachineConfig()
    for option, attribute, field in (
        ("-machine", "machine", "machine"), ("-cpu", "cpu", "cpu"), ("-m", "m", "ram_size"),
        ("-smp", "smp", "smp"), ("-smp", "smp", "grouping"), ("-icount", "icount", "icount"),
        ("-accel", "accel", "accel"),
    ):  # fmt: skip
        config = replace(config, **{field: getattr(wanted, field)})
        with blame(option, given.text(attribute) or ""):
            config.check()
    return wanted
