import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.readers import ALIASES, READERS, get_reader, names_of
from flames_cli.readers.base import (
    find_root,
    require_sources,
)
from tests.support.raw_cases import iter_raw_cases


@pytest.mark.parametrize("name", READERS)
def test_every_reader_describes_its_data_set(name, phantom_raw):
    reader = READERS[name]
    assert name == reader.name
    assert reader.modality in {"MRI", "US", "CT", "Endoscopy"} or name == "manifest"
    assert bool(reader.organ) == bool(reader.modality)
    for text in (reader.licence, reader.folder, reader.layout):
        assert text
    assert reader.server_test >= 0
    assert reader.complete >= 0
    assert sum(1 for _ in iter_raw_cases(reader, phantom_raw[name])) > 9


@pytest.mark.parametrize("name", READERS)
def test_reading_twice_gives_the_same_cases(name, phantom_raw):
    first = iter_raw_cases(READERS[name], phantom_raw[name])
    for one, other in zip(first, iter_raw_cases(READERS[name], phantom_raw[name]), strict=True):
        assert (one.case, one.patient, one.slice_index) == (other.case, other.patient, other.slice_index)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("name", READERS)
def test_sources_and_cases_have_names_of_their_own(name, phantom_raw):
    sources = READERS[name].list_sources(phantom_raw[name])
    assert len({one.name for one in sources}) == len(sources)
    cases = [case.case for case in iter_raw_cases(READERS[name], phantom_raw[name])]
    assert len(set(cases)) == len(cases)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brats", "brats"),
        ("Task01_BrainTumour", "brats"),
        ("BUSI", "busi"),
        ("otu_2d", "otu2d"),
        ("MMOTU", "otu2d"),
    ],
)
def test_a_reader_is_found_by_its_name_or_alias(name, expected):
    assert get_reader(name) is READERS[expected]


def test_every_alias_is_another_name_of_one_reader():
    for alias, name in ALIASES.items():
        assert alias == alias.lower()
        assert alias not in READERS
        assert alias in names_of(READERS[name])


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(
        FlamesError,
        match=r"'lung' is not known \(did you mean msd-lung\?\); choose one of brats, busi, otu2d",
    ):
        get_reader("lung")


def test_the_downloads_folder_is_found_inside_the_raw_folder(tmp_path):
    reader = get_reader("busi")
    assert find_root(reader, tmp_path) == tmp_path
    (tmp_path / "Dataset_BUSI_with_GT").mkdir()
    assert find_root(reader, tmp_path) == tmp_path / "Dataset_BUSI_with_GT"
    assert find_root(reader, tmp_path / "Dataset_BUSI_with_GT") == tmp_path / "Dataset_BUSI_with_GT"


@pytest.mark.parametrize("name", READERS)
def test_the_error_for_a_missing_raw_folder_names_the_layout(name, tmp_path):
    with pytest.raises(FlamesError, match=r"no (CSV or )?folder .* put it there or pass --raw") as error:
        find_root(READERS[name], tmp_path / "gone")
    assert READERS[name].layout in str(error.value)


def test_a_file_is_not_a_raw_folder(tmp_path):
    (tmp_path / "busi").write_text("")
    with pytest.raises(FlamesError, match=r"no (CSV or )?folder"):
        find_root(get_reader("busi"), tmp_path / "busi")


@pytest.mark.parametrize("name", READERS)
def test_the_error_for_a_folder_without_images_names_the_layout(name, tmp_path):
    with pytest.raises(FlamesError, match="check --raw") as error:
        require_sources(READERS[name], tmp_path)
    assert READERS[name].layout in str(error.value)
