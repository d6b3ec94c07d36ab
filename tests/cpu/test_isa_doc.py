"""The reference document."""

from __future__ import annotations

from pathlib import Path

from e2kemu.cpu.isa.table import by_name, rows
from e2kemu.cpu.isa_doc import channels_text, document, encoding, syntax

DOCUMENT = Path(__file__).parents[2] / "docs" / "isa.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m e2kemu.cpu.isa_doc > docs/isa.md"


def test_every_operation_is_in_the_document() -> None:
    text = document()
    names = {op.name for op in rows() if "plog_" not in op.name}
    assert len(names) >= 1400
    assert [name for name in names if f"| `{name},N " not in text] == []


def test_a_row_shows_syntax_encoding_and_channels() -> None:
    short, long = by_name("fadds")
    assert syntax(short) == "fadds,N %rA, %rB, %rR"
    assert (encoding(short), channels_text(short)) == ("ALOPF1 cop 30", "v1+ 0134")
    assert (encoding(long), channels_text(long)) == ("ALOPF11 cop 30 opc2 02 lo c0", "v4+ 25")
    (pair,) = by_name("stq")
    assert channels_text(pair) == "v5-v6 25, v7+ 2 (pairs 25)"
