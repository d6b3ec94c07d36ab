"""``-device virtconsole``: from option texts to the virtio consoles of a machine.

``-device virtio-serial-device``, the bus that such a console needs in QEMU, may be given and does nothing: every
console has a virtio window of its own.
"""

from __future__ import annotations

from e2kemu.chardev import Chardev, ChardevSet
from e2kemu.cli_config import blame
from e2kemu.cli_table import Given
from e2kemu.errors import OptionError
from e2kemu.options import Options

CONSOLE, BUS = "virtconsole", "virtio-serial-device"


def is_console(text: str) -> bool:
    """Whether a -device is a console, or the bus for them."""
    return Options(text, implied="driver").get("driver") in (CONSOLE, BUS)


def consoles_of(given: Given, chardevs: ChardevSet) -> tuple[Chardev, ...]:
    """The other ends of the consoles of the command line. Raises OptionError that names the option."""
    consoles: list[Chardev] = []
    for text in given.all("device"):
        if is_console(text):
            with blame("-device", text):
                consoles += _console(text, chardevs)
    return tuple(consoles)


def _console(text: str, chardevs: ChardevSet) -> list[Chardev]:
    options = Options(text, implied="driver")
    driver = options.require("driver")
    name = options.get("chardev") if driver == CONSOLE else None
    ident = options.get("id", "") or ""
    for key in options.rest():
        raise OptionError(f"Property '{driver}.{key}' not found")
    if driver == BUS:
        return []
    if name is None:
        raise OptionError("chardev property not set")
    return [chardevs.frontend(f"chardev:{name}", ident or name)]
