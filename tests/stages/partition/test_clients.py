"""Planning alone, on cases without pixels: the cases of each client, for all kinds of options."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flames_cli.config import PartitionConfig
from flames_cli.core.pseudonyms import pseudonym
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.cases import DataSet, PlacedCase, by_collection
from flames_cli.stages.partition.clients import plan_clients, resolve_split
from flames_cli.stages.partition.server_sets import hold_out_sites, plan_server
from flames_cli.store.cases import CaseInfo, SetInfo

NAN = float("nan")
SETS = ("client_train", "client_val", "client_test", "server_test")


def case(number, patient, unit="", site="", stratum=""):
    return CaseInfo(f"{patient}/{number}", patient, unit or patient, stratum, -1, (NAN, NAN), 9, site)


def dataset(name, sets, collection="", modality="CT"):
    """Return a data set of {set: its cases}, with one list per set."""
    cases = [PlacedCase(own, index, one) for own in SETS for index, one in enumerate(sets.get(own, ()))]
    return DataSet(Path(f"{name}.h5"), SetInfo(name, modality, "liver", 4, 255, 1, collection), cases)


def patients(names, **about):
    return [case(0, name, **about) for name in names.split()]


def plan(config, datasets):
    """Return {(client or test set, role): cases} and the clients' entries."""
    split = resolve_split(config.split, datasets)
    held_out = hold_out_sites(config.hold_out_site, datasets)
    found, entries = {}, []
    cases = {(one.path, m.set_name, m.index): (one, m.case) for one in datasets for m in one.cases}
    plans = [made for part in by_collection(held_out.seen) for made in plan_clients(config, part, split)]
    for entry, selections in plans:
        entries.append(entry)
        for role, selection in selections.items():
            found[entry.name, role] = chosen(selection, cases)
            assert entry.images[role] == len(found[entry.name, role])
    for entry, selections in plan_server(held_out):
        for name, selection in selections.items():
            found[name, "server"] = chosen(selection, cases)
            assert entry.images[name.removeprefix("test/")] == len(found[name, "server"])
    return found, entries, held_out.left_out


def chosen(selection, cases):
    return [cases[selection.path, name, index] for name, rows in selection.indices.items() for index in rows]


def names_in(found, client, role):
    return sorted({one.patient for _, one in found[client, role]})


@st.composite
def collections(draw):
    """Draw one or two data sets of the same patients, each unit in one set and mostly of one site."""
    units = draw(st.integers(4, 24))
    names = draw(st.sampled_from([["a"], ["a-ct", "a-mri"]]))
    own_validation = draw(st.booleans())
    weights = [0, 0, 0, 0, 2, 2, 3] + ([1] if own_validation else [])
    sets = {name: {own: [] for own in SETS} for name in names}
    for unit in range(units):
        own = SETS[draw(st.sampled_from(weights))]
        site = f"C{draw(st.integers(1, 3))}"
        stratum = draw(st.sampled_from(["", "x"]))
        for name in draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
            for person in range(draw(st.sampled_from([1, 1, 1, 2]))):
                elsewhere = draw(st.sampled_from([site] * 9 + ["C1"]))
                one = case(unit, f"p{unit}-{person}", f"g{unit}", elsewhere, stratum)
                sets[name][own].append(one)
    return [dataset(name, own, "a", name[-3:].upper()) for name, own in sets.items()]


def options():
    fold = st.integers(2, 4).flatmap(lambda n: st.integers(1, n).map(lambda k: f"{k}/{n}"))
    return st.fixed_dictionaries(
        {
            "split": st.sampled_from([{}, {"a": 2}, {"a": 3}, {"a": "site"}]),
            "skew": st.none() | st.floats(0.01, 100),
            "fold": st.none() | fold,
            "hold_out_site": st.sampled_from([{}, {"a": ("C2",)}, {"a": ("C1", "C3")}]),
            "val_fraction": st.sampled_from([0.0, 0.1, 0.5]),
            "seed": st.integers(0, 2**32),
        }
    )


