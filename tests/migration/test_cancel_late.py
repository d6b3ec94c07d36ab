"""A source that gives up when all is written, but not confirmed, keeps its guest; the destination must not start it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from e2kemu.migration.certs import make_pki
from tests.migration.conftest import MakeSide
from tests.migration.toy import PAGE, LapWriter


@pytest.mark.parametrize("transport", ["tcp", "unix", "tls"])
@pytest.mark.parametrize("return_path", [False, True])
def test_cancel_while_the_destination_loads_leaves_one_guest(
    side: MakeSide, tmp_path: Path, transport: str, return_path: bool
) -> None:
    source, destination = side(64 * PAGE, LapWriter(64)), side(64 * PAGE, incoming=True)
    if transport == "tls":
        make_pki(tmp_path, hosts=["127.0.0.1"])
        for end, endpoint in ((source, "client"), (destination, "server")):
            end.service._objects.add("tls-creds-x509", "tls0", {"dir": str(tmp_path), "endpoint": endpoint})
            end.service.parameters.set({"tls-creds": "tls0"})
    loading, go_on = threading.Event(), threading.Event()
    device = destination.machine.devices[-1]
    load = device.load

    def slow_load(*arguments) -> None:  # type: ignore[no-untyped-def]
        loading.set()
        assert go_on.wait(30)
        load(*arguments)

    device.load = slow_load  # type: ignore[method-assign]
    source.service.capabilities.set({"return-path": return_path})
    source.machine.start()
    uri = destination.listen(f"unix:{tmp_path}/socket" if transport == "unix" else "tcp:127.0.0.1:0")
    source.service.migrate(uri)
    assert loading.wait(30)
    source.wait_status("device")
    assert source.service._outgoing is not None
    # the destination's slow device is the last: all that is left is the end, which is written at once
    assert source.service._outgoing.statistics.transferred > 0
    source.service.cancel()
    assert source.service.wait(30) == "cancelled"
    assert source.machine.is_running()
    go_on.set()
    assert destination.wait_incoming() == "failed"
    assert destination.machine.run_state == "inmigrate"
