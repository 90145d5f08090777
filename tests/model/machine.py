"""Runs sequences of acts, and of one that shows a divergence finds the few acts that show it."""

from collections import Counter
from collections.abc import Sequence
from itertools import count

from tests.model.acts import Act
from tests.model.people_model import HOUR_MS
from tests.model.product import Product
from tests.model.story import Divergence, Story

_SHRINK_TRIES = 80

_names = count()


async def run_acts(product: Product, acts: Sequence[Act]) -> Counter[str]:
    """Acts with fresh people, where nobody of before is seen any more. Raises Divergence with the number of the act."""
    await product.at(product.now_ms + 9 * HOUR_MS)
    for name in await product.state.call("KEYS", "{sea}:*"):
        await product.state.call("UNLINK", name)
    sequence = Story(product, f"r{next(_names)}")
    for number, act in enumerate(acts):
        try:
            await sequence.step(act)
            if number % 10 == 9:
                await sequence.check_folded()
        except Divergence as divergence:
            raise Divergence(number, str(divergence)) from divergence
    await sequence.check_folded()
    return sequence.met


async def smaller(product: Product, acts: Sequence[Act], number: int) -> list[Act]:
    """Fewer of the acts up to the one where it went wrong, by which it still goes wrong."""
    kept = list(acts[: number + 1])
    tries = 0
    size = max(1, len(kept) // 4)
    while size and tries < _SHRINK_TRIES:
        at = len(kept) - 1 - size
        while at >= 0 and tries < _SHRINK_TRIES:
            tries += 1
            fewer = kept[:at] + kept[at + size :]
            if await _diverges(product, fewer):
                kept = fewer
            at -= size
        size //= 2
    return kept


async def _diverges(product: Product, acts: Sequence[Act]) -> bool:
    try:
        await run_acts(product, acts)
    except Divergence:
        return True
    return False