def try_plan(config, datasets):
    """Return the plan; options that are rejected are skipped."""
    try:
        return plan(config, datasets)
    except FlamesError:
        assume(False)


def under_pseudonyms(data, salt):
    """Return the data set with its patients and units named by `salt`."""
    placed = [
        replace(
            member,
            case=replace(
                member.case,
                patient=pseudonym(salt, member.case.patient),
                split_unit=pseudonym(salt, member.case.split_unit),
            ),
        )
        for member in data.cases
    ]
    return replace(data, cases=placed)


def located(made):
    """Return the places of the cases of every client's sets, without names of patients."""
    return [(replace(entry, patients={}), selections) for entry, selections in made]


@settings(max_examples=40)
@given(collections(), options(), st.binary(min_size=32, max_size=32))
def test_the_division_does_not_depend_on_a_sites_salt(datasets, wanted, salt):
    config = PartitionConfig(**wanted)

    def divide(given):
        try:
            held_out = hold_out_sites(config.hold_out_site, given)
            return [
                located(plan_clients(config, part, resolve_split(config.split, given)))
                for part in by_collection(held_out.seen)
            ]
        except FlamesError as error:
            return str(error)

    expected = divide(datasets)
    assert divide([under_pseudonyms(one, salt) for one in datasets]) == expected
    assert divide([under_pseudonyms(one, salt[::-1]) for one in datasets]) == expected


def placed(found, wanted):
    """Return how often each case is in a role of `wanted`, by client or test set."""
    return Counter(
        (name, one.name, info.case)
        for (name, role), cases in found.items()
        if role in wanted
        for one, info in cases
    )


@settings(max_examples=80)
@given(collections(), options())
def test_no_patient_is_in_two_roles_and_no_case_is_lost(datasets, asked):
    config = PartitionConfig(**asked)
    found, entries, left_out = try_plan(config, datasets)
    for identity in ("patient", "split_unit"):
        roles = {}
        for (_, role), cases in found.items():
            for _, one in cases:
                roles.setdefault(getattr(one, identity), set()).add(role)
        assert all(len(own) == 1 for own in roles.values())
    everywhere = Counter((one.name, info.case) for cases in found.values() for one, info in cases)
    assert set(everywhere.values()) <= {1}
    assert len(everywhere) + sum(left_out.values()) == sum(len(one.cases) for one in datasets)
    assert all(entry.images["train"] for entry in entries)
    if config.val_fraction:
        assert all(entry.images["val"] for entry in entries)
    seen = {one.site for (_, role), cases in found.items() if role != "server" for _, one in cases}
    assert not seen & set(config.hold_out_site.get("a", ()))
    assert plan(config, datasets) == (found, entries, left_out), "the same seed, the same partition"


@settings(max_examples=40)
@given(collections(), options(), st.integers(2, 4))
def test_folds_test_every_patient_of_the_clients_once(datasets, asked, folds):
    tested, held, servers = Counter(), [], []
    for k in range(1, folds + 1):
        found, _, _ = try_plan(PartitionConfig(**{**asked, "fold": f"{k}/{folds}"}), datasets)
        tested += placed(found, ("test",))
        held.append(placed(found, ("train", "val", "test")))
        servers.append(placed(found, ("server",)))
    assert all(one == tested for one in held), "each client's cases once, and in every fold the same clients"
    assert all(one == servers[0] for one in servers)


def test_a_site_is_a_client():
    sets = {
        "client_train": patients("a b c", site="C1")
        + patients("d e f", site="C10")
        + patients("g h", site="C2"),
        "client_test": patients("i", site="C1") + patients("j", site="C2"),
        "server_test": patients("k", site="C1"),
    }
    found, entries, _ = plan(PartitionConfig(split={"lits": "site"}), [dataset("lits", sets)])
    assert [(entry.name, entry.site) for entry in entries] == [
        ("lits-c1", "C1"),
        ("lits-c2", "C2"),
        ("lits-c10", "C10"),
    ]
    assert names_in(found, "lits-c2", "test") == ["j"]
    assert found["lits-c10", "test"] == []
    assert names_in(found, "test/lits", "server") == ["k"]


