"""The documentation site builds without a warning, and needs no other server."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import markdown
import pytest
from markdown_it import MarkdownIt

import flames_cli
from docs import generate, hooks
from flames_cli.config import SECTIONS, SHARED, load_section
from tests.test_docs import EVERY_PAGE, ROOT, headings_in

GITHUB = MarkdownIt("commonmark").enable("table")
"""Markdown as GitHub reads it."""

PATHS = {"workspace", "deployment", "out"}
"""Keys whose values are relative to the file of the configuration."""

PARTS = re.compile(r"<(li|ul|ol|table|tr|pre|h[1-6])\b")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_navigation(site):
    start = (site / "index.html").read_text("utf-8")
    for page in ROOT.glob("docs/**/*.md"):
        built = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / built).is_file()
        folder = (site / built).parent
        shown = f'href="{Path(os.path.relpath(site / built, folder)).as_posix()}"'
        assert shown in (site / built).read_text("utf-8"), f"{built} is not in its own navigation"
    for name in ("contributing", "changelog"):
        assert (site / f"{name}.html").is_file()
    for kind in ("tutorials", "how-to", "reference", "explanation"):
        assert f'href="{kind}/index.html"' in start


def test_no_page_loads_anything_from_another_server(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]*src="?https?:[^>]*', text) == [], page.name
        assert re.findall(r'<link[^>]*rel="?stylesheet[^>]*href="?https?:[^>]*', text) == [], page.name


def test_the_search_knows_the_options_and_works_without_a_web_server(site):
    index = (site / "search" / "search_index.js").read_text("utf-8")
    assert index.startswith("var __index = ")
    assert "--hold-out-site" in index
    assert (site / "javascripts" / "iframe-worker.js").is_file()


@EVERY_PAGE
def test_the_site_reads_lists_tables_and_headings_as_github_does(page):
    text = page.read_text("utf-8")
    extensions = ["attr_list", "md_in_html", "tables", "pymdownx.superfences"]
    in_site = markdown.markdown(text, extensions=extensions)
    assert Counter(PARTS.findall(in_site)) == Counter(PARTS.findall(GITHUB.render(text)))


@EVERY_PAGE
def test_headings_of_a_page_have_anchors_of_their_own(page):
    titles = re.findall(r"^#+ .+$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S), re.M)
    assert len(headings_in("\n".join(titles))) == len(titles)


@pytest.fixture(scope="module")
def page() -> str:
    """The page of commands with the tables that are made from the code."""
    return generate.command_line((ROOT / "docs" / "cli.md").read_text("utf-8"))


@pytest.mark.parametrize("name", SECTIONS)
def test_the_tables_of_a_command_have_each_option_with_a_description(name, page):
    section = page.split(f"## `flames {name}`\n")[1].split("\n## ")[0]
    command, context = generate.find_command([name])
    for option in command.get_params(context):
        if option.opts[0] in (*generate.EVERY_COMMAND, "--help") or not option.opts[0].startswith("--"):
            continue
        (row,) = (line for line in section.splitlines() if line.startswith(f"| `{option.opts[0]}`"))
        cells = re.split(r" (?<!\\)\| ", row.strip("| "))
        assert len(cells) == 4, row
        assert cells[3], row
        assert option.rich_help_panel is None or f"**{option.rich_help_panel}**" in section


def test_a_row_has_what_the_code_knows_and_what_the_page_says(page):
    assert "| `--warmup`<br>`ROUNDS`, at least 0 | `warmup` | `0` | number of first rounds W" in page
    assert "| `--optimiser`<br>`adam` · `adamw` · `sgd` | `optimiser` | `adam` |" in page
    assert "| `--size`<br>integer, 16 to 2048 | `size` | `240` |" in page
    assert "| `--augment`<br>`--no-augment` | `augment` | yes | warp" in page


def test_the_page_of_keys_is_a_configuration_with_all_defaults(tmp_path):
    file = tmp_path / "all.toml"
    file.write_text("\n".join(keys for _, keys in generate.tables()))
    for kind in SECTIONS.values():
        assert load_section(kind, {}, file).model_dump(exclude=PATHS) == kind().model_dump(exclude=PATHS)
    assert set(tomllib.loads(file.read_text())) == {*SECTIONS, *SHARED}


def test_the_python_reference_has_the_complete_public_surface():
    page = (ROOT / "docs" / "reference" / "python.md").read_text("utf-8")
    named = {*re.findall(r"^::: flames_cli\.(\w+)$", page, re.M), *re.findall(r"`(\w+Config)`", page)}
    assert named == {*flames_cli.__all__} - {"__version__"}


@pytest.mark.parametrize(
    ("link", "origin", "folder", "expected"),
    [
        ("[a](guide.md#the-cache)", "docs", "docs", "[a](guide.md#the-cache)"),
        ("[a](https://example.org/x)", "docs", "docs", "[a](https://example.org/x)"),
        ("[a](#here)", ".", "docs", "[a](#here)"),
        ("[a](../CHANGELOG.md)", "docs", "docs", "[a](changelog.md)"),
        ("[a](../../CONTRIBUTING.md#rules)", "docs/how-to", "docs/how-to", "[a](../contributing.md#rules)"),
        ("[a](docs/guide.md)", ".", "docs", "[a](guide.md)"),
        ("[a](../../README.md)", "examples/flames-example", "docs/how-to", "[a](../index.md)"),
        ("[models.py](src/models.py)", "examples/own", "docs/how-to", "`examples/own/src/models.py`"),
        ("[a](../sample_configs)", "docs", "docs", "a (`sample_configs`)"),
    ],
)
def test_a_link_of_the_repository_leads_to_a_page_of_the_site_or_names_the_file(
    link, origin, folder, expected
):
    found = hooks.LINK.fullmatch(link)
    assert hooks.site_link(found, ROOT / origin, ROOT / folder) == expected


def test_a_notebook_becomes_a_page_of_text_code_and_output():
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [{"data": {"text/plain": ["2"]}}]},
        {"cell_type": "code", "source": ["draw()"], "outputs": [{"data": {"image/png": "AAAA"}}]},
    ]
    page = generate.notebook(json.dumps({"cells": cells}))
    assert page == "# Title\ntext\n\n```python\n1 + 1\n```\n\n```text\n2\n```\n\n```python\ndraw()\n```\n"
