"""Every number has a handler, or a reason in the documentation."""

from __future__ import annotations

from pathlib import Path

import e2kemu.linux.calls  # noqa: F401 - fills the table
from e2kemu.linux.calls_doc import REASONS, document
from e2kemu.linux.numbers import NUMBERS
from e2kemu.linux.table import CALLS

DOC = Path(__file__).parents[2] / "docs" / "linux-user-calls.md"


def test_every_call_is_there_or_its_absence_is_explained() -> None:
    assert len(NUMBERS) >= 415
    missing = {name for name, number in NUMBERS.items() if number not in CALLS}
    assert missing == set(REASONS), "calls_doc.REASONS has to name exactly the calls without a handler"
    assert all(len(reason) > 5 for reason in REASONS.values())


def test_most_calls_are_there() -> None:
    assert len(CALLS) >= 290


def test_the_documentation_is_what_the_table_says() -> None:
    assert DOC.read_text() == document(), "python -m e2kemu.linux.calls_doc > docs/linux-user-calls.md"


def test_no_signature_has_more_arguments_than_registers() -> None:
    for call in CALLS.values():
        assert len(call.arguments) <= 8, call.name