def test_sites_whose_names_make_one_file_name_are_numbered():
    sites = ["St. Mary", "st mary", "北京", "上海", "St/Mary"]
    sets = {"client_train": [one for n, s in enumerate(sites) for one in patients(f"{n}a {n}b", site=s)]}
    _, entries, _ = plan(PartitionConfig(split={"x": "site"}), [dataset("x", sets)])
    assert len({entry.shard for entry in entries}) == 5
    assert {entry.name for entry in entries} == {
        "x-st-mary",
        "x-st-mary-2",
        "x-st-mary-3",
        "x-site",
        "x-site-2",
    }


def test_a_data_set_that_names_no_site_is_not_divided_by_site():
    sets = {"client_train": patients("a b", site="C1") + patients("c d e")}
    with pytest.raises(
        FlamesError, match=r"^x names no site for 3 of its 5 images, .* pass --split x=N for N clients"
    ):
        plan(PartitionConfig(split={"x": "site"}), [dataset("x", sets)])


@pytest.mark.parametrize(
    ("set_name", "val_fraction", "problem"),
    [
        ("client_test", 0.1, "client x-c2 has no patient to train on; hold the site out"),
        (
            "client_train",
            0.1,
            "client x-c2 has 1 patient to train on and none to validate on; hold the site out",
        ),
    ],
)
def test_a_site_too_small_for_a_client_gets_an_error_with_advice(set_name, val_fraction, problem):
    sets = {"client_train": patients("a b c", site="C1")}
    sets[set_name] = [*sets.get(set_name, []), *patients("d", site="C2")]
    advice = r" \(--hold-out-site 'x=C2'\), divide by patient \(--split x=N\)"
    with pytest.raises(FlamesError, match=problem + advice):
        plan(PartitionConfig(split={"x": "site"}, val_fraction=val_fraction), [dataset("x", sets)])


def test_the_papers_splits_are_the_defaults():
    names = ["brats", "busi", "lits", "lits-slices", "polypgen", "sts-ct"]
    assert resolve_split({}, [dataset(name, {}) for name in names]) == {
        "brats": 3,
        "busi": 1,
        "lits": "site",
        "lits-slices": "site",
        "polypgen": "site",
        "sts-ct": 1,
    }


def test_a_split_names_a_data_set_an_alias_or_a_collection():
    datasets = [dataset("sts-ct", {}, "sts"), dataset("sts-mri", {}, "sts"), dataset("brats", {})]
    named = {"sts-mri": 4, "STS": 2, "Task01_BrainTumour": 5}
    assert resolve_split(named, datasets) == {"sts-ct": 2, "sts-mri": 4, "brats": 5}
    with pytest.raises(
        FlamesError, match="--split names 'lung', which is not among the data sets sts-ct, sts-mri"
    ):
        resolve_split({"lung": 2}, datasets)


def people(*numbers):
    return " ".join(f"p{number:02d}" for number in numbers)


def two_modalities(test=(16, 17, 18, 19), **more):
    """Return CT of twenty patients and MRI of most of them."""
    ct = {"client_train": patients(people(*range(16))), "client_test": patients(people(*test)), **more}
    mri = {"client_train": patients(people(*range(3, 16))), "client_test": patients(people(*test))}
    return [dataset("sts-ct", ct, "sts"), dataset("sts-mri", mri, "sts", "MRI")]


@pytest.mark.parametrize("asked", [{}, {"fold": "1/4"}, {"skew": 0.5}, {"skew": 0.5, "fold": "2/3"}])
def test_modalities_of_the_same_patients_are_divided_in_the_same_way(asked):
    found, entries, _ = plan(PartitionConfig(split={"sts": 2}, **asked), two_modalities())
    assert [entry.name for entry in entries] == ["sts-ct-1", "sts-ct-2", "sts-mri-1", "sts-mri-2"]
    for part in "12":
        for role in ("train", "val", "test"):
            ct, mri = (names_in(found, f"sts-{modality}-{part}", role) for modality in ("ct", "mri"))
            assert ct
            assert mri
            assert set(mri) <= set(ct)
            assert set(ct) - set(mri) <= {"p00", "p01", "p02"}


