"""The status moves only as QEMU's does, and the first cause of a failure stays."""

from __future__ import annotations

import itertools

import pytest

from e2kemu.migration.state import INCOMING, OUTGOING, RUNNING, Graph, MigrationState

PRECOPY = ["setup", "active", "device", "completed"]


@pytest.mark.parametrize("path", [
    PRECOPY,
    ["setup", "active", "pre-switchover", "device", "completed"],
    ["setup", "failed", *PRECOPY],
    ["setup", "cancelling", "cancelled", *PRECOPY],
    ["setup", "active", "device", "cancelling", "completed"],
])  # fmt: skip
def test_the_recorded_sequences_are_legal(path: list[str]) -> None:
    state, seen = MigrationState(OUTGOING), []
    state.listeners.append(seen.append)
    for status in path:
        state.move(status)
    assert seen == path


def _state_at(graph: Graph, status: str) -> MigrationState:
    """A state that has moved to ``status`` by a legal way."""
    ways = {"none": list[str]()}
    while status not in ways:
        for here, way in list(ways.items()):
            for there in graph[here]:
                ways.setdefault(there, [*way, there])
    state = MigrationState(graph)
    for step in ways[status]:
        state.move(step)
    return state


@pytest.mark.parametrize("graph", [OUTGOING, INCOMING])
def test_every_other_move_is_refused(graph: Graph) -> None:
    refused = 0
    for here, there in itertools.product(graph, graph):
        if there in graph[here]:
            continue
        state = _state_at(graph, here)
        with pytest.raises(ValueError, match="illegal move"):
            state.move(there)
        assert state.status == here
        refused += 1
    assert refused >= 15


def test_a_final_state_leads_only_to_a_new_beginning() -> None:
    for status in ("completed", "failed", "cancelled"):
        assert OUTGOING[status] == {"setup"}
        assert status not in RUNNING


def test_the_first_error_stays_until_the_next_migration() -> None:
    state = MigrationState(OUTGOING)
    state.move("setup")
    state.record_error("the certificate has expired")
    state.record_error("broken pipe")
    state.move("failed")
    assert state.error == "the certificate has expired"
    state.move("setup")
    assert state.error is None
