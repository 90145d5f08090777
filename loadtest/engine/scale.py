"""How much of everything: the full run, and smaller ones of the same code."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Scale:
    """``sizes`` of the clustered world, and up to ``other_worlds`` of the other two; ``headline``, that of most goals.

    ``questions`` are asked in ``turns`` rounds, of a slow contender as many as fit into ``budget_s``; ``sample`` of
    them are checked by brute force.
    """

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    other_worlds: int = 10_000_000
    headline: int = 1_000_000
    questions: int = 500
    turns: int = 5
    budget_s: float = 2.5
    sample: int = 20
    stores: int = 25_000
    batch: int = 1_000_000
    runs: int = 5
    rebuilds: int = 20
    shakes: int = 1_000_000
    cells: int = 1_000_000


FULL = Scale()
QUICK = Scale(
    sizes=(10_000, 100_000, 1_000_000),
    other_worlds=100_000,
    questions=200,
    turns=3,
    budget_s=0.5,
    sample=5,
    batch=200_000,
    runs=3,
    shakes=200_000,
)
"""Two minutes or three on a quiet machine."""
TINY = Scale(
    sizes=(2_000,),
    headline=2_000,
    questions=30,
    turns=2,
    budget_s=0.2,
    sample=10,
    stores=2_000,
    batch=2_000,
    runs=1,
    rebuilds=3,
    shakes=2_000,
    cells=2_000,
)
"""For tests: everything runs and every answer is checked; its times tell nothing."""
