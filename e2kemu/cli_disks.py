"""``-drive`` and ``-device``: from option texts to open drives and the disks of a machine.

Order and errors are QEMU's: all drives are opened first, then each ``-device`` names one of them by its id; a
drive with ``if=virtio`` gets a device by itself. Unless the machine waits for a migration, the images are locked
here, so that a file in use is the fault of the option that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from e2kemu.block.drive import Drive, parse_drive
from e2kemu.cli_console import CONSOLE, is_console
from e2kemu.cli_net import CARD, is_card
from e2kemu.cli_table import Given
from e2kemu.errors import E2kError, OptionError
from e2kemu.machine.config import DiskConfig
from e2kemu.options import Options

DISK = "virtio-blk-device"

Cleanup = Callable[[Callable[[], None]], object]
"""``ExitStack.callback``: called with what must happen at the end."""


def device_help() -> str:
    """What ``-device help`` prints."""
    return (
        f'Storage devices:\nname "{DISK}", bus virtio-mmio\n\n'
        f'Network devices:\nname "{CARD}", bus virtio-mmio\n\n'
        f'Input devices:\nname "{CONSOLE}", bus virtio-mmio\n'
    )


def open_disks(given: Given, at_end: Cleanup, *, incoming: bool) -> list[tuple[Drive, DiskConfig | None]]:
    """All drives, each with the disk that uses it (None: nobody does), disks in the order of their windows.

    Raises OptionError that names the option.
    """
    drives: dict[str, Drive] = {}
    for number, text in enumerate(given.all("drive")):
        with _blame("-drive", text):
            drive = parse_drive(text, number)
            at_end(drive.close)
            if drive.id in drives:
                raise OptionError(f"Duplicate ID '{drive.id}' for drive")
            drives[drive.id] = drive
            if not incoming:
                drive.activate()
    used: dict[str, DiskConfig] = {}
    for drive in drives.values():
        if drive.interface == "virtio":
            used[drive.id] = DiskConfig(drive)
    for text in given.all("device"):
        if is_card(text) or is_console(text):
            continue
        with _blame("-device", text):
            disk = _device(text, drives, {disk.id for disk in used.values() if disk.id})
            if disk.drive.id in used:
                raise OptionError(f"Drive '{disk.drive.id}' is already in use by another block device")
            used[disk.drive.id] = disk
    unused = [(drive, None) for ident, drive in drives.items() if ident not in used]
    return [*((disk.drive, disk) for disk in used.values()), *unused]


def _device(text: str, drives: dict[str, Drive], taken: set[str]) -> DiskConfig:
    options = Options(text, implied="driver")
    driver = options.require("driver")
    if driver != DISK:
        raise OptionError(f"'{driver}' is not a valid device model name")
    name = options.get("drive")
    serial, ident = options.get("serial", "") or "", options.get("id", "") or ""
    for key in options.rest():
        raise OptionError(f"Property '{DISK}.{key}' not found")
    if name is None:
        raise OptionError("drive property not set")
    if name not in drives:
        raise OptionError(f"Property '{DISK}.drive' can't find value '{name}'")
    if ident in taken:
        raise OptionError(f"Duplicate device ID '{ident}'")
    if len(serial.encode()) > 20:
        raise OptionError(f"serial '{serial}' is longer than 20 bytes")
    return DiskConfig(drives[name], serial, ident)


@contextmanager
def _blame(option: str, text: str) -> Iterator[None]:
    try:
        yield
    except E2kError as error:
        raise OptionError(f"{option} {text}: {error}") from error
