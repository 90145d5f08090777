"""What an audit found, as text: a line an attack, in metres, with the lines it must stay behind."""

from collections.abc import Iterable

from api.audit.scoring import Result, failures, least_median, most_near_share

_HEAD = f"{'attack':42} {'n':>5} {'questions':>9} {'error m':>8} {'bound m':>8} {'error/√A':>8} {'at least':>8}  "


def table(results: Iterable[Result]) -> str:
    """One line a result: median error, the declared uncertainty, and whether the bound held."""
    return "\n".join([_HEAD.rstrip(), *(_line(one) for one in results)])


def _line(one: Result) -> str:
    verdict = "BROKEN" if failures(one) else "ok"
    return (
        f"{one.attack:42} {one.n:>5} {one.queries:>9,.0f} {one.median_m:>8,.0f} {one.declared_m:>8,.0f} "
        f"{one.median:>8.3f} {least_median(one.n):>8.3f}  {verdict}"
    )


def explained(n: int) -> str:
    """What the columns mean."""
    return (
        "error m: median distance of the attack's guess from the true point. bound m: what is declared for the cell, "
        "0.399·√A, A its area.\n"
        f"ok: the median stays at or above the line for n victims, no more than {most_near_share(n):.1%} are found "
        "within 0.126·√A, and guesses do not lean to the truth."
    )
