"""How much of everything: the full run, and a quick one of the same code."""

from dataclasses import dataclass, replace


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

    def up_to(self, largest: int) -> "Scale":
        """The same with nothing larger than ``largest``."""
        return replace(
            self,
            sizes=tuple(size for size in self.sizes if size <= largest) or (largest,),
            headline=min(self.headline, largest),
            stores=min(self.stores, largest),
            batch=min(self.batch, largest),
            shakes=min(self.shakes, largest),
            cells=min(self.cells, largest),
        )


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
)
