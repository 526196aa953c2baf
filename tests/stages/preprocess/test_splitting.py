"""Splitting alone, on cases without pixels: the test patients in every modality."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.config import PreprocessConfig
from flames_cli.core.splits import SETS
from flames_cli.errors import FlamesError
from flames_cli.readers.manifest import MANIFEST
from flames_cli.stages.preprocess.splitting import divide_cases, split_cases
from flames_cli.store.cases import CaseInfo
from flames_cli.store.h5 import SpooledCase

NAN = float("nan")
OWN = MANIFEST
"""A reader of a data set that no paper splits."""
DRAWN = [name for name in SETS if name != "client_val"]


def people(names, site="", label=""):
    """Return one case of each."""
    return [
        SpooledCase(CaseInfo(name, name, name, label, -1, (NAN, NAN), 9, site), number, number)
        for number, name in enumerate(names)
    ]


def named(prefix, count):
    return [f"{prefix}{number}" for number in range(count)]


def sets_of(cases, **options):
    """Return {data set: {set: its patients}}, as preprocess divides them."""
    config = PreprocessConfig(**options)
    set_of = split_cases(OWN, "own", cases, {}, config)
    return {
        dataset: {
            name: [case.info.patient for case in listed]
            for name, listed in divide_cases(dataset, own, set_of, config).items()
        }
        for dataset, own in cases.items()
    }


def test_all_patients_are_in_the_servers_set_if_it_is_the_only_one():
    sets = sets_of({"ct": people(named("p", 5)), "us": people(named("p", 1))}, only="server-test")
    for dataset, count in (("ct", 5), ("us", 1)):
        assert sets[dataset]["server_test"] == named("p", count)
        assert not any(sets[dataset][name] for name in SETS if name != "server_test")


def test_the_only_set_contradicts_other_sets_of_the_data_set_itself():
    cases, config = {"ct": people("ab")}, PreprocessConfig(only="server-test")
    assert split_cases(OWN, "own", cases, dict.fromkeys("ab", "server_test"), config) == {
        "a": "server_test",
        "b": "server_test",
    }
    with pytest.raises(FlamesError, match="own: the column split names client_train, and --only server-test"):
        split_cases(OWN, "own", cases, {"a": "client_train", "b": "server_test"}, config)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=12, max_size=12), st.integers(0, 50))
def test_slices_that_are_not_selected_change_no_split(more, seed):
    """Splits of the same patients with and without further slices are equal, by images as well."""
    selected = people(named("p", 12))
    complete = [
        replace(case, info=replace(case.info, selected=number == 0))
        for case, extra in zip(selected, more, strict=True)
        for number in range(extra + 1)
    ]
    for server_test in (None, 4, 0.3):
        one, other = (
            split_cases(OWN, "own", {"ct": cases}, {}, PreprocessConfig(seed=seed, server_test=server_test))
            for cases in (selected, complete)
        )
        assert one == other


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("with_ct", [0, 2, 3])
def test_a_modality_that_three_of_a_hundred_have_is_in_every_set(with_ct, seed):
    rare = named("us", 3)
    both = rare[:with_ct]
    sets = sets_of({"ct": people([*named("ct", 97), *both]), "us": people(rare)}, seed=seed)
    assert [len(sets["us"][name]) for name in DRAWN] == [1, 1, 1]
    assert len(sets["ct"]["client_train"]) >= 65


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.frozensets(st.sampled_from("abc"), min_size=1), st.integers(4, 12), min_size=1, max_size=7
    ),
    st.dictionaries(st.frozensets(st.sampled_from("abc"), min_size=1), st.integers(1, 3), max_size=3),
    st.integers(0, 99),
)
def test_modalities_that_enough_patients_share_fill_every_set(common, few, seed):
    cases = {}
    for number, (modalities, count) in enumerate([*common.items(), *few.items()]):
        for modality in sorted(modalities):
            cases.setdefault(modality, []).extend(people(named(f"{number}-", count), f"site {number}"))
    covered = set().union(*common)
    set_of = split_cases(OWN, "own", cases, {}, PreprocessConfig(seed=seed))
    for modality in covered:
        assert {set_of[case.info.split_unit] for case in cases[modality]} == set(DRAWN)


def test_patients_of_the_same_modalities_are_split_by_site_too():
    cases = {"ct": people(named("a", 10), "A") + people(named("b", 4), "B") + people(named("c", 5), "A")}
    cases["mri"] = people(named("c", 5), "A")
    sets = sets_of(cases)
    assert Counter(name[0] for name in sets["ct"]["server_test"]) == {"a": 1, "b": 1, "c": 1}
    assert len(sets["mri"]["client_test"]) == 1


def test_a_number_for_the_server_is_shared_between_sites_by_their_size():
    cases = {"us": people(named("a", 200), "A") + people(named("b", 20), "B")}
    tested = Counter(name[0] for name in sets_of(cases, server_test=22)["us"]["server_test"])
    assert tested == {"a": 20, "b": 2}
    with pytest.raises(FlamesError, match="asks for 220 of 220 own images; leave some to train on"):
        sets_of(cases, server_test=220)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "add patients, or pass --server-test 0 or --test-fraction 0$"),
        ({"server_test": 0}, "add patients, or pass --test-fraction 0$"),
        ({"test_fraction": 0}, "add patients, or pass --server-test 0$"),
    ],
)
def test_too_few_patients_give_an_error_that_names_the_sets_to_leave_out(options, advice):
    with pytest.raises(FlamesError, match=f"^us has 1 usable patient, too few for .*; {advice}"):
        sets_of({"us": people(["a"])}, **options)
