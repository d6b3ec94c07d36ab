"""virtio-rng: random bytes. Source: the virtio specification 1.2, "Entropy Device".

One queue; a request is buffers that the device fills, at most ``MAX_REQUEST`` bytes of them. The bytes are the host's
(``os.urandom``), which never waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

from e2kemu.devices import vmstate as vm
from e2kemu.devices.virtio_mmio import TRANSPORT_STATE, VirtioMmio, queues_state
from e2kemu.devices.virtqueue import Chain, VirtioError
from e2kemu.memory.space import AddressSpace

MAX_REQUEST = 1 << 16
"""Bytes of one request that are filled: bounds how long the guest's CPU stands in it."""


class VirtioRng(VirtioMmio):
    """virtio entropy device"""

    name = "virtio-rng-device"
    device_type = 4

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "virtio-rng", 1, [*TRANSPORT_STATE, queues_state(1)], post_load="_post_load"
    )

    def __init__(self, space: AddressSpace, source: Callable[[int], bytes] = os.urandom) -> None:
        """``source(count)`` gives random bytes."""
        super().__init__(space)
        self._source = source

    def offered(self) -> int:
        return 0

    def properties(self) -> dict[str, str]:
        return {"rng": '"/dev/urandom"', "max-bytes": str(MAX_REQUEST)}

    def _post_load(self, version: int) -> None:
        self.check_loaded()

    def handle(self, queue: int, chain: Chain) -> int:
        if not chain.writable_size:
            raise VirtioError("virtio-rng request without a buffer to fill")
        count = min(chain.writable_size, MAX_REQUEST)
        chain.write(0, self._source(count))
        return count
