"""From an address to the channel that carries a migration: the one place where any transport is wrapped.

``set_outgoing_channel`` and ``set_incoming_channel`` put TLS around a channel when the parameter tls-creds
says so, whatever the channel is. What else a channel may need one day belongs here too.
"""

from __future__ import annotations

from e2kemu.migration.address import Address, ExecAddress
from e2kemu.migration.channel import Channel
from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.tls import wrap_client, wrap_server
from e2kemu.migration.tls_creds import TlsCreds, find_creds
from e2kemu.objects import ObjectStore


def credentials(parameters: MigrationParameters, objects: ObjectStore, endpoint: str) -> TlsCreds | None:
    """What tls-creds names; None: no TLS. Raises OptionError when it is not there or for the other side."""
    return find_creds(objects, parameters.tls_creds, endpoint) if parameters.tls_creds else None


def set_outgoing_channel(
    channel: Channel, address: Address, creds: TlsCreds | None, tls_hostname: str
) -> Channel:
    """``channel`` as the source uses it. Blocks for the handshake. Raises TlsError."""
    if creds is None:
        return channel
    return wrap_client(channel, creds, tls_hostname or address.hostname)


def set_incoming_channel(channel: Channel, creds: TlsCreds | None) -> Channel:
    """``channel`` as the destination uses it. Blocks for the handshake. Raises TlsError."""
    return channel if creds is None else wrap_server(channel, creds)


def peer_may_answer(address: Address, channel: Channel) -> bool:
    """Whether an emulator may be at the other end: not behind a file, a pipe or a command's input."""
    return channel.supports_return_path and not isinstance(address, ExecAddress)