def test_modalities_may_be_divided_into_different_numbers_of_clients():
    found, _, _ = plan(PartitionConfig(split={"sts-ct": 2}), two_modalities())
    for role in ("train", "val", "test"):
        ct = names_in(found, "sts-ct-1", role) + names_in(found, "sts-ct-2", role)
        assert set(names_in(found, "sts-mri", role)) <= set(ct)


def test_patients_named_for_validation_validate():
    sets = {
        "client_train": patients("a b c d"),
        "client_val": patients("e f"),
        "client_test": patients("g h"),
    }
    for asked in ({}, {"val_fraction": 0}, {"val_fraction": 0.9}):
        found, _, _ = plan(PartitionConfig(**asked), [dataset("x", sets)])
        assert names_in(found, "x", "val") == ["e", "f"]
        assert names_in(found, "x", "train") == ["a", "b", "c", "d"]
    found, _, _ = plan(PartitionConfig(split={"x": 2}), [dataset("x", sets)])
    assert names_in(found, "x-1", "val") + names_in(found, "x-2", "val") in (["e", "f"], ["f", "e"])
    with pytest.raises(FlamesError, match="x has 2 patients in client_val, too few for 3 clients"):
        plan(PartitionConfig(split={"x": 3}), [dataset("x", {**sets, "client_test": []})])


def test_a_cross_validation_deals_patients_named_for_validation_too():
    sets = {
        "client_train": patients("a b c d"),
        "client_val": patients("e f"),
        "client_test": patients("g h"),
    }
    tested = []
    for k in range(1, 5):
        found, _, _ = plan(PartitionConfig(fold=f"{k}/4"), [dataset("x", sets)])
        tested += names_in(found, "x", "test")
        assert len(names_in(found, "x", "val")) == 1
    assert sorted(tested) == list("abcdefgh")


def test_folds_keep_classes_in_proportion():
    sets = {
        "client_train": patients(people(*range(10)), stratum="benign"),
        "client_test": patients(people(*range(10, 15)), stratum="malignant"),
    }
    for k in range(1, 6):
        found, _, _ = plan(PartitionConfig(fold=f"{k}/5"), [dataset("x", sets)])
        classes = [one.stratum for _, one in found["x", "test"]]
        assert Counter(classes) == {"benign": 2, "malignant": 1}


def test_one_draw_of_shares_serves_train_and_test():
    sets = {"client_train": patients(people(*range(60))), "client_test": patients(people(*range(60, 90)))}
    config = PartitionConfig(split={"x": 3}, skew=0.5, val_fraction=0, seed=2)
    _, entries, _ = plan(config, [dataset("x", sets)])
    train = [entry.images["train"] for entry in entries]
    assert max(train) > 2 * min(train)
    for entry in entries:
        assert abs(entry.images["test"] - entry.images["train"] / 2) <= 2


@pytest.mark.parametrize("fold", [None, "3/3"])
def test_the_smallest_share_keeps_patients_for_every_set(fold):
    sets = {"client_train": patients(people(*range(40))), "client_test": patients(people(*range(40, 50)))}
    config = PartitionConfig(split={"x": 4}, skew=0.001, fold=fold)
    _, entries, _ = plan(config, [dataset("x", sets)])
    assert max(entry.images["train"] for entry in entries) > 15
    assert all(count >= 1 for entry in entries for count in entry.images.values())


def test_too_few_patients_for_the_clients_of_a_cross_validation_are_reported():
    sets = {"client_train": patients("a b"), "client_test": patients("c")}
    with pytest.raises(FlamesError, match=r"x has 3 patients in its clients' sets, too few for 4 clients"):
        plan(PartitionConfig(split={"x": 4}, fold="1/2"), [dataset("x", sets)])
