"""The areas: one module each with the values its programs compare with."""

from __future__ import annotations

from tests.guest.areas import control, floats, integer, packed, words
from tests.guest.harness import Area

AREAS: tuple[Area, ...] = (*integer.AREAS, *packed.AREAS, *floats.AREAS, *words.AREAS, *control.AREAS)
