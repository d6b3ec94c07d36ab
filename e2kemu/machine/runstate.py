"""Run states: QEMU's names, and from which to which a machine may go."""

from __future__ import annotations

from e2kemu.errors import StateError

TRANSITIONS: dict[str, frozenset[str]] = {
    state: frozenset(targets.split())
    for state, targets in {
        "prelaunch": "running finish-migrate inmigrate",
        "inmigrate": "internal-error io-error paused running shutdown suspended watchdog guest-panicked"
        " finish-migrate prelaunch postmigrate debug",
        "running": "debug internal-error io-error paused finish-migrate restore-vm save-vm shutdown watchdog"
        " guest-panicked suspended",
        "paused": "running finish-migrate postmigrate prelaunch shutdown restore-vm save-vm",
        "debug": "running paused finish-migrate prelaunch",
        "internal-error": "paused finish-migrate prelaunch",
        "io-error": "running finish-migrate prelaunch",
        "finish-migrate": "running paused postmigrate prelaunch internal-error io-error shutdown suspended"
        " watchdog guest-panicked debug",
        "postmigrate": "running finish-migrate prelaunch shutdown",
        "restore-vm": "running prelaunch paused",
        "save-vm": "running paused prelaunch",
        "shutdown": "paused finish-migrate prelaunch",
        "suspended": "running finish-migrate prelaunch",
        "watchdog": "running finish-migrate prelaunch",
        "guest-panicked": "running finish-migrate prelaunch",
    }.items()
}
"""For each state those that may follow it; ``SNAPSHOT`` adds more."""

SNAPSHOT = frozenset(("save-vm", "restore-vm"))
"""States in which a snapshot is being saved or loaded: nobody may start, reset or migrate the machine then."""

NO_SNAPSHOT = frozenset(("inmigrate", "finish-migrate", "postmigrate")) | SNAPSHOT
"""States in which none can be made: the guest is somewhere else, or on its way."""

for _state in TRANSITIONS.keys() - NO_SNAPSHOT:
    # Here a snapshot is made in the background, also of a machine that is stopped: the state shows it.
    TRANSITIONS[_state] |= SNAPSHOT
    for _during in SNAPSHOT:
        TRANSITIONS[_during] |= {_state}

KEPT_BY_RESET = frozenset(("running", "inmigrate", "finish-migrate"))
"""States that a reset does not change; from all others the machine goes to prelaunch."""

NEEDS_RESET = frozenset(("shutdown", "internal-error"))
"""States that only a reset leads out of."""


def check_transition(old: str, new: str) -> None:
    """Raises StateError when a machine in state ``old`` cannot go to ``new``."""
    if new not in TRANSITIONS:
        raise StateError(f"unknown run state '{new}'")
    if new != old and new not in TRANSITIONS[old]:
        raise StateError(f"invalid runstate transition: '{old}' -> '{new}'")
