"""Round trips: bytes -> text -> bytes for every golden vector, and random wide instructions of every model."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm_source import STYLE, same_meaning, source, source_at
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import VERSIONS
from e2kemu.errors import ImageError
from tests.cpu.vectors import disassembled
from tests.fuzz.code import random_bundle, whole


def test_every_golden_vector_reads_back_as_the_same_bytes_or_the_same_meaning() -> None:
    counts: Counter[str] = Counter()
    for vector in disassembled():
        data, version, address = vector["data"], vector["iset"], vector.get("addr") or 0
        size, lines = source_at(data, version, address)
        assert size == len(data)
        again = assemble("\n".join([STYLE, *lines, ""]), version=version, base=address).data
        if again == data:
            counts["equal bytes"] += 1
        else:
            assert same_meaning(decode(again, version, address), decode(data, version, address)), vector
            counts["equal meaning"] += 1
        counts["words, because no text says it"] += lines[-1].startswith(".word")
    print(dict(counts))
    assert counts["equal bytes"] + counts["equal meaning"] == 20590
    assert counts["equal bytes"] >= 16000
    assert counts["words, because no text says it"] <= 225


def test_the_source_of_all_vectors_of_a_version_gives_all_bytes_again() -> None:
    count = 0
    for version in (2, 4, 7):
        data = b"".join(vector["data"] for vector in disassembled() if vector["iset"] == version)[: 1 << 14]
        text = "\n".join([STYLE, *source(data, version, 0x10000), ""])
        assert assemble(text, version=version, base=0x10000).data == data
        count += text.count("{\n")
    assert count >= 1000


@pytest.mark.parametrize("version", VERSIONS)
def test_random_wide_instructions_survive_encode_and_decode_print_and_parse(version: int) -> None:
    seed = random.randrange(1 << 32)
    choose, seen = random.Random(seed), Counter[str]()
    for _ in range(400):
        try:
            data = random_bundle(choose, version)
            wide = decode(data, version, choose.randrange(1 << 32) & ~7)
        except ImageError:
            continue
        whole(wide, data, seen)
    models = [model.name for model in MODELS.values() if model.version == version]
    print(f"seed {seed}, v{version} {models}: {dict(seen)}")
    assert seen["legal"] >= 120
    assert seen["as text"] >= 120


def test_random_wide_instructions_cover_every_model() -> None:
    assert {model.version for model in MODELS.values()} <= set(VERSIONS)
    assert len(MODELS) >= 8


def test_a_text_says_what_the_vendors_text_hides() -> None:
    words = (0x00001001, 0x00200126)  # a condition that no transfer uses
    data = b"".join(word.to_bytes(4, "little") for word in words)
    assert source_at(data, 4)[1] == ["{", "ipd 0", "abn abnf = 0, abnt = 1", "ctcond 9, 0x6", "}"]
