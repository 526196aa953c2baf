import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.store.member_names import (
    family_name,
    member_name,
    partition_name,
    split_name,
    split_partition_name,
)

NUMBERS = st.none() | st.integers(0, 2**63)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(NAMES, NUMBERS, NUMBERS)
def test_the_name_of_a_member_has_its_family_fold_and_seed(family, fold, seed):
    name = member_name(family, fold, seed)
    expected = "" if fold is None and seed is None else family
    assert split_name(name, fold is not None, seed is not None) == (expected, fold, seed)


@given(NAMES, st.integers(1, 999))
def test_the_name_of_a_partition_has_its_set_and_fold(folds, k):
    assert split_partition_name(partition_name(folds, k)) == (folds, k)


@pytest.mark.parametrize("name", ["flames", "flames-seed-", "seed-1", "flames-seed-0-old-1", "flames-fold-x"])
def test_other_names_are_of_no_member(name):
    assert split_name(name, False, True) == split_name(name, True, False) == ("", None, None)
    assert family_name(name) == ""


def test_a_family_is_guessed_from_the_name_alone():
    assert family_name("a-fold-2-seed-1") == family_name("a-seed-1") == family_name("a-fold-2") == "a"


@pytest.mark.parametrize("name", ["default", "fold-x", "fold-1-old-1", "cv-fold-1-old-2"])
def test_other_partitions_are_no_folds(name):
    assert split_partition_name(name) == ("", None)
