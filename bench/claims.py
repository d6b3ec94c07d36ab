"""What a bench has found beside what is wanted."""

from __future__ import annotations

from dataclasses import dataclass


def verdict(met: bool) -> str:
    """How it is told."""
    return "met" if met else "not met"


@dataclass(frozen=True)
class Claim:
    """A figure; without ``wanted`` it is only told."""

    name: str
    figure: str
    wanted: str = ""
    met: bool = True

    def line(self) -> str:
        """As it is printed."""
        tail = f"   wanted {self.wanted}: {verdict(self.met)}" if self.wanted else ""
        return f"{self.name:24s}{self.figure}{tail}"
