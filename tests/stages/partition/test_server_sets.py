from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.partition.cases import DataSet, PlacedCase
from flames_cli.stages.partition.server_sets import hold_out_sites, plan_server
from flames_cli.store.cases import CaseInfo, SetInfo

NAN = float("nan")


def dataset(name, rows, collection="", modality="CT"):
    """Return a data set of (set, patient, unit, site) rows, with one image each."""
    cases = [
        PlacedCase(own, index, CaseInfo(f"{name}/{index}", patient, unit, "", -1, (NAN, NAN), 9, site))
        for index, (own, patient, unit, site) in enumerate(rows)
    ]
    return DataSet(Path(f"{name}.h5"), SetInfo(name, modality, "liver", 4, 255, 1, collection), cases)


LITS = dataset(
    "lits",
    [
        ("client_train", "a", "a", "C1"),
        ("client_train", "b", "b", "C2"),
        ("client_val", "c", "c", "C6"),
        ("client_test", "d", "d", "C6"),
        ("server_test", "e", "e", "C6"),
        ("server_test", "f", "f", "C1"),
        ("client_train", "g", "g", "C10"),
        ("client_train", "h", "g", "C6"),
        ("client_test", "i", "i", "C10"),
    ],
)


def people(cases):
    return [placed.case.patient for placed in cases]


def test_a_held_out_site_takes_its_cases_from_every_set():
    held_out = hold_out_sites({"lits": ("C6",)}, [LITS])
    assert people(held_out.unseen["lits"]["C6"]) == ["c", "d", "e", "h"]
    assert people(held_out.seen[0].cases) == ["a", "b", "f", "i"]


def test_near_copies_from_other_sites_are_left_out_and_counted():
    assert hold_out_sites({"lits": ("C6",)}, [LITS]).left_out == {"lits": 1}
    assert hold_out_sites({"lits": ("C6", "C10")}, [LITS]).left_out == {}
    assert hold_out_sites({}, [LITS]).left_out == {}


def test_without_a_wish_nothing_is_held_out():
    held_out = hold_out_sites({}, [LITS])
    assert held_out.seen == [LITS]
    assert held_out.unseen == {"lits": {}}


def test_each_unseen_site_is_a_test_set_of_its_own():
    ((entry, selections),) = plan_server(hold_out_sites({"lits": ("C10", "C6", "C6")}, [LITS]))
    assert entry.images == {"lits": 1, "lits@C6": 4, "lits@C10": 2}
    assert entry.patients == {"lits": ["f"], "lits@C6": ["c", "d", "e", "h"], "lits@C10": ["g", "i"]}
    assert entry.sites == {"lits@C6": "C6", "lits@C10": "C10"}
    assert set(entry.organs.values()) == {"liver"}
    assert list(selections) == ["test/lits", "test/lits@C6", "test/lits@C10"]
    assert selections["test/lits@C6"].indices == {
        "client_train": [7],
        "client_val": [2],
        "client_test": [3],
        "server_test": [4],
    }


def test_a_site_is_held_out_of_every_modality_of_its_patients():
    ct = dataset("sts-ct", [("client_train", "a", "a", "W"), ("client_train", "b", "b", "X")], "sts")
    rows = [("client_train", "a", "a", "W"), ("client_train", "b", "b", "W"), ("server_test", "c", "c", "W")]
    mri = dataset("sts-mri", rows, "sts", "MRI")
    other = dataset("other", [("client_train", "b", "b", "X"), ("client_train", "d", "d", "W")])
    for name in ("sts-ct", "sts"):
        held_out = hold_out_sites({name: ("X",)}, [mri, other, ct])
        assert [(one.name, people(one.cases)) for one in held_out.seen] == [
            ("sts-mri", ["a", "c"]),
            ("other", ["b", "d"]),
            ("sts-ct", ["a"]),
        ]
        assert people(held_out.unseen["sts-ct"]["X"]) == ["b"]
        assert held_out.unseen["sts-mri"] == {}
        assert held_out.left_out == {"sts-mri": 1}, "b was at X, so nobody trains on b's MRI"


@pytest.mark.parametrize(
    ("site", "data", "problem"),
    [
        ("c6", LITS, r"--hold-out-site names lits=c6; the sites of lits are C1, C2, C6, C10$"),
        ("C6", dataset("x", [("client_train", "a", "a", "")]), "the images of x name no site"),
    ],
)
def test_an_unknown_site_lists_the_known_ones(site, data, problem):
    with pytest.raises(FlamesError, match=problem):
        hold_out_sites({data.name: (site,)}, [data])


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(FlamesError, match=r"--hold-out-site names 'kits', which is not among .* lits$"):
        hold_out_sites({"kits": ("C6",)}, [LITS])


def test_a_slash_in_a_site_or_modality_makes_no_folder():
    rows = [("client_train", "a", "a", "A/B"), ("server_test", "b", "b", "C")]
    ((entry, selections),) = plan_server(
        hold_out_sites({"x": ("A/B",)}, [dataset("x", rows, modality="PET/CT")])
    )
    assert entry.shard == "shards/server-PET-CT.h5"
    assert list(selections) == ["test/x", "test/x@A%2FB"]
    assert entry.sites == {"x@A%2FB": "A/B"}


def test_a_modality_without_unseen_patients_has_no_shard():
    assert plan_server(hold_out_sites({}, [dataset("x", [("client_train", "a", "a", "")])])) == []
