"""The version of e2kemu: the one place that states it."""

__version__ = "1.0.0"
