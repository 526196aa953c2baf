import h5py
import numpy as np
import pytest

from flames_cli.store import seen
from flames_cli.store.cases import SetInfo
from flames_cli.store.h5 import Selection, write_shard
from flames_cli.store.models import Seen
from flames_cli.store.seen import find_seen
from tests.support.datasets import write_noise


@pytest.fixture
def make_shard(tmp_path):
    def make(name, values, shapes=((8, 6),), spacing=(1.0, 2.0)):
        """Write a shard whose images are constant, of the raw shapes in turn."""
        source = tmp_path / f"{name}.h5"
        members = {
            "client_train": [(f"p{i}", f"p{i}", 1) for i in range(len(values))],
            "client_test": [("t", "t", 1)],
        }
        write_noise(source, members, SetInfo(name, "MRI", "brain", 4, 255))
        with h5py.File(source, "r+") as file:
            group = file["client_train"]
            for row, value in enumerate(values):
                group["image"][row] = value
            group["raw_shape"][...] = [shapes[row % len(shapes)] for row in range(len(values))]
            group["spacing_mm"][...] = spacing
        path = tmp_path / f"shard-{name}.h5"
        rows = Selection(source, {"client_train": range(len(values))})
        write_shard(
            path, name, "MRI", {"train": rows, "val": Selection(source, {}), "test": Selection(source, {})}
        )
        return path

    return make


def test_ranges_are_the_percentiles_over_the_images_of_all_shards(make_shard):
    first, second = make_shard("a", [0, 51], [(8, 6), (9, 7)]), make_shard("b", [102])
    expected = {
        "rows": np.percentile([8, 9, 8], (1, 99)),
        "columns": np.percentile([6, 7, 6], (1, 99)),
        "mean": np.percentile([0, 0.2, 0.4], (1, 99)),
        "deviation": (0, 0),
        "black": np.percentile([1, 0, 0], (1, 99)),
        "pixel_mm": (1, 1),
    }
    found = find_seen([first, second])
    assert found.n_images == 3
    for name, limits in expected.items():
        assert getattr(found, name) == pytest.approx(limits, rel=1e-3, abs=1e-6), name


def test_an_unknown_spacing_is_left_out(make_shard):
    assert find_seen([make_shard("a", [1, 2], spacing=(np.nan, np.nan))]).pixel_mm is None


def test_of_many_images_some_at_equal_distances_are_read(make_shard, monkeypatch):
    monkeypatch.setattr(seen, "MOST_IMAGES", 2)
    found = find_seen([make_shard("a", [0, 255, 255, 255, 51])])
    assert found.n_images == 2
    assert found.mean == pytest.approx((0.01, 0.99), rel=1e-3)


def test_no_image_has_no_ranges():
    assert find_seen([]) is None


def test_numbers_have_few_digits(make_shard):
    found = find_seen([make_shard("a", [100, 101])])
    assert isinstance(found, Seen)
    assert found.mean == tuple(float(f"{value:.4g}") for value in found.mean)
