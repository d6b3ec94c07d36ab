"""The key log of handshakes, and the collector, which may come at any moment."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from e2kemu.errors import TlsError
from e2kemu.migration import tls_secrets
from e2kemu.migration.certs import make_pki
from e2kemu.migration.tls import wrap_client
from tests.migration.test_channel import Background
from tests.migration.test_tls import client_creds, secured, server_creds, socket_pair


class CollectingLock:
    """A lock whose holder makes objects, so many that the collector comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        gc.collect()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_handshake_in_which_the_collector_takes_a_failed_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pki(tmp_path, hosts=["localhost"])
    client, server = client_creds(tmp_path), server_creds(tmp_path)

    def handshakes() -> None:
        source, destination = socket_pair()
        destination.writev([b"no TLS here\n" * 10])
        with pytest.raises(TlsError) as caught:
            wrap_client(source, client, "localhost", timeout=5)
        cycle: list[object] = [caught.value]
        cycle.append(cycle)  # as exceptions that somebody keeps often are
        destination.close()
        del cycle, caught
        for channel in secured(socket_pair(), client, server):
            channel.close()

    gc.disable()
    monkeypatch.setattr(tls_secrets, "_lock", CollectingLock())
    try:
        Background(handshakes).result()
    finally:
        gc.enable()
