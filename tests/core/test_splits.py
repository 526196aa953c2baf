import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import (
    SETS,
    Share,
    SplitUnit,
    deal_folds,
    divide_units,
    draw_shares,
    find_overlaps,
    split_units,
    take_units,
)

NAMES = st.text("abcdef0123456789 ()_", min_size=1, max_size=6)
UNITS = st.dictionaries(
    NAMES, st.builds(SplitUnit, st.integers(1, 60), st.integers(1, 3)), min_size=1, max_size=25
)
SINGLES = st.dictionaries(NAMES, st.builds(SplitUnit, st.integers(1, 60)), min_size=3, max_size=25)
SHARES = st.builds(Share, st.floats(0, 800) | st.just(math.inf), st.integers(0, 30) | st.just(math.inf))
DRAWN = {name for name in SETS if name != "client_val"}
"""Sets that a split draws; it draws no validation set."""

FRACTIONS = st.floats(0, 0.99)
SEEDS = st.integers(0, 2**32)


def evenly(n, images=10):
    return {f"p{i:02d}": SplitUnit(images) for i in range(n)}


@settings(max_examples=50)
@given(UNITS, SHARES, FRACTIONS, SEEDS)
def test_every_unit_is_in_one_set_and_train_is_never_empty(units, share, fraction, seed):
    set_of = split_units(units, share, fraction, derive_rng(seed, "split"))
    assert set_of.keys() == units.keys()
    assert set(set_of.values()) <= DRAWN
    assert "client_train" in set_of.values()
    members = {name: [unit for unit in set_of if set_of[unit] == name] for name in SETS}
    assert find_overlaps(members) == []


@settings(max_examples=50)
@given(SINGLES, st.floats(0.01, 0.25), st.floats(0.01, 0.25), SEEDS)
def test_three_patients_are_enough_for_three_sets(units, server_fraction, test_fraction, seed):
    share = Share.fraction(server_fraction, units)
    assert set(split_units(units, share, test_fraction, derive_rng(seed)).values()) == DRAWN


@settings(max_examples=50)
@given(UNITS, st.data())
def test_no_draw_depends_on_what_units_are_called(units, data):
    """The names are pseudonyms, which differ between sites."""
    renamed = [f"q{number}" for number in data.draw(st.permutations(range(len(units))))]
    new = dict(zip(units, renamed, strict=True))
    old = {name: before for before, name in new.items()}
    share, fraction, seed = data.draw(SHARES), data.draw(FRACTIONS), data.draw(SEEDS)
    parts = data.draw(st.integers(1, len(units)))

    def draw(given):
        strata = {name: (str(unit.patients),) for name, unit in given.items()}
        return (
            split_units(given, share, fraction, derive_rng(seed)),
            divide_units(given, parts, derive_rng(seed)),
            deal_folds(strata, 3, derive_rng(seed)),
        )

    sets, divided, folds = draw({new[name]: unit for name, unit in units.items()})
    called_back = (
        {old[name]: own for name, own in sets.items()},
        [[old[name] for name in part] for part in divided],
        {old[name]: fold for name, fold in folds.items()},
    )
    assert called_back == draw(units)


