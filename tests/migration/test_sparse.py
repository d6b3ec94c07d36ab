"""What is not there costs nothing, and what need not wait for the pause does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.migration.ram import zero_pages
from tests.migration.conftest import MakeSide
from tests.migration.toy import MIB, PAGE


@pytest.mark.parametrize("detection", ["multifd", "none"])
def test_a_sparse_machine_stays_sparse_and_arrives(side: MakeSide, detection: str) -> None:
    source, destination = side(64 * MIB), side(64 * MIB, incoming=True)
    used = np.random.default_rng(2).choice(64 * MIB // PAGE, 300, replace=False)
    source.machine.ram.view.reshape(-1, PAGE)[used, 9] = 7
    source.service.parameters.set({"max-bandwidth": 0, "zero-page-detection": detection})
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"
    assert (source.machine.ram.view == destination.machine.ram.view).all()
    ram = source.service.query()["ram"]
    pages = ram["total"] // PAGE
    assert ram["normal"] == (300 if detection == "multifd" else pages)
    assert ram["duplicate"] == pages - ram["normal"]


def test_pages_that_became_zero_again_are_zero_at_the_destination(side: MakeSide) -> None:
    source, destination = side(8 * MIB), side(8 * MIB, incoming=True)
    destination.machine.ram.view[MIB : 3 * MIB] = 0xEE  # left from another life
    source.machine.ram.view[2 * MIB : 4 * MIB] = 1
    source.machine.ram.view[2 * MIB : 4 * MIB] = 0
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "completed"
    assert destination.wait_incoming() == "completed"
    assert not destination.machine.ram.view.any()


def test_an_idle_guest_leaves_no_page_for_its_pause(side: MakeSide) -> None:
    source, destination = side(48 * MIB), side(48 * MIB, incoming=True)
    source.machine.ram.view[:] = np.random.default_rng(3).integers(1, 256, 48 * MIB, dtype=np.uint8)
    source.service.parameters.set({"max-bandwidth": 64 * MIB, "downtime-limit": 400})
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.service.wait(60) == "completed"
    assert destination.wait_incoming() == "completed"
    ram = source.service.query()["ram"]
    assert ram["normal"] >= 48 * MIB // PAGE
    assert ram["downtime-bytes"] == 0


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, PAGE - 1), st.integers(1, 255)), max_size=60))
def test_zero_pages_are_exactly_those_without_another_byte(bytes_set: list[tuple[int, int, int]]) -> None:
    pages = np.zeros((40, PAGE), dtype=np.uint8)
    for page, offset, value in bytes_set:
        pages[page, offset] = value
    assert (zero_pages(pages) == ~pages.any(axis=1)).all()
