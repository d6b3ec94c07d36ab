"""Every golden vector that somebody doubts, and all with tags and with ``dbl`` windows: where we differ, and why.

The vectors were made with the public C emulator, which is no hardware. tests/data has all that its makers marked as
suspect, and all vectors of tags and of ``dbl`` windows, 14,351. Each either says what we do, or its difference is of a
class below, and there are exactly so many of each class. docs/semantics.md has the same table with the evidence.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.cpu.golden import TIERS, Difference, Tier, Vector, kind_of, of
from tests.cpu.vectors import lines

DOCUMENT = Path(__file__).parents[2] / "docs" / "semantics.md"
SAMPLE = 150
"""Every so many of the vectors go through every tier here; all of them do so by ``tests.cpu.all_vectors``."""

COUNTS = {
    "not in the C emulator": 283,
    "denormal operand": 2_483,
    "quiet NaN in a quiet compare": 286,
    "FPCR.pc and loads": 79,
    "scale": 51,
    "square root": 12,
    "32-bit shift by 32 and more": 149,
    "128-bit shift by 0 bytes": 26,
    "carry": 4,
    "32-bit result": 137,
    "quotient": 46,
    "diagnostic operand traps": 219,
    "diagnostic result": 2_438,
}
"""Class of difference -> how many of the vectors."""


@cache
def vectors() -> tuple[Vector, ...]:
    return tuple(of(line["cpu"], line["op"], row) for line in lines("doubted.jsonl") for row in line["vectors"])


@cache
def differences() -> tuple[Difference, ...]:
    """What the oracle does otherwise than each vector."""
    oracle = Tier("oracle")
    return tuple(oracle.difference(v) for v in vectors())


@cache
def classified() -> tuple[Counter[str], tuple[str, ...]]:
    """How many differ in which way, and those that do in none of these."""
    counts: Counter[str] = Counter()
    unknown = []
    for v, found in zip(vectors(), differences(), strict=True):
        if found:
            kind = kind_of(v, found)
            if kind is None:
                unknown.append(f"{v.op.name} {v.cpu} {v.sources} tags {v.tags}{',sm' * v.speculative}: "
                               + ", ".join(f"{name} {bits:#x}" for name, bits in found.items()))
            else:
                counts[kind] += 1
    return counts, tuple(unknown)


def test_every_difference_from_a_golden_vector_is_of_a_known_class() -> None:
    assert classified()[1] == ()
    assert len(vectors()) == 14_351


def test_there_are_as_many_differences_of_each_class_as_we_know_of() -> None:
    assert dict(classified()[0]) == COUNTS


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_document_has_every_class_with_its_count_and_evidence(name: str) -> None:
    line = rf"^\| {re.escape(name)} \| ([\d,]+) \| (.+) \| (.+) \| (.+) \|$"
    row = re.search(line, DOCUMENT.read_text(), re.MULTILINE)
    assert row is not None
    assert int(row[1].replace(",", "")) == COUNTS[name]


@pytest.mark.parametrize("name", TIERS[1:])
def test_a_sample_of_the_vectors_ends_the_same_in_every_tier(name: str) -> None:
    tier = Tier(name)
    sample = [(v, found) for v, found in zip(vectors(), differences(), strict=True)][::SAMPLE]
    assert len(sample) > 90
    assert [(v, found) for v, found in sample if tier.difference(v) != found] == []
