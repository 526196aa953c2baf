import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import NOT_KNOWN, Preparation
from flames_cli.errors import FlamesError
from flames_cli.store.clients import (
    LONGEST_TEXT,
    JoinedClient,
    parse_preparation,
    preparation_text,
    read_clients,
    write_clients,
)

CT = Preparation((IntensityRule((-160.0, 240.0)), IntensityRule(percentile=99.0)), ("axial",), ("aligned",))
CLIENTS = [JoinedClient("a", "CT", "liver", 64, 1, 12, 3, CT), JoinedClient("b", "US", "breast", 64)]


def test_clients_are_read_as_they_were_written(tmp_path):
    write_clients(tmp_path / "clients.json", reversed(CLIENTS))
    assert read_clients(tmp_path / "clients.json") == CLIENTS


def test_the_rules_are_entries_of_the_client(tmp_path):
    write_clients(tmp_path / "clients.json", CLIENTS)
    first = json.loads((tmp_path / "clients.json").read_text(encoding="utf-8"))["clients"][0]
    assert [rule["window"] for rule in first["intensities"]] == [[-160.0, 240.0], None]
    assert (first["planes"], first["mask_resize"], first["n_train"]) == (["axial"], ["aligned"], 12)


def test_a_run_of_an_earlier_release_has_no_clients(tmp_path):
    assert read_clients(tmp_path / "clients.json") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_train", "12"),
        ("client", 3),
        ("intensities", [{"window": [5, 1]}]),
        ("planes", ["oblique"]),
        ("more", 1),
    ],
)
def test_wrong_entries_are_rejected_with_what_to_do(tmp_path, key, value):
    path = tmp_path / "clients.json"
    write_clients(path, CLIENTS)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["clients"][0][key] = value
    if key == "more":
        del content["clients"][0]["client"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FlamesError, match="has wrong entries; delete it"):
        read_clients(path)


def test_a_preparation_survives_the_way_as_text():
    for one in (CT, NOT_KNOWN):
        assert parse_preparation(preparation_text(one)) == one


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"intensities": [{"percentile": NaN}]}',
        '{"intensities": [{"window": [-1e400, 1]}]}',
        '{"intensities": [{"window": [1]}]}',
        '{"intensities": [{"percentile_of": "some"}]}',
        '{"planes": "axial"}',
        '{"planes": ["axial\\u001b[2J"]}',
        '{"mask_resize": [1]}',
        " " * (LONGEST_TEXT + 1),
        json.dumps({"planes": ["axial"] * 65}),
    ],
)
def test_a_hostile_preparation_is_rejected(text):
    with pytest.raises(ValueError, match="preparation"):
        parse_preparation(text)


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_gives_a_preparation_or_a_value_error(text):
    try:
        parse_preparation(text)
    except ValueError as error:
        assert "preparation" in str(error)  # noqa: PT017 - either outcome is right
