"""``e2kemu-dis``, as a person and as a program runs it."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.disasm_cli import main
from e2kemu.cpu.listing import pieces
from e2kemu.elf.constants import Binding, SymbolType
from e2kemu.elf.writer import ObjectFile
from tests.cpu.vectors import DATA, disassembled, words_to_bytes


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program for Elbrus-8C, made by foreign tools."""
    path = tmp_path / "hello.elf"
    path.write_bytes(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    return path


@pytest.fixture
def relocatable(tmp_path: Path) -> Path:
    """An object file with a call to a function of another."""
    made = ObjectFile("v4", name="a.o")
    text = made.section(".text", align=8)
    text.append(words_to_bytes(["00004001", "40000000"]), 8)
    made.symbol("start", text, 0, size=8, binding=Binding.GLOBAL, type=SymbolType.FUNC)
    text.relocate(4, "R_E2K_DISP", made.symbol("elsewhere", binding=Binding.GLOBAL), 4)
    path = tmp_path / "a.o"
    path.write_bytes(made.to_bytes())
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("e2kemu-dis: ").rstrip("\n")


@pytest.mark.parametrize("version", range(2, 8))
def test_json_of_a_flat_image_has_every_golden_line(
    version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = [v for v in disassembled() if v["iset"] == version and not v.get("addr")]
    path = tmp_path / "image"
    path.write_bytes(b"".join(vector["data"] for vector in vectors))
    found = [
        json.loads(line)
        for line in run(capsys, "--json", "--raw", "--base", "0x2000", "-cpu", f"v{version}", path)
    ]
    address, compared = 0x2000, 0
    for vector, piece in zip(vectors, found, strict=True):
        assert (piece["addr"], piece["words"]) == (address, vector["words"])
        if not any(
            line.startswith(("disp", "ldisp", "ibranch", "puttsd")) or (", 0x" in line and "disp" in line)
            for line in vector["text"]
        ):
            assert piece["text"] == vector["text"]
            compared += 1
        address += 4 * len(vector["words"])
    assert compared >= 1500


def test_json_gives_an_error_for_what_does_not_decode_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "image"
    words = ["04000001", "0dffffff", "0000000f", "00000000", "04000001", "10818283"]
    path.write_bytes(words_to_bytes(words) + b"\x01\x02\x03")
    first, second, third = [json.loads(line) for line in run(capsys, "--json", "--raw", "-cpu", "v4", path)]
    assert first["words"] == ["04000001", "0dffffff"]
    assert first["error"].startswith(
        "ALS0 cop: instruction set v4 has no operation with cop 0xd in channel 0"
    )
    assert (second["addr"], second["text"][0]) == (8, "apb ct=0, fmt=0")
    assert (third["addr"], third["words"]) == (24, ["030201"])
    assert third["error"].startswith("HS: a wide instruction has at least 8 bytes, here are 3")
    assert "text" not in first


def test_a_program_of_foreign_tools_disassembles_fully(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(capsys, program)
    assert lines[0].endswith("file format elf64-e2k, e8c (v4), type EXEC")
    assert not [line for line in lines if "error" in line]
    assert "00000000000100b0 <_start>:" in lines
    assert "            disp %ctpr1, 0x10168 <main>" in lines
    assert sum(line.strip() == "{" for line in lines) == 433


def test_a_chosen_version_overrides_that_of_the_file(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "dbl = " in "\n".join(run(capsys, "-cpu", "e2c3", program))
    assert "dbl = " not in "\n".join(run(capsys, "-cpu", "v2", program))


def test_words_can_be_left_out(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "   100b0:" in run(capsys, "--no-show-raw-insn", program)


def test_colours_only_when_asked_or_on_a_terminal(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b[" not in "\n".join(run(capsys, program))
    assert "\x1b[36mgetsp,0\x1b[0m" in "\n".join(run(capsys, "--color", "always", program))


def test_views_of_a_program(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = "\n".join(run(capsys, "-x", program))
    assert "1 .text                PROGBITS     00000000000100b0 000000b0 00001500 AX" in everything
    assert (
        "LOAD         offset 0x00000000 address 0x0000000000010000 file 0x15c0 memory 0x15c0 r-x"
        in everything
    )
    assert "0000000000010168 global func     .text            00000060 main" in everything
    assert "Disassembly" not in everything
    assert "Symbols:" in run(capsys, "-t", program)
    assert "Disassembly of section .rodata:" in run(capsys, "-D", program)


def test_relocations_are_shown_alone_or_in_place(
    relocatable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "  0000000000000004 R_E2K_DISP               elsewhere+0x4" in run(capsys, "-r", relocatable)
    lines = run(capsys, "-d", "-r", relocatable)
    assert "            0x4: R_E2K_DISP elsewhere+0x4" in lines
    assert "0000000000000000 <start>:" in lines


def test_explain_shows_every_syllable_and_field(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--explain", "0x10418012", "1F099485", "60000000", "00002063", "-cpu", "v4")
    assert lines[1] == "  staad,2 %dr5, %aad1 [ %aasti3 ]"
    assert any(line.startswith("ALS2 0x1f099485  offset 0x4") for line in lines)
    assert any(line.startswith("CDS0.low 0x2063  offset 0xc") for line in lines)
    assert any(line.split()[:3] == ["cop", "30:24", "0x1f"] for line in lines)


def test_explain_says_what_is_wrong_and_explains_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--explain", "04000001", "0dffffff")
    assert lines[0].startswith("error: ALS0 cop:")
    assert any(line.startswith("ALS0 0x0dffffff") for line in lines)
    assert "illegal: HS: bit 11" in run(capsys, "--explain", "800", "0")


def test_every_vector_can_be_explained() -> None:
    from e2kemu.cpu.explain import explain

    count = 0
    for vector in list(disassembled())[::20]:
        if vector["kind"] != "apb":
            assert len(explain(vector["data"], vector["iset"])) > 10
            count += 1
    assert count >= 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("/nonexistent",), "/nonexistent: No such file or directory"),
        (("--raw", "-cpu", "e9", "/dev/null"), "unknown CPU 'e9': use v1..v7 or e2c+, "),
        (("/dev/null",), "/dev/null is no ELF file (--raw reads a flat image)"),
        (("--explain", "0xZZ"), "'0xZZ' is not a 32-bit word in hexadecimal"),
        (("--explain", "1FFFFFFFF"), "'1FFFFFFFF' is not a 32-bit word in hexadecimal"),
        (("--explain", "0"), "HS: a wide instruction has at least 8 bytes, here are 4"),
    ],
)
def test_wrong_use_gives_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(capsys, *arguments).startswith(message)


def test_an_elf_file_for_another_machine_is_refused(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(program.read_bytes())
    data[18] = 62
    other = tmp_path / "other"
    other.write_bytes(data)
    assert fails(capsys, other) == f"{other} is for machine 62, not for e2k (175)"


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_elf_file_gives_lines_or_one_complaint(data: st.DataObject) -> None:
    from e2kemu.cpu.disasm_elf import read_elf
    from e2kemu.errors import ImageError

    image = bytearray(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    for _ in range(data.draw(st.integers(1, 6))):
        region = data.draw(st.sampled_from((range(64), range(0x15C0, len(image)), range(len(image)))))
        image[data.draw(st.sampled_from(region))] = data.draw(st.integers(0, 255))
    del image[data.draw(st.integers(16, len(image))) :]
    problem = ""
    try:
        read_elf(bytes(image), "damaged")
    except ImageError as error:
        problem = str(error)
    assert "\n" not in problem


@given(st.binary(max_size=200), st.integers(1, 7))
@settings(max_examples=300, deadline=None)
def test_the_pieces_of_random_bytes_cover_them(data: bytes, version: int) -> None:
    offset = 0
    for piece in pieces(data, version, 0x1000):
        assert (piece.offset, piece.address) == (offset, 0x1000 + offset)
        assert bool(piece.error) != bool(piece.text) or not piece.error
        offset += piece.size
    assert offset == len(data)


def test_the_command_is_installed_and_survives_a_reader_that_leaves(program: Path) -> None:
    command = Path(sys.executable).parent / "e2kemu-dis"
    with subprocess.Popen([command, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"elf64-e2k" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