def test_seeds_draw_different_splits():
    splits = [split_units(evenly(40), Share(patients=10), 0.2, derive_rng(seed)) for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_a_split_by_hand():
    set_of = list(split_units(evenly(100), Share(images=200), 0.2, derive_rng(0)).values())
    assert {name: set_of.count(name) for name in DRAWN} == {
        "server_test": 20,
        "client_test": 16,
        "client_train": 64,
    }


def test_shares_of_nothing_leave_all_in_train():
    assert set(split_units(evenly(9), Share(images=0), 0.0, derive_rng(0)).values()) == {"client_train"}


@pytest.mark.parametrize(("n", "expected"), [(10, 2), (11, 3), (1, 1), (15, 3), (30, 6)])
def test_a_fraction_of_patients_is_rounded_up(n, expected):
    assert Share.fraction(0.2, evenly(n)) == Share(images=math.inf, patients=expected)


def test_a_fraction_counts_patients_not_units():
    assert Share.fraction(0.5, {"a": SplitUnit(3, patients=7), "b": SplitUnit(9)}).patients == 4


def test_a_fraction_tolerates_floating_point_errors():
    assert 0.07 * 100 > 7
    assert Share.fraction(0.07, evenly(100)).patients == 7


@settings(max_examples=50)
@given(UNITS, SHARES, SEEDS)
def test_taken_units_come_nearest_to_the_share(units, share, seed):
    taken = take_units(units, share, derive_rng(seed))
    assert len(taken) < len(units)
    if len(taken) < 2:
        return
    images, patients = sum(units[t].images for t in taken), sum(units[t].patients for t in taken)
    assert images <= share.images + max(units[t].images for t in taken) / 2
    assert patients <= share.patients + max(units[t].patients for t in taken) / 2
    if len(taken) < len(units) - 1:
        for unit in (units[name] for name in units if name not in taken):
            assert images + unit.images / 2 > share.images or patients + unit.patients / 2 > share.patients


@settings(max_examples=50)
@given(UNITS, SHARES, SEEDS)
def test_something_is_taken_unless_the_share_is_nothing(units, share, seed):
    taken = take_units(units, share, derive_rng(seed))
    nothing = share.images <= 0 or share.patients <= 0 or len(units) < 2
    assert (taken == []) == nothing


@pytest.mark.parametrize(("images", "expected"), [(24, 2), (25, 3), (29, 3), (30, 3), (34, 3)])
def test_a_unit_is_taken_if_at_least_half_of_it_fits(images, expected):
    assert len(take_units(evenly(9), Share(images=images), derive_rng(0))) == expected


def test_the_smallest_unit_is_taken_if_none_fits():
    units = {"big": SplitUnit(100), "small": SplitUnit(40), "bigger": SplitUnit(300)}
    assert take_units(units, Share(images=5), derive_rng(0)) == ["small"]


def test_one_unit_is_always_left():
    assert len(take_units(evenly(4), Share(), derive_rng(0))) == 3
    assert take_units(evenly(1), Share(), derive_rng(0)) == []


@settings(max_examples=50)
@given(UNITS, st.data())
def test_divided_units_are_balanced_and_complete(units, data):
    parts = data.draw(st.integers(1, len(units)))
    divided = divide_units(units, parts, derive_rng(data.draw(SEEDS)))
    assert len(divided) == parts
    assert sorted(name for part in divided for name in part) == sorted(units)
    counts = [len(part) for part in divided]
    assert max(counts) - min(counts) <= 1
    images = [sum(units[name].images for name in part) for part in divided]
    assert max(images) - min(images) <= max(unit.images for unit in units.values())


def test_divided_units_are_balanced_in_images_as_computed_by_hand():
    units = {"a": SplitUnit(8), "b": SplitUnit(7), "c": SplitUnit(2), "d": SplitUnit(1)}
    divided = divide_units(units, 2, derive_rng(0))
    assert sorted(divided) == [["a", "d"], ["b", "c"]]


def test_fewer_patients_than_parts_are_rejected():
    with pytest.raises(ValueError, match="2 patients cannot be divided into 3 parts"):
        divide_units(evenly(2), 3, derive_rng(0))


@settings(max_examples=50)
@given(UNITS, st.data())
def test_skewed_parts_are_complete_and_keep_what_they_need(units, data):
    parts = data.draw(st.integers(1, len(units)))
    least = data.draw(st.integers(1, 4))
    seed = data.draw(SEEDS)
    shares = draw_shares(parts, data.draw(st.floats(1e-6, 1e3)), derive_rng(seed, "shares"))
    assert sum(shares) == pytest.approx(1)
    divided = divide_units(units, parts, derive_rng(seed), shares, least)
    assert sorted(name for part in divided for name in part) == sorted(units)
    kept = min(least, len(units) // parts)
    free = len(units) - kept * parts
    for part, share in zip(divided, shares, strict=True):
        assert abs(len(part) - kept - share * free) < 1 + 1e-9


def test_shares_are_followed_by_hand():
    counts = [len(part) for part in divide_units(evenly(20), 3, derive_rng(0), [0.75, 0.25, 0.0], least=2)]
    assert counts == [2 + 11, 2 + 3, 2]


def test_a_small_concentration_gives_uneven_shares_and_a_large_one_even_ones():
    def widest(concentration):
        return [max(draw_shares(4, concentration, derive_rng(seed))) for seed in range(50)]

    assert max(widest(1e3)) < 0.3 < 0.8 < sum(widest(0.1)) / 50
    assert all(math.isfinite(share) for c in (1e-300, 1e6) for share in draw_shares(3, c, derive_rng(0)))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["ct", "mri", "ct mri"]), min_size=1, max_size=30), st.data())
