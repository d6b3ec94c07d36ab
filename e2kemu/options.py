"""``key=value,key=value``: how QEMU's options are written, with its sizes and its error texts.

The rules: values end at a comma, ``,,`` is a comma inside a value; the first element may leave out its
key when the option has an implied one (``-M elbrus``); a key alone means ``key=on`` and ``nokey`` means
``key=off``; a later value of the same key wins. Whoever reads an option asks for the keys it knows and
then calls ``finish()``, which refuses all others: nothing is ignored.
"""

from __future__ import annotations

import re

from e2kemu.errors import OptionError

SUFFIXES = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
"""Size suffixes (upper case) and the power of two each stands for."""

_SIZE = re.compile(r"([0-9]{0,40})(?:\.([0-9]{0,40}))?([a-zA-Z]?)")
_LIMIT = 1 << 64


def parse_size(text: str, default_suffix: str = "B", name: str = "size") -> int:
    """A size in bytes: ``256M``, ``1.5G``, ``0x1000``, ``512`` (in units of ``default_suffix``).

    Suffixes B K M G T P E in either case are powers of 1024; hexadecimal takes no suffix; a fraction
    needs a scale greater than a byte and is cut to whole bytes. Raises OptionError naming ``name``.
    """
    wrong = OptionError(f"Parameter '{name}' expects a non-negative number below 2^64")
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,40}", text):
        value = int(text, 16) << SUFFIXES[default_suffix]
        if value >= _LIMIT:
            raise wrong
        return value
    match = _SIZE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise wrong
    whole, fraction, suffix = match[1] or "0", match[2] or "", (match[3] or default_suffix).upper()
    if suffix not in SUFFIXES:
        raise wrong
    scale = 1 << SUFFIXES[suffix]
    if match[2] is not None and scale == 1:
        raise wrong
    value = int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if value >= _LIMIT:
        raise wrong
    return value


def parse_number(text: str, name: str) -> int:
    """A non-negative integer below 2^64, decimal, ``0x`` or octal with a leading 0."""
    digits = text.lower()
    try:
        if digits.startswith("0x"):
            value = int(digits[2:], 16)
        elif len(digits) > 1 and digits.startswith("0"):
            value = int(digits, 8)
        else:
            value = int(digits)
    except ValueError:
        value = -1
    if not 0 <= value < _LIMIT or not re.fullmatch(r"[0-9a-fx]+", digits):
        raise OptionError(f"Parameter '{name}' expects a number")
    return value


def parse_bool(text: str, name: str) -> bool:
    """``on`` or ``off`` (also yes/no, true/false, y/n). Raises OptionError naming ``name``."""
    if text in ("on", "yes", "true", "y"):
        return True
    if text in ("off", "no", "false", "n"):
        return False
    raise OptionError(f"Parameter '{name}' expects 'on' or 'off'")


def split_pairs(text: str, implied: str | None = None) -> list[tuple[str, str]]:
    """The ``(key, value)`` pairs of an option text, in order. Raises OptionError for an empty key."""
    pairs: list[tuple[str, str]] = []
    for index, element in enumerate(_split_commas(text)):
        key, equals, value = element.partition("=")
        if equals:
            if not key:
                raise OptionError(f"Invalid parameter '{element}'")
            pairs.append((key, value))
        elif index == 0 and implied is not None:
            pairs.append((implied, element))
        elif element.startswith("no") and len(element) > 2:
            pairs.append((element[2:], "off"))
        elif element:
            pairs.append((element, "on"))
    return pairs


def _split_commas(text: str) -> list[str]:
    """Cut at single commas; a doubled one stays in the element as one."""
    elements = [""]
    at = 0
    while at < len(text):
        if text.startswith(",,", at):
            elements[-1] += ","
            at += 2
        elif text[at] == ",":
            elements.append("")
            at += 1
        else:
            elements[-1] += text[at]
            at += 1
    return elements if text else []


def escape(value: str) -> str:
    """``value`` as it must be written inside an option: commas doubled."""
    return value.replace(",", ",,")


class Options:
    """The pairs of one option. Each ``get*`` marks its key as known; ``finish`` refuses the rest."""

    def __init__(self, text: str, implied: str | None = None) -> None:
        self.text = text
        self._values = dict(split_pairs(text, implied))
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, default: str | None = None) -> str | None:
        """The text of ``key``, or ``default``."""
        self._known.add(key)
        return self._values.get(key, default)

    def require(self, key: str) -> str:
        """The text of ``key``. Raises OptionError when it is missing."""
        value = self.get(key)
        if value is None:
            raise OptionError(f"Parameter '{key}' is missing")
        return value

    def get_bool(self, key: str, default: bool) -> bool:
        """``key`` as on/off."""
        value = self.get(key)
        return default if value is None else parse_bool(value, key)

    def get_number(self, key: str, default: int) -> int:
        """``key`` as a non-negative integer."""
        value = self.get(key)
        return default if value is None else parse_number(value, key)

    def get_size(self, key: str, default: int, default_suffix: str = "B") -> int:
        """``key`` as a size in bytes."""
        value = self.get(key)
        return default if value is None else parse_size(value, default_suffix, key)

    def rest(self) -> dict[str, str]:
        """All pairs nobody has asked for, now taken (for ``-object``, whose type knows its keys)."""
        left = {key: value for key, value in self._values.items() if key not in self._known}
        self._known.update(left)
        return left

    def finish(self) -> None:
        """Raises OptionError for the first key that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                raise OptionError(f"Invalid parameter '{key}'")
