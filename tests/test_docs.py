"""The documents say what is: paths exist, settings are the settings, every problem has its page.

``.venv/bin/python -m tests.test_docs`` writes ``docs/settings.md`` anew.
"""

import re
from pathlib import Path

import pytest

from api.metrics import Metrics
from api.problem_table import PROBLEMS
from api.settings import PREFIX, describe
from discovery import errors
from tests.api import skeleton

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = [ARCHITECTURE, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
TOP_LEVEL = ("api", "discovery", "docs", "geo", "loadtest", "tests")
# Written by `make bench` and `make load`, and not there before.
MADE = {"docs/benchmarks.json", "docs/benchmarks.md"}


def settings_page() -> str:
    """The page of all settings, from the same source as ``nearhive settings``."""
    rows = [
        f"| `{row.name}` | {f'`{row.default}`' if row.default else ''} | {_cell(row.description)} |"
        for row in describe()
    ]
    head = [
        "# Settings",
        "",
        "Environment variables. An empty one counts as absent; `nearhive settings` shows the values in force.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def paths_in(text: str) -> set[str]:
    """Paths of the project that a document names in backticks."""
    quoted = re.findall(r"`([A-Za-z_./0-9-]+)`", text)
    return {one for one in quoted if one.split("/")[0] in TOP_LEVEL and "/" in one}


def ten_questions() -> dict[str, str]:
    """Question -> its one path, of the table under "Ten questions"."""
    section = ARCHITECTURE.read_text("utf-8").split("## Ten questions")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| (.+\?) \| `([^`|]+)` \|$", section, re.MULTILINE))


def test_ten_questions_have_one_existing_file_each() -> None:
    answers = ten_questions()
    assert len(answers) == 10
    assert [path for path in answers.values() if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("document", sorted({str(path.relative_to(ROOT)) for path in DOCUMENTS}))
def test_every_path_in_a_document_exists(document: str) -> None:
    named = paths_in((ROOT / document).read_text("utf-8")) - MADE
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("document", sorted({str(path.relative_to(ROOT)) for path in DOCUMENTS}))
def test_every_link_in_a_document_leads_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#\s:]+)\)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_operations_names_metrics_that_exist_and_every_gauge() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    shown = Metrics().render().decode()
    types = dict(re.findall(r"^# TYPE (nearhive_\w+) (\w+)$", shown, re.MULTILINE))
    named = set(re.findall(r"`(nearhive_\w+)", text))
    assert named - set(types) == set()
    gauges = {name for name, kind in types.items() if kind == "gauge" and not name.endswith("_created")}
    assert gauges - {"nearhive_people", "nearhive_shakes"} - named == set()


def test_architecture_names_every_package() -> None:
    text = ARCHITECTURE.read_text("utf-8")
    packages = {
        str(one.parent.relative_to(ROOT)) for top in ("geo", "discovery", "api") for one in (ROOT / top).rglob("*.py")
    }
    assert sorted(package for package in packages if f"`{package}/" not in text and f"{package}/  " not in text) == []


def test_settings_page_is_the_settings() -> None:
    assert SETTINGS_PAGE.read_text("utf-8") == settings_page(), "run: .venv/bin/python -m tests.test_docs"


def test_every_setting_named_anywhere_exists() -> None:
    """A misspelt variable would be read by nobody. Tests and build files have ``NEARHIVE_TEST_…`` of their own."""
    known = {row.name for row in describe()}
    files = [*DOCUMENTS, *(ROOT / top for top in ("Makefile", "Dockerfile", ".ci/run"))]
    files += [path for top in ("geo", "discovery", "api", "loadtest") for path in (ROOT / top).rglob("*.py")]
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in files
        for name in re.findall(rf"\b{PREFIX}[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8"))
        if not name.startswith(f"{PREFIX}TEST_")
    }
    assert len(named) > len(known)
    assert sorted((where, name) for where, name in named if name not in known) == []


def test_every_refusal_of_the_rules_has_a_problem() -> None:
    codes = {one.code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.Refused)}
    assert codes - set(PROBLEMS) - {errors.Refused.code} == set()


async def test_every_problem_has_its_page() -> None:
    async with skeleton.client(skeleton.app_with()) as client:
        for code, problem in PROBLEMS.items():
            answer = await client.get(f"/problems/{code}", headers={"Accept": "application/json"})
            assert answer.status_code == 200, code
            assert answer.json()["status"] == problem.status


if __name__ == "__main__":
    SETTINGS_PAGE.write_text(settings_page(), "utf-8")
