"""Any text survives Flower's reading of key-value pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.errors import FlamesError
from flames_cli.flower.toml_pairs import config_pairs

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(text: str) -> dict[str, object]:
    from flwr.common.config import parse_config_args

    return dict(parse_config_args([text]))


@given(st.dictionaries(st.sampled_from(["shard", "client", "min-examples", "memory"]), TEXT))
def test_every_text_arrives_as_it_was(config):
    assert read(config_pairs(config)) == config


PATHS = ("/data/my shards/a.h5", '/data/it\'s "here"/a.h5', "/données/日本/a.h5", "C:\\x\\U0000", "x.toml")
ODD = ("a=1 b=2", "a\nb", "\t", "'", '"', "\\", "\\\"'", "😀", "\x7f\x00", "#", "$HOME `ls`", "")


@pytest.mark.parametrize("path", [*PATHS, *ODD])
def test_paths_of_every_kind_arrive_as_they_were(path):
    assert read(config_pairs({"shard": path, "client": path})) == {"shard": path, "client": path}


def test_numbers_and_truth_arrive_with_their_types():
    config = {"min-examples": 3, "share": 0.25, "tiny": 1e-07, "per-case": True, "other": False}

    arrived = read(config_pairs(config))

    assert arrived == config
    assert [type(value) for value in arrived.values()] == [int, float, float, bool, bool]


def test_a_path_that_is_not_text_is_refused_by_name():
    with pytest.raises(FlamesError, match="rename that file"):
        config_pairs({"shard": "/data/\udce9.h5"})
