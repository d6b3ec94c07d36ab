"""The makers' whole set of golden vectors in every tier: ``python -m tests.cpu.all_vectors DIR [TIER ...]``.

DIR has their files ``ops-*.jsonl.gz``. For each tier: how many vectors that are not marked, and how many that are,
differ, by class (docs/semantics.md), and the differences of no class. Status 1 when there are such, when a tier differs
from the first one, or when there are no vectors.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.cpu.golden import TIERS, Difference, Tier, Vector, kind_of, of_makers


def vectors(folder: Path) -> Iterator[tuple[str, bool, Vector]]:
    """(file, whether it is marked as suspect, the vector) of all files, those with one wide instruction together."""
    for path in sorted(folder.glob("ops-*.jsonl.gz")):
        with gzip.open(path, "rt") as stream:
            read = [(bool(line.get("suspect")), of_makers(line)) for line in map(json.loads, stream)]
        read.sort(key=lambda one: str(one[1].key))
        yield from ((path.name.removesuffix(".jsonl.gz"), marked, v) for marked, v in read)


def main(arguments: list[str]) -> int:
    """See the module."""
    folder, names = Path(arguments[0]), arguments[1:] or list(TIERS)
    everything = list(vectors(folder))
    first: list[Difference] | None = None
    bad = not everything
    for name in names:
        tier = Tier(name)
        found = [tier.difference(v) for _, _, v in everything]
        counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        for (file, marked, v), difference in zip(everything, found, strict=True):
            if difference:
                kind = kind_of(v, difference)
                counts[marked][f"{kind}, {file}"] += 1
                if kind is None:
                    bad = True
                    print(f"{name}: {v} {difference}")
        for marked, table in counts.items():
            total = sum(one == marked for _, one, _ in everything)
            print(f"{name}: {table.total()} of {total} {'marked' if marked else 'unmarked'} vectors differ "
                  f"({tier.native} wide instructions in regions)")
            for kind, count in sorted(table.items()):
                print(f"    {count:6d} {kind}")
        others = sum(a != b for a, b in zip(found, first or found, strict=True))
        if others:
            bad = True
            print(f"{name}: {others} vectors end otherwise than in {names[0]}")
        first = first or found
        sys.stdout.flush()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