def test_parts_are_balanced_in_every_data_set(kinds, data):
    units = {f"p{i:02d}": SplitUnit(1, datasets=frozenset(kind.split())) for i, kind in enumerate(kinds)}
    counts = {name: sum(name in unit.datasets for unit in units.values()) for name in ("ct", "mri")}
    parts = data.draw(st.integers(1, min([count for count in counts.values() if count], default=1)))
    divided = divide_units(units, parts, derive_rng(data.draw(SEEDS)))
    for name in counts:
        held = [sum(name in units[unit].datasets for unit in part) for part in divided]
        assert max(held) - min(held) <= 1


STRATA = st.dictionaries(
    NAMES, st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1, max_size=30
)


@settings(max_examples=50)
@given(STRATA, st.integers(2, 8), SEEDS)
def test_folds_are_near_equal_in_all_and_in_each_class(strata, folds, seed):
    fold_of = deal_folds(strata, folds, derive_rng(seed))
    assert fold_of.keys() == strata.keys()
    for wanted in ("ab", "a", "b"):
        counts = [
            sum(fold_of[name] == fold for name in strata if strata[name][0] in wanted)
            for fold in range(1, folds + 1)
        ]
        assert max(counts) - min(counts) <= 1


def test_folds_spread_the_sites_of_a_class():
    strata = {f"p{i:02d}": ("", "xyz"[i % 3]) for i in range(30)}
    fold_of = deal_folds(strata, 5, derive_rng(0))
    for site in "xyz":
        own = [fold_of[name] for name in strata if strata[name][1] == site]
        assert sorted(own) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_folds_that_are_given_stay_and_the_others_are_dealt_around_them():
    strata = dict.fromkeys("abcdef", ("",))
    fold_of = deal_folds(strata, 3, derive_rng(0), {"a": 2, "b": 2, "elsewhere": 1})
    assert (fold_of["a"], fold_of["b"]) == (2, 2)
    assert sorted(fold_of.values()) == [1, 1, 2, 2, 3, 3]


def test_folds_depend_on_the_seed():
    strata = {f"p{i:02d}": ("",) for i in range(20)}
    assert deal_folds(strata, 4, derive_rng(0)) == deal_folds(strata, 4, derive_rng(0))
    assert deal_folds(strata, 4, derive_rng(0)) != deal_folds(strata, 4, derive_rng(1))


def test_overlaps_name_the_patient_and_both_sets():
    sets = {"train": ["p1", "p2", "p1"], "test": ["p3", "p2"], "server": ["p3", "p2"]}
    assert find_overlaps(sets) == [
        ("p2", "train", "test"),
        ("p2", "train", "server"),
        ("p3", "test", "server"),
    ]


def test_sets_apart_have_no_overlaps():
    assert find_overlaps({"train": ["p1", "p1"], "test": ["p2"], "server": []}) == []
