import numpy as np
import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.cases import Spool
from flames_cli.store.predictions import PredictedSet, PredictionSpool, open_predictions

SETS = [
    PredictedSet("a", "client_test", "busi", "US", "", ("busi", "busi"), ("1", "zwölf")),
    PredictedSet("a", "server_test", "CT", "CT", "C6", ("lits",) * 3, ("v/1", "v/2", "v/3")),
    PredictedSet("b", "client_test", "none", "US", "", (), ()),
]
MASKS = [
    np.random.default_rng(number).integers(0, 2, (n, 16, 16), np.uint8) for number, n in enumerate((2, 3, 0))
]


def write(path):
    with Spool() as spool:
        masks = PredictionSpool(spool)
        for one, own in zip(SETS, MASKS, strict=True):
            masks.add(one, list(own))
        masks.write(path)


def test_masks_are_read_as_they_were_predicted(tmp_path):
    write(tmp_path / "predictions.h5")
    with open_predictions(tmp_path / "predictions.h5") as found:
        assert found.sets == SETS
        for number, masks in enumerate(MASKS):
            assert [mask.tolist() for mask in found.masks(number)] == masks.tolist()
        (last,) = found.masks(1, [2])
        assert last.tolist() == MASKS[1][2].tolist()


def test_the_same_masks_give_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_missing_or_damaged_file_names_the_command(tmp_path):
    path = tmp_path / "predictions.h5"
    with pytest.raises(MissingArtifact, match="make it with `flames evaluate`"), open_predictions(path):
        pass
    write(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(FlamesError, match="`flames evaluate`"), open_predictions(path) as found:
        list(found.masks(1))
