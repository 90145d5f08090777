"""Running loops beside each other, for parts of a worker that live and end as one."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def run_together(loops: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until cancelled or one raises, which is raised here; no loop is left running on return."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
