"""Builds the people index in a thread, so that nobody who asks something else waits for it."""

import asyncio
from collections.abc import Callable

from discovery.people import People
from discovery.presence import Presence

_FEW = 20_000
"""People whose index is built at once: 2 ms."""


class CrowdBuilder:
    """Whoever asks for people nearby waits for the index here first. For one event loop."""

    def __init__(self, people: People, presence: Presence, now_ms: Callable[[], int]) -> None:
        self._people = people
        self._presence = presence
        self._now_ms = now_ms
        self._building: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Returns once there is an index, and until the caller awaits something it stays; may build the next one
        behind it."""
        if self._presence.wants_crowd:
            self._begin()
        while not self._presence.has_crowd and len(self._people) > _FEW:
            await asyncio.shield(self._begin())

    async def stop(self) -> None:
        """Wait for what is under way."""
        if self._building is not None:
            await asyncio.gather(self._building, return_exceptions=True)

    def _begin(self) -> asyncio.Task[None]:
        if self._building is None or self._building.done():
            self._building = asyncio.get_running_loop().create_task(self._build())
        return self._building

    async def _build(self) -> None:
        plan = self._presence.plan_crowd(self._now_ms())
        built = await asyncio.to_thread(plan.build)
        self._presence.take_crowd(plan, built, self._now_ms())
