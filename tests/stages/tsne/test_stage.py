import csv
import json

import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PartitionConfig, TsneConfig
from flames_cli.core.scores.embedding import separation, thumbnail_features
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.tsne.stage import tsne
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import read_partition


def run(workspace, **options):
    return tsne(TsneConfig(workspace=workspace, device="cpu", **options))


def rows_of(made):
    with (made.folder / "embedding.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def training_images(workspace):
    """[(client, modality, case, image)] in the partition's order."""
    found = []
    for entry in read_partition(workspace / "partition.json").clients:
        data = ShardDataset(read_shard_sets(workspace / entry.shard, "train"))
        found += [
            (entry.name, entry.modality, data.case(i).case, data.example(i)[0]) for i in range(len(data))
        ]
    return found


def test_every_training_image_has_a_place(trained):
    made = run(trained)
    rows, images = rows_of(made), training_images(trained)
    assert list(rows[0]) == ["client", "modality", "case", "x", "y"]
    assert [(row["client"], row["modality"], row["case"]) for row in rows] == [image[:3] for image in images]
    places = np.array([(float(row["x"]), float(row["y"])) for row in rows])
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == len(places)
    assert made.images == {name: [image[0] for image in images].count(name) for name in made.images}


def test_files_are_there_and_pictures_are_pictures(trained):
    made = run(trained)
    assert made.folder == trained / "tsne"
    assert sorted(path.name for path in made.folder.iterdir()) == sorted(made.files)
    with Image.open(made.folder / "tsne.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 0
    assert (made.folder / "tsne.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_silhouettes_are_of_the_features_and_of_the_map(trained):
    made = run(trained)
    images, rows = training_images(trained), rows_of(made)
    features = thumbnail_features(image for *_, image in images)
    places = np.array([(float(row["x"]), float(row["y"])) for row in rows])
    modalities = [modality for _, modality, _, _ in images]
    assert made.silhouette_modality == pytest.approx(separation(features, modalities))
    assert made.silhouette_modality_map == pytest.approx(separation(places, modalities))
    assert made.silhouette_client == pytest.approx(separation(features, [image[0] for image in images]))
    assert made.silhouette_modality > 0


def test_the_summary_says_the_same_in_json(trained):
    made = run(trained)
    summary = json.loads((made.folder / "tsne.json").read_text(encoding="utf-8"))
    assert (summary["format"], summary["version"]) == ("flames-embedding", 1)
    for name in (
        "features",
        "run",
        "images",
        "silhouette_modality",
        "silhouette_modality_map",
        "silhouette_client",
    ):
        assert summary[name] == getattr(made, name)


@pytest.mark.parametrize("features", ["pixels", "deep"])
def test_the_same_seed_gives_the_same_bytes(features, trained):
    files = []
    for _ in range(2):
        folder = run(trained, features=features).folder
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]


def test_deep_features_are_of_the_run_named_or_of_the_newest(trained):
    assert run(trained, features="deep", run="flames").run == "flames"
    newest = run(trained, features="deep")
    assert (newest.run, newest.features) == ("local", "deep")
    assert run(trained).run is None


def test_deep_features_give_another_map_than_pixels(trained):
    one, other = ([row["x"] for row in rows_of(run(trained, features=name))] for name in ("pixels", "deep"))
    assert len(one) == len(other)
    assert one != other


def test_deep_features_without_a_run_name_the_command(workspace):
    with pytest.raises(MissingArtifact, match="make it with `flames federate`"):
        run(workspace(), features="deep")


def test_deep_features_of_another_partition_are_refused(trained):
    partition(PartitionConfig(workspace=trained, seed=1, overwrite=True))
    with pytest.raises(FlamesError, match="was made on another partition"):
        run(trained, features="deep", run="flames")


def test_no_partition_names_the_command(tmp_path):
    with pytest.raises(MissingArtifact, match="make it with `flames partition`"):
        run(tmp_path)


def test_one_modality_has_nothing_to_separate_from(workspace):
    root = workspace()
    partition(PartitionConfig(workspace=root, datasets=("busi", "otu2d"), overwrite=True))
    made = run(root)
    assert made.silhouette_modality is made.silhouette_modality_map is None
    assert made.silhouette_client is not None
    assert json.loads((made.folder / "tsne.json").read_text())["silhouette_modality"] is None


@pytest.fixture
def large_client(workspace):
    """All brain images are one client's: more than the least that `max_images` can be."""
    root = workspace()
    made = partition(PartitionConfig(workspace=root, split={"brats": 1}, overwrite=True))
    assert made.clients[0].images["train"] > 10
    return root


def test_no_client_gives_more_images_than_asked_for(large_client):
    every = [row["case"] for row in rows_of(run(large_client)) if row["client"] == "brats"]
    drawn = [row["case"] for row in rows_of(run(large_client, max_images=10)) if row["client"] == "brats"]
    assert len(set(drawn)) == len(drawn) == 10
    assert [case for case in every if case in drawn] == drawn
    assert run(large_client, max_images=10).images["busi"] == run(large_client).images["busi"]


def test_another_seed_draws_other_images(large_client):
    one, other = (
        [row["case"] for row in rows_of(run(large_client, max_images=10, seed=seed))] for seed in (0, 1)
    )
    assert one != other


def test_too_few_images_are_refused(workspace):
    root = workspace()
    partition(PartitionConfig(workspace=root, datasets=("busi",), val_fraction=0.7, overwrite=True))
    with pytest.raises(FlamesError, match=r"cannot draw the map: .* N >= 5 cases"):
        run(root)


def test_progress_counts_every_client(trained):
    told = []
    tsne(TsneConfig(workspace=trained), lambda *step: told.append(step))
    assert told == [*(("features", done, 5) for done in range(1, 6)), ("t-SNE", 0, 1), ("t-SNE", 1, 1)]
