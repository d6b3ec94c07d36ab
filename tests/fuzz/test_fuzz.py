"""A moment of each fuzzer; ``python -m tests.fuzz.asm --seconds 3600`` and ``tests.fuzz.code`` go on."""

from __future__ import annotations

import random

from tests.fuzz import asm, code
from tests.fuzz.loop import run


def test_sources_that_are_nearly_right_assemble_or_give_diagnostics() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    seen = run(asm.case, seed, count=1500)
    print(dict(seen))
    assert seen["images"] + seen["objects"] >= 150
    assert seen["diagnostics"] >= 300


def test_random_code_survives_encoding_decoding_printing_and_parsing() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    seen = run(code.case, seed, count=700)
    print(dict(seen))
    assert seen["legal"] >= 120
    assert seen["as text"] >= 120
    assert seen["pieces with error"] >= 50
