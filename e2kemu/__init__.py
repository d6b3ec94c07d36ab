"""e2kemu: an Elbrus 2000 (e2k) computer that live-migrates."""

from e2kemu.version import __version__

__all__ = ["__version__"]
