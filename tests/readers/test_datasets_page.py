"""docs/datasets.md agrees with the readers."""

import re
from pathlib import Path

import pytest

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, parse_small_lesion_rule
from flames_cli.readers import READERS

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
ROWS = {
    name: [cell.strip() for cell in rest.split("|")]
    for name, rest in re.findall(r"^\| `([\w-]+)` \|(.*)\|$", PAGE.split("## How")[0], re.MULTILINE)
}


def test_the_page_lists_every_reader_and_no_other():
    assert set(ROWS) == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_rows_of_the_page_agree_with_the_readers(name):
    reader = READERS[name]
    _, modality, organ, images, _, _, colour, small = ROWS[name]
    assert modality == (reader.modality or "yours")
    assert organ == (reader.organ or "yours")
    assert images == (str(reader.complete) if reader.complete else "")
    assert (colour == "yes") == reader.has_colour
    assert parse_small_lesion_rule(small.strip("`")) == reader.small_lesion_rule


@pytest.mark.parametrize("name", READERS)
def test_every_reader_has_its_paragraph(name):
    assert re.search(rf"\*\*[^*]*`{name}`[^*]*\*\*", PAGE) or name == "manifest"


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.volume_rules])
def test_windows_are_on_the_page(name):
    window = READERS[name].volume_rules.window
    assert window is None or f"({window[0]:g}, {window[1]:g})" in PAGE


@pytest.mark.parametrize(
    "name", [name for name, reader in READERS.items() if reader.small_lesion_rule != DEFAULT_RULE]
)
def test_the_source_of_a_rule_for_small_lesions_is_on_the_page(name):
    assert f"`{name}`" in PAGE.split("## Small lesions")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", READERS)
def test_the_page_names_the_sites_of_every_reader_that_has_sites(name, phantom_raw):
    sites = {source.site for source in READERS[name].list_sources(phantom_raw[name])} - {""}
    assert bool(ROWS[name][5]) or not sites
