"""All parts together: a federation of two rounds on drawn images. The package must be installed."""

import numpy as np
import pytest
from PIL import Image

import flames_cli as flames


@pytest.fixture
def isic(tmp_path):
    """24 images of skin with a dark disc, in the layout of the reader."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    for folder in ("images", "masks"):
        (tmp_path / "ISIC2018" / folder).mkdir(parents=True)
    for number in range(24):
        centre, radius = rng.uniform(14, 26, 2), rng.uniform(5, 9)
        lesion = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        skin = (rng.normal(170, 8, (40, 40)) - 90 * lesion).clip(0, 255).astype(np.uint8)
        Image.fromarray(skin).save(tmp_path / "ISIC2018" / "images" / f"ISIC_{number:07}.jpg")
        mask = tmp_path / "ISIC2018" / "masks" / f"ISIC_{number:07}_segmentation.png"
        Image.fromarray(lesion).save(mask)
    return tmp_path / "ISIC2018"


def test_a_run_uses_every_part_and_stores_their_version(isic, tmp_path):
    here = {"workspace": tmp_path / "workspace"}
    flames.preprocess(raw={"isic2018": isic}, size=32, **here)
    flames.partition(split={"isic2018": 2}, **here)
    run = flames.federate(
        strategy="fair",
        model="dilated-net",
        model_options={"channels": 4, "blocks": 2},
        loss="focal-tversky",
        augmentations=["speckle"],
        rounds=2,
        batch_size=8,
        device="cpu",
        **here,
    )
    assert len(run.rounds) == 2
    found = flames.evaluate(run=run.name, metrics=["boundary-iou"], device="cpu", **here)
    scores = [case["metric_boundary-iou"] for case in found.cases]
    assert scores
    assert all(0 <= score <= 1 for score in scores)
