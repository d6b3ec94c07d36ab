"""CPU models: what ``-cpu`` takes. IDR.mdl and the instruction set come from the headers of Linux for e2k."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CpuModel:
    """A CPU model: its ``-cpu`` name, instruction set version, IDR.mdl, and what it is."""

    name: str
    version: int
    mdl: int
    description: str

    @property
    def idr(self) -> int:
        """The IDR register: mdl[7:0], rev[11:8] = 2, wbl[14:12] = 2 (cache lines of 64 bytes)."""
        return self.mdl | 0x2 << 8 | 0x2 << 12


MODELS = {model.name: model for model in (
    CpuModel("e2c+", 2, 0x04, "Elbrus-2C+ (iset v2)"),
    CpuModel("e2s", 3, 0x03, "Elbrus-4C (iset v3)"),
    CpuModel("e8c", 4, 0x07, "Elbrus-8C (iset v4)"),
    CpuModel("e1cp", 4, 0x08, "Elbrus-1C+ (iset v4)"),
    CpuModel("e8c2", 5, 0x09, "Elbrus-8CB (iset v5)"),
    CpuModel("e12c", 6, 0x0A, "Elbrus-12C (iset v6)"),
    CpuModel("e16c", 6, 0x0B, "Elbrus-16C (iset v6)"),
    CpuModel("e2c3", 6, 0x0C, "Elbrus-2C3 (iset v6)"),
    CpuModel("e48c", 7, 0x0D, "Elbrus-48C (iset v7)"),
    CpuModel("e8v7", 7, 0x0E, "Elbrus-8V7 (iset v7)"),
)}
"""All models by name."""

DEFAULT_MODEL = "e8c"


def help_text() -> str:
    """The list that ``-cpu help`` prints."""
    return "Available CPUs:\n" + "".join(f"  {model.name:8s} {model.description}\n" for model in MODELS.values())
