"""The words of `GET /v1/privacy`: what each audience learns, and what is not claimed."""

from dataclasses import dataclass
from typing import Final

from geo.declared import DECLARED_EPOCH_S, STEADY_FACTOR, moving_factor
from geo.privacy import CITY_RESOLUTION, FRIEND_RESOLUTION, STRANGER_RESOLUTION

PRECISE_RESOLUTION: Final = 11

PROMISE: Final = (
    "Nobody can learn where a person is more finely than the cell that person agreed to show, whatever they ask, "
    "however often, from however many accounts and places: every answer is computed from cells of one fixed grid, "
    "and the exact point ends with the request that brought it."
)


@dataclass(frozen=True, slots=True)
class Audience:
    """Who learns what. ``resolution`` of the cell shown, None for none; ``at_edges``: whether it moves at edges "
    "only."""

    name: str
    resolution: int | None
    at_edges: bool
    in_words: str


AUDIENCES: Final = (
    Audience(
        "strangers",
        STRANGER_RESOLUTION,
        True,
        "While you are visible to everyone, strangers see in which band of distance you are from them (under 3 km, "
        "3-5, 5-10, 10-20, 20-50 km), measured from cell to cell. Whoever tries, from several places or accounts, "
        "can learn your cell of about 5 square kilometres, and nothing finer. It moves every third epoch. In your "
        "quiet zones they do not see you, and you are not shown who is near. Where sparse areas are on, the cell is "
        "larger where few people live.",
    ),
    Audience(
        "friends_city",
        CITY_RESOLUTION,
        True,
        "Friends to whom you show `city` see a cell of about 250 square kilometres. So do those shown `area` or "
        "`near` while you or they are in a quiet zone of their own. It moves every third epoch.",
    ),
    Audience(
        "friends_area",
        STRANGER_RESOLUTION,
        True,
        "Friends to whom you show `area` see the cell that strangers could learn, on a map. Of two friends each "
        "sees the coarser of what they show each other.",
    ),
    Audience(
        "friends_near",
        FRIEND_RESOLUTION,
        True,
        "Friends to whom you show `near` see a cell of about 0.7 square kilometres. It moves every epoch, and "
        "`near` ends after 30 days unless you renew it.",
    ),
    Audience(
        "friends_precise",
        PRECISE_RESOLUTION,
        False,
        "Friends to whom you show `precise`, if they are adults, see your street corner as you report it, at once, "
        "until the time that you set, at most 24 hours ahead. Nothing else is computed from it. Which of your friends "
        "is an adult you are not told.",
    ),
    Audience(
        "shake",
        STRANGER_RESOLUTION,
        True,
        "Shaking is your consent: those who shake at the same moment up to 5 km away learn the band, under 3 km or "
        "3-5 km, between their cell and yours, also in a quiet zone and while you are hidden. Your cell for shakes "
        "stays the same until the next edge for strangers. With reach `anywhere` they learn no distance.",
    ),
    Audience(
        "bottles",
        None,
        False,
        "A bottle says nothing of where it comes from, and is given to anybody who may have it, near or far.",
    ),
    Audience(
        "store_finder",
        None,
        False,
        "The point of a search is used in memory for that answer and forgotten. It does not become your position.",
    ),
)

NOT_CLAIMED: Final = (
    "That the cell itself is hidden: while you are visible to everyone, anybody with a second account can learn "
    "your cell of resolution 7.",
    "That your cells over days and weeks are hidden from who may see each of them: home and work show. Quiet zones, "
    "and being visible only when needed, are the help against that.",
    "That few people are in a cell: by default a cell may hold one house. Where sparse areas are on, whole parents "
    "are taken by a static table of residents.",
    f"That movement is hidden: a straight and steady one can be followed to about {STEADY_FACTOR} of the uncertainty.",
    "Anything about positions worse than a standard deviation of 20 m: the cell of who stands at a border may then "
    "flap.",
    "That the service itself, or who breaks into it, does not know the last cell of each person (resolution 8).",
    "That the app which you gave your position to keeps it as little as Nearhive does.",
    "That limits of speed, requests or exposure protect a place: they make looking dear, and no bound rests on them.",
)


def epoch_warning(epoch_s: float) -> str | None:
    """What is to be said where epochs are shorter than those that the promises are made for."""
    if epoch_s >= DECLARED_EPOCH_S:
        return None
    left = moving_factor(FRIEND_RESOLUTION, epoch_s)
    return (
        f"Epochs last {epoch_s:g} s here, less than {DECLARED_EPOCH_S} s: while somebody moves, only {left:.2f} of the "
        f"uncertainty is left, instead of {moving_factor(FRIEND_RESOLUTION, DECLARED_EPOCH_S):.2f}."
    )
