"""Several seeds: one pinned process per core at once, or one process after the other on all cores?

Total environment steps a second of SAC on HalfCheetah-v5: one process per core, each pinned; the same processes without
pinning; and a single process on all cores.
"""

from __future__ import annotations

import functools as ft

import sheet
from contenders import WARM, estep_loop
from race import Contender, Member, usable

AFTER = 64


def members(cores: list[frozenset[int] | None]) -> list[Member]:
    """One process for each, of a seed of its own."""
    return [Member(ft.partial(estep_loop, 8, seed), WARM + AFTER, where) for seed, where in enumerate(cores)]


def contenders(count: int) -> list[Contender]:
    """One process, and `count` at once."""
    cores = usable()[:count]
    if len(cores) < count:
        raise SystemExit(f"Only {len(cores)} cores may be used here. Give fewer --processes.")
    return [
        Contender("one process", members([None])),
        Contender(f"{count} pinned", members([frozenset({core}) for core in cores])),
        Contender(f"{count} not pinned", members([None] * count)),
    ]


def main() -> None:
    parser = sheet.race_parser(__file__, __doc__, 15, 6.0, "one process")
    parser.add_argument("--processes", type=int, default=2, help="seeds at once, at most one for each core (2)")
    args = parser.parse_args()
    sheet.run(args, "env steps", contenders(args.processes))


if __name__ == "__main__":
    main()
