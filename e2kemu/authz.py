"""Who may: the object types ``authz-*``. Other parts ask one of them about an identity and get yes or no.

=================  ========================================================================================
authz-simple       identity=TEXT: this one only
authz-list         rules, of which the first that fits decides, and policy=allow|deny (deny) for whom none
                   fits. Rules are rules.N.match=TEXT, rules.N.policy=allow|deny, rules.N.format=exact|glob
                   (exact), N from 0
authz-list-file    such a list in a JSON file: filename=PATH; refresh=on|off (on): follow its changes
=================  ========================================================================================

The file is ``{"policy": "deny", "rules": [{"match": "CN=a*", "policy": "allow", "format": "glob"}]}``. In a
glob ``*`` stands for any text and ``?`` for one character; nothing else is special.

With refresh=on the file is read whenever somebody asks and it is not the file read last. While it cannot be
read, or makes no sense, everybody is denied and stderr says why, until it is good again.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2kemu.errors import OptionError
from e2kemu.objects import (
    ObjectStore,
    Property,
    check_properties,
    flatten,
    numbered,
    read_properties,
    user_object,
)
from e2kemu.options import parse_bool


class Authz(ABC):
    """Decides on identities. What they are knows the one who asks: for TLS, names in certificates."""

    id: str

    @abstractmethod
    def is_allowed(self, identity: str) -> bool:
        """Whether ``identity`` may. Any thread."""

    def unload(self) -> None:
        """May go at any time: nobody is let in by an object that is gone."""
        return


def find_authz(store: ObjectStore, ident: str) -> Authz:
    """The object called ``ident``. Raises OptionError."""
    found = store.get(ident)
    if found is None:
        raise OptionError(f"Cannot find QAuthZ object ID {ident}")
    if not isinstance(found, Authz):
        raise OptionError(f"Object '{ident}' is not a QAuthZ subclass")
    return found


@user_object("authz-simple")
class SimpleAuthz(Authz):
    """One identity."""

    PROPERTIES = (Property("identity", "who may", required=True),)

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong or missing property."""
        self.identity = read_properties(self.PROPERTIES, properties)["identity"]
        self.id = ident

    def is_allowed(self, identity: str) -> bool:
        return identity == self.identity


POLICIES = ("deny", "allow")


@dataclass(frozen=True)
class Rule:
    """One line of a list."""

    PROPERTIES = (
        Property("match", "the identities it is about", required=True),
        Property("policy", "what becomes of them", "QAuthZListPolicy", choices=POLICIES, required=True),
        Property("format", "how match is written", "QAuthZListFormat", "exact", ("exact", "glob")),
    )

    pattern: re.Pattern[str]
    allow: bool

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Rule:
        """From its members match, policy and format. Raises OptionError."""
        rule = read_properties(cls.PROPERTIES, given)
        text = re.escape(rule["match"])
        if rule["format"] == "glob":
            text = text.replace(r"\*", ".*").replace(r"\?", ".")
        return cls(re.compile(text, re.DOTALL), rule["policy"] == "allow")


@dataclass(frozen=True)
class RuleList:
    """The first rule that fits decides; ``allow`` for whom none fits."""

    PROPERTIES = (
        Property("policy", "for whom no rule fits", "QAuthZListPolicy", "deny", POLICIES),
        Property("rules", "rules.N.match=, rules.N.policy=, rules.N.format=; N from 0", "QAuthZListRule",
                 structured=True),
    )  # fmt: skip

    rules: tuple[Rule, ...]
    allow: bool

    @classmethod
    def of(cls, given: Mapping[str, str]) -> RuleList:
        """From the properties policy and rules.N.*. Raises OptionError."""
        policy = read_properties(cls.PROPERTIES, given)["policy"]
        return cls(tuple(Rule.of(rule) for rule in numbered(given, "rules")), policy == "allow")

    def is_allowed(self, identity: str) -> bool:
        for rule in self.rules:
            if rule.pattern.fullmatch(identity):
                return rule.allow
        return self.allow


@user_object("authz-list")
class ListAuthz(Authz):
    """Rules in the options."""

    PROPERTIES = RuleList.PROPERTIES

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong or missing property."""
        self.id = ident
        self._list = RuleList.of(properties)

    def is_allowed(self, identity: str) -> bool:
        return self._list.is_allowed(identity)


_Stamp = tuple[int, int, int, int]


@user_object("authz-list-file")
class ListFileAuthz(Authz):
    """Rules in a file."""

    PROPERTIES = (
        Property("filename", "the file, in JSON", required=True),
        Property("refresh", "follow its changes", "bool", "on"),
    )

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong or missing property, a file that is not such a list."""
        given = read_properties(self.PROPERTIES, properties)
        self.id = ident
        self.path = Path(given["filename"])
        self.refresh = parse_bool(given["refresh"], "refresh")
        self._lock = threading.Lock()
        self._list: RuleList | None
        self._stamp: _Stamp | None
        self._list, self._stamp = self._load()

    def is_allowed(self, identity: str) -> bool:
        with self._lock:
            if self.refresh:
                self._follow()
            rules = self._list
        return rules is not None and rules.is_allowed(identity)

    def _follow(self) -> None:
        """Read the file again if it has changed."""
        try:
            if self._stamp is not None and _stamp(os.stat(self.path)) == self._stamp:
                return
            self._list, self._stamp = self._load()
        except (OptionError, OSError) as error:
            # What was allowed may just have been withdrawn: better nobody than the wrong one.
            self._list, self._stamp = None, None
            why = error if isinstance(error, OptionError) else f"Unable to read {self.path}: {error.strerror}"
            print(f"e2kemu: object '{self.id}' denies everybody: {why}", file=sys.stderr, flush=True)

    def _load(self) -> tuple[RuleList, _Stamp]:
        try:
            with open(self.path, "rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                content = file.read()
        except (OSError, ValueError) as error:
            raise OptionError(f"Unable to read {self.path}: {getattr(error, 'strerror', error)}") from error
        try:
            given = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"Unable to parse {self.path} as JSON: {error}") from error
        if not isinstance(given, dict) or not isinstance(given.get("rules", []), list):
            raise OptionError(f"{self.path} is not a JSON object with a list 'rules'")
        try:
            check_properties(given, [one.name for one in RuleList.PROPERTIES])
            flat: dict[str, str] = {}
            for name, value in given.items():
                flat |= flatten(value, name)
            return RuleList.of(flat), stamp
        except OptionError as error:
            raise OptionError(f"{self.path}: {error}") from error


def _stamp(status: os.stat_result) -> _Stamp:
    """What tells one content of a file from another."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
