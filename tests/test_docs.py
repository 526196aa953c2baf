"""The documents name files and functions that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())

CODE = re.compile(r"`([\w./-]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = r"flames_cli|tests|docs|benchmarks|sample_configs|deploy|\.ci"
PATH = re.compile(rf"(?:{FOLDERS})(?:/[\w.-]+)*/?|\w+\.(?:md|toml)")

NOT_HERE = {"config.toml", "deployment.toml", "hospital.toml", "model.toml", "site.toml", "study.toml"}
"""Files that FLAMES or a user writes."""


def paths_in(text: str) -> set[str]:
    """Paths of the project in the code spans of a page."""
    return {span for span in CODE.findall(text) if PATH.fullmatch(span)} - NOT_HERE


def headings_in(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@EVERY_PAGE
def test_every_path_that_a_page_names_exists(page):
    missing = [path for path in sorted(paths_in(page.read_text("utf-8"))) if not (ROOT / path).exists()]
    assert not missing, f"{page.name} names paths that do not exist"


@EVERY_PAGE
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    for link in LINK.findall(page.read_text("utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in headings_in(target.read_text("utf-8")), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "docs/glossary.md"])
def test_a_page_about_the_code_names_many_paths(page):
    assert len(paths_in((ROOT / page).read_text("utf-8"))) >= 3


def test_a_path_that_does_not_exist_is_noticed():
    assert paths_in("see `flames_cli/core/nothing.py` and `x + y`") == {"flames_cli/core/nothing.py"}


@pytest.mark.parametrize(
    ("answer", "file", "line"),
    [
        ("FLAMES' own share α", "flames_cli/core/federated/choice.py", "0.1 + 1.0 / n_clients"),
        ("the check of a report for NaN", "flames_cli/core/federated/reports.py", "np.isfinite"),
        ("the HDF5 layout", "flames_cli/store/cases.py", "create_dataset"),
        ("the place where a node rejects foreign code", "flames_cli/flower/app_guard.py", "class"),
        ("the draw of a test set", "flames_cli/core/splits.py", "server_test"),
    ],
)
def test_the_architecture_page_leads_to(answer, file, line):
    assert f"`{file}`" in (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert line in (ROOT / file).read_text("utf-8"), answer
