"""Notes of a partition: sites that are no client, and clients whose images were prepared differently."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.stages.partition.cases import DataSet, PlacedCase
from flames_cli.stages.partition.notes import (
    describe_lost_sites,
    describe_test_only_sites,
    find_lost_sites,
    find_test_only_sites,
    prepared_differently,
)
from flames_cli.store.cases import SetInfo
from flames_cli.store.h5 import Selection, write_shard
from flames_cli.store.partition import ClientEntry
from flames_cli.store.schema import PREPROCESSED_REPORT, stamp
from tests.stages.partition.test_clients import case
from tests.support.datasets import write_noise

INFO = SetInfo("h", "MRI", "brain", 6, 255)


def data_set(folder, placed=()):
    return DataSet(Path(folder) / "h.h5", INFO, [PlacedCase(own, 0, one) for own, one in placed])


def write_report(folder, **content):
    (folder / "h.json").write_text(json.dumps({**stamp(PREPROCESSED_REPORT), **content}))


def test_a_site_of_which_preprocess_left_out_every_case_is_named_with_what_keeps_it(tmp_path):
    write_report(tmp_path, sites_left_out={"healthy": 4})
    lost = find_lost_sites([data_set(tmp_path)])
    assert lost == {"h": {"healthy": 4}}
    (note,) = describe_lost_sites(lost)
    assert note.startswith("site healthy of h is no client: `flames preprocess` left out all 4 of its cases")
    assert "--empty keep" in note


@pytest.mark.parametrize(
    "content", [{}, {"sites_left_out": {}}, {"sites_left_out": [1]}, {"format": "other"}]
)
def test_a_report_without_lost_sites_gives_no_note(content, tmp_path):
    write_report(tmp_path, **content)
    assert find_lost_sites([data_set(tmp_path)]) == {}


def test_a_partition_needs_no_report(tmp_path):
    assert find_lost_sites([data_set(tmp_path)]) == {}
    (tmp_path / "h.json").write_text("no JSON")
    assert find_lost_sites([data_set(tmp_path)]) == {}


def test_a_site_whose_images_are_all_in_the_servers_test_set_is_named(tmp_path):
    found = find_test_only_sites(
        [
            data_set(
                tmp_path,
                [
                    ("client_train", case(0, "p", site="a")),
                    ("server_test", case(0, "q", site="a")),
                    ("server_test", case(0, "r", site="b")),
                    ("server_test", case(1, "r", site="b")),
                    ("server_test", case(0, "s")),
                ],
            )
        ]
    )
    assert found == {"h": {"b": 2}}
    (note,) = describe_test_only_sites(found)
    assert "site b of h is no client: all 2 of its images are in the server's test set" in note


def make_shard(folder, name, info):
    source = folder / f"{name}-source.h5"
    members = {
        "client_train": [("a", "a", 2)],
        "client_test": [("b", "b", 1)],
        "server_test": [("c", "c", 1)],
    }
    write_noise(source, members, info)
    sets = {"train": [0, 1], "val": [], "test": []}
    write_shard(
        folder / f"{name}.h5",
        name,
        info.modality,
        {role: Selection(source, {"client_train": rows}) for role, rows in sets.items()},
    )
    return ClientEntry(name, name, info.modality, info.organ, f"{name}.h5", {}, {})


def test_clients_of_one_modality_that_were_prepared_differently_are_named_with_both_rules(tmp_path):
    rule = IntensityRule()
    one = replace(INFO, intensities=rule, empty="skip")
    same = make_shard(tmp_path, "ha", one)
    other = make_shard(
        tmp_path,
        "hb",
        replace(one, intensities=IntensityRule((0.0, 9000.0)), empty="keep", mask_resize="aligned"),
    )
    notes = prepared_differently(tmp_path, [same, other])
    assert [
        all(part in note for part in parts)
        for note, parts in zip(
            notes,
            (
                ("clients of MRI", f"ha: {rule}", "hb: window 0 to 9000", "--window"),
                ("ha: paper; hb: aligned", "--mask-resize"),
                ("ha: skip; hb: keep", "--empty"),
            ),
            strict=True,
        )
    ] == [True] * 3
    assert prepared_differently(tmp_path, [same, same]) == []
    early = make_shard(tmp_path, "early", INFO)
    assert prepared_differently(tmp_path, [same, early]) == []
