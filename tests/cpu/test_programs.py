"""Programs: their sources assemble, link and run with our tools; their executables disassemble without a gap."""

from __future__ import annotations

import io
import lzma
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from e2kemu.cpu.disasm_cli import main as disassemble
from tests.cpu.guest import Guest
from tests.cpu.vectors import DATA
from tests.framework import forked

EXECUTABLES = ("hello", "alu-small", "mem-small", "call", "call-small", "sieve-small", "matmul-small")


def run(module: str, *arguments: str | Path) -> None:
    """One of our tools, as a process."""
    done = forked.run(
        [sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def unpacked(name: str) -> bytes:
    return lzma.decompress((DATA / f"{name}.xz").read_bytes())


class Program(Guest):
    """A guest that runs an executable from a file."""

    def load_file(self, path: Path) -> None:
        with open(path, "rb") as stream:
            elf = ELFFile(stream)
            for segment in elf.iter_segments("PT_LOAD"):
                self.space.write_bytes(segment["p_paddr"], segment.data())
            self.state.pc = elf.header["e_entry"]
        self.cpu.core.syscall_hook = self._system_call


@pytest.mark.parametrize(
    ("name", "define", "output"),
    [
        ("alu", "N=1000", b"36de24a510e19c08\n"),
        ("mem", "PASSES=3", b"00000002838c4000\n"),
        ("call", "N=1000", b"89be5361a5bb2d4d\n"),
    ],
)
def test_a_source_assembles_links_and_prints_what_it_must(
    name: str, define: str, output: bytes, tmp_path: Path
) -> None:
    (tmp_path / "rt.inc").write_bytes(unpacked("program-rt.inc"))
    source, part, program = (tmp_path / f"{name}{end}" for end in (".S", ".o", ""))
    source.write_bytes(unpacked(f"program-{name}.S"))
    run("e2kemu.cpu.asm_cli", "-cpu", "e8c", "-D", define, "-c", source, "-o", part)
    run("e2kemu.elf.ld_cli", part, "-o", program)
    guest = Program()
    guest.load_file(program)
    assert guest.cpu.run() == "exit"
    assert (guest.output, guest.status) == (output, 0)


@pytest.mark.parametrize("name", EXECUTABLES)
def test_an_executable_disassembles_without_an_unknown_word(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(unpacked(f"{name}.elf"))
    assert disassemble([str(path)]) == 0
    text = capsys.readouterr().out
    assert "Disassembly of section .text:" in text
    assert text.count("{\n") >= 20
    assert not any(word in text for word in ("error", "reserved", "invalid", "unknown"))


@pytest.mark.parametrize("name", EXECUTABLES)
def test_the_source_of_an_executable_gives_its_code_again(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elf, source, image = (tmp_path / f"{name}{end}" for end in (".elf", ".s", ".bin"))
    elf.write_bytes(unpacked(f"{name}.elf"))
    section = ELFFile(io.BytesIO(elf.read_bytes())).get_section_by_name(".text")
    assert disassemble(["--source", str(elf)]) == 0
    text = capsys.readouterr().out
    assert text.count("{\n") >= 20
    source.write_text(text)
    run("e2kemu.cpu.asm_cli", "-cpu", "v4", "--raw", "--base", hex(section["sh_addr"]), source, "-o", image)
    assert image.read_bytes() == section.data()
