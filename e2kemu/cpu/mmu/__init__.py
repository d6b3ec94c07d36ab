"""Temporary stand-in."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class PageFault(Exception):
    missing = True

class Page(NamedTuple):
    physical: int
    rights: int

class Mmu:
    def __init__(self, model: Any, space: Any) -> None:
        self.on = False
        self.on_change: Callable[[int, int], None] = lambda a, b: None
        self.map: dict[int, tuple[int, int]] = {}

    def walk(self, address: int, access: int, privileged: bool, *, mark: bool = True) -> Page:
        found = self.map.get(address >> 12)
        if found is None or not found[1] & access:
            raise PageFault(address)
        return Page(found[0] | address & 4095, found[1])

    def native_walk(self) -> Any:
        return None
