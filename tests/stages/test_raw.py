import pytest

from flames_cli.config import CheckConfig
from flames_cli.errors import FlamesError
from flames_cli.readers import get_reader
from flames_cli.readers.base import ReadOptions
from flames_cli.stages.raw import check_options, read_options, slug


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Klinik Süd", "klinik-sud"),
        ("Klinik Su\N{COMBINING DIAERESIS}d", "klinik-sud"),
        ("Hôpital_Nord (2)", "hopital-nord-2"),
        ("日本", ""),
    ],
)
def test_names_of_files_are_plain_letters_and_digits(text, name):
    assert slug(text) == name


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("busi", {"labels": "1"}, "--labels is for a manifest; busi has labels of its own"),
        ("lits", {"labels": "2"}, "--labels is for a manifest; lits has labels of its own"),
        ("lits", {"mask_threshold": "half"}, "--mask-threshold is for soft masks; lits has labels"),
        ("manifest", {"labels": "1", "mask_threshold": 1}, r"exclude each other.*pass one of them"),
    ],
)
def test_options_of_masks_are_rejected_where_they_do_not_apply(dataset, options, message):
    with pytest.raises(FlamesError, match=message):
        check_options(get_reader(dataset), CheckConfig(**options))


@pytest.mark.parametrize("dataset", ["busi", "kvasir", "manifest"])
def test_a_mask_threshold_applies_to_stills(dataset):
    config = CheckConfig(mask_threshold="HALF")
    check_options(get_reader(dataset), config)
    assert read_options(config) == ReadOptions(mask_threshold="half")
