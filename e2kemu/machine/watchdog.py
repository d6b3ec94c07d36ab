"""What is done when a watchdog has run out, and resets that the guest asks for.

The actions are QEMU's (``-watchdog-action``, ``-action watchdog=``, QMP ``watchdog-set-action``): "reset" (default),
"shutdown" (the power button), "poweroff", "inject-nmi", "pause", "debug" (a line on stderr), "none". The event
WATCHDOG names the one that was taken.
"""

from __future__ import annotations

import sys
from typing import Protocol

from e2kemu.devices.iohub import Spmc
from e2kemu.errors import StateError
from e2kemu.machine.interrupts import inject_nmi
from e2kemu.machine.machine import Machine

ACTIONS = ("reset", "shutdown", "poweroff", "inject-nmi", "pause", "debug", "none")

SNAPSHOT_PATIENCE = 0.05
"""Seconds after which a reset is tried again while a snapshot is made."""

ON_ITS_WAY = ("finish-migrate", "postmigrate")
"""Run states in which a reset is not ours to make: it is made where the guest runs on."""


class ResetSwitch(Protocol):
    """The board's part that lets a watchdog reset the machine, or does not."""

    def watchdog(self) -> bool:
        """Reset, if that is allowed. Whether it is."""


def watchdog_expired(machine: Machine, switch: ResetSwitch | None = None) -> None:
    """Take the action; called in the main loop. With a ``switch`` a reset is made by it."""
    action = machine.watchdog_action
    if action == "reset" and switch is not None and not switch.watchdog():
        action = "none"
    machine.emit("WATCHDOG", {"action": action})
    if action == "reset" and switch is None:
        request_reset(machine)
    elif action == "inject-nmi":
        inject_nmi(machine)
    elif action == "pause":
        machine.stop("watchdog")
    elif action == "debug":
        print("e2kemu: watchdog: timer fired", file=sys.stderr, flush=True)
    elif action == "poweroff":
        machine.shutdown(0, guest=True, reason="guest-shutdown")
    elif action == "shutdown":
        for device in machine.devices:
            if isinstance(device, Spmc):
                device.press_button()


def request_reset(machine: Machine) -> None:
    """Reset the machine in the main loop: a CPU that asks for it stands in the middle of an instruction."""

    def finish() -> None:
        if machine.run_state in ON_ITS_WAY:
            return
        try:
            machine.reset(guest=True, reason="guest-reset")
        except StateError:
            machine.loop.call_later(SNAPSHOT_PATIENCE, finish)

    machine.loop.call_soon(finish)
    for cpu in machine.cpus:
        cpu.request_exit()
