"""From an address to the channel that carries a migration: the one place where any transport is wrapped.

``set_outgoing_channel`` and ``set_incoming_channel`` put TLS around a channel when the parameter tls-creds
says so, whatever the channel is. What else a channel may need one day belongs here too.
"""

from __future__ import annotations

from e2kemu.authz import find_authz
from e2kemu.errors import OptionError, TlsError, one_line
from e2kemu.migration import tls_creds_anon, tls_creds_psk
from e2kemu.migration.address import Address, ExecAddress
from e2kemu.migration.channel import Channel
from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.tls import wrap_client, wrap_server
from e2kemu.migration.tls_creds import Authorize, TlsCreds, find_creds
from e2kemu.objects import ObjectStore

KINDS = (tls_creds_anon, tls_creds_psk)
"""Imported for the object types they declare."""


def credentials(parameters: MigrationParameters, objects: ObjectStore, endpoint: str) -> TlsCreds | None:
    """What tls-creds names, a server's with the check of tls-authz; None: no TLS.

    Raises OptionError: an object that is not there or of another kind, credentials for the other side, or
    that cannot tell whom tls-authz should be asked about.
    """
    if not parameters.tls_creds:
        if endpoint == "server" and parameters.tls_authz:
            raise OptionError("Parameter 'tls-authz' needs 'tls-creds'")
        return None
    creds = find_creds(objects, parameters.tls_creds, endpoint)
    if endpoint == "server" and parameters.tls_authz:
        return creds.authorized_by(_authorization(objects, parameters.tls_authz))
    return creds


def _authorization(objects: ObjectStore, ident: str) -> Authorize:
    """A check by the authz object ``ident``, as it is when a client has come. Raises OptionError."""
    find_authz(objects, ident)

    def authorize(name: str) -> None:
        if not find_authz(objects, ident).is_allowed(name):
            raise TlsError(f"TLS x509 authz check for {one_line(name)} is denied")

    return authorize


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
