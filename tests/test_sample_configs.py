"""Every sample configuration names what there is."""

from pathlib import Path

import pytest

from flames_cli.config import SECTIONS, FederateConfig, PartitionConfig, PreprocessConfig, load_section
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.models import build_model, options_for
from flames_cli.readers import get_reader

SAMPLES = sorted((Path(__file__).parents[1] / "sample_configs").glob("*.toml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_configuration_holds_only_what_is_known(path):
    for section in SECTIONS.values():
        load_section(section, {}, path)
    read = load_section(PreprocessConfig, {}, path)
    for name in (*read.datasets, *read.raw):
        get_reader(name)
    federation = load_section(FederateConfig, {}, path)
    assert federation.strategy in ALGORITHMS
    channels = 3 if read.channels == "rgb" else 1
    model = build_model(federation.model, seed=0, **options_for(channels, federation.model_options))
    assert model.min_size <= read.size


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_partition_divides_what_the_sample_preprocesses(path):
    read, divided = load_section(PreprocessConfig, {}, path), load_section(PartitionConfig, {}, path)
    known = {*read.datasets, read.name}
    assert {*divided.split, *divided.hold_out_site, *divided.datasets} <= known


def test_the_sample_deployment_is_for_real_nodes():
    path = next(path for path in SAMPLES if path.stem == "deployment")
    read, federation = load_section(PreprocessConfig, {}, path), load_section(FederateConfig, {}, path)
    assert federation.engine == "superlink"
    assert federation.deployment == path.parent / "flames-deployment"
    assert (federation.size, federation.channels) == (read.size, read.channels)


def test_there_are_samples():
    assert {path.stem for path in SAMPLES} >= {"paper", "quickstart", "polypgen-fedgs", "lits-fedgs"}
