"""From the values of ``-netdev`` to a back end that works."""

from __future__ import annotations

from e2kemu.loop import MainLoop
from e2kemu.net.backend import NetBackend
from e2kemu.net.config import NetdevConfig, UserConfig
from e2kemu.net.stream import StreamBackend
from e2kemu.net.user import UserBackend


def open_netdev(config: NetdevConfig, loop: MainLoop) -> NetBackend:
    """Make the back end. Raises OptionError."""
    if isinstance(config.settings, UserConfig):
        return UserBackend(config.id, loop, config.settings)
    return StreamBackend(config.id, loop, config.settings)
