"""``/problems``: the documentation of every problem type, generated from the one table."""

from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from discovery.errors import NotFound

from .dependencies import answer
from .problem_table import PROBLEMS, Problem
from .strict_json import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["service"])

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} · Nearhive</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
td{{padding:.2rem 1rem .2rem 0;vertical-align:top}}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def _page(title: str, body: str) -> Response:
    return HTMLResponse(_PAGE.format(title=escape(title), body=body))


def _described(problem: Problem) -> dict[str, object]:
    return {
        "type": f"/problems/{problem.code}",
        "code": problem.code,
        "status": problem.status,
        "title": problem.title,
        "meaning": problem.meaning,
        "remedy": problem.remedy,
    }


def _wants_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "json" in accept and "text/html" not in accept


def _row(problem: Problem) -> str:
    link = f'<a href="/problems/{problem.code}">{problem.code}</a>'
    return f"<tr><td>{problem.status}</td><td>{link}</td><td>{escape(problem.title)}</td></tr>"


@router.get("/problems", summary="All problem types", response_class=HTMLResponse)
async def problems(request: Request) -> Response:
    """HTML, or JSON when Accept asks for it."""
    if _wants_json(request):
        return answer({"problems": [_described(problem) for problem in PROBLEMS.values()]})
    rows = "\n".join(_row(problem) for problem in PROBLEMS.values())
    intro = "<p>Errors are answered as application/problem+json (RFC 9457); type is one of these pages.</p>"
    return _page("Problem types", f"{intro}\n<table>\n{rows}\n</table>")


@router.get("/problems/{code}", summary="One problem type", response_class=HTMLResponse)
async def problem(request: Request, code: str) -> Response:
    """HTML, or JSON when Accept asks for it."""
    found = PROBLEMS.get(code)
    if found is None:
        raise NotFound("There is no such problem type.")
    if _wants_json(request):
        return answer(_described(found))
    facts = f"<p>Status {found.status}, code <code>{found.code}</code></p>"
    texts = f"<p>{escape(found.meaning)}</p>\n<h2>What to do</h2>\n<p>{escape(found.remedy)}</p>"
    return _page(found.title, f'{facts}\n{texts}\n<p><a href="/problems">All problem types</a></p>')
