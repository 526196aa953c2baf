import csv
import json
import shutil

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
from flames_cli.store.workspace import partition_file, partition_folder


def run(workspace, **options):
    return tsne(TsneConfig(workspace=workspace, device="cpu", **options))


@pytest.fixture(scope="module")
def maps(finished_runs, tmp_path_factory):
    """{features: (workspace, its map)}: for reading only."""
    folder = tmp_path_factory.mktemp("maps")
    roots = {name: shutil.copytree(finished_runs, folder / name) for name in ("pixels", "deep")}
    return {name: (root, run(root, features=name)) for name, root in roots.items()}


def rows_of(made):
    with (made.folder / "embedding.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def training_images(workspace):
    """Return [(client, modality, case, image)] in the partition's order."""
    found = []
    for entry in read_partition(partition_file(workspace)).clients:
        data = ShardDataset(read_shard_sets(partition_folder(workspace) / entry.shard, "train"))
        found += [
            (entry.name, entry.modality, data.case(i).case, data.example(i)[0]) for i in range(len(data))
        ]
    return found


def test_every_training_image_has_a_place(maps):
    trained, made = maps["pixels"]
    rows, images = rows_of(made), training_images(trained)
    assert list(rows[0]) == ["client", "modality", "case", "x", "y"]
    assert [(row["client"], row["modality"], row["case"]) for row in rows] == [image[:3] for image in images]
    places = np.array([(float(row["x"]), float(row["y"])) for row in rows])
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == len(places)
    assert made.images == {name: [image[0] for image in images].count(name) for name in made.images}


def test_every_file_exists_and_pictures_are_pictures(maps):
    trained, made = maps["pixels"]
    assert made.folder == trained / "maps" / "pixels"
    assert sorted(path.name for path in made.folder.iterdir()) == sorted(made.files)
    with Image.open(made.folder / "tsne.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 0
    assert (made.folder / "tsne.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_silhouettes_are_of_the_features_and_of_the_map(maps):
    trained, made = maps["pixels"]
    images, rows = training_images(trained), rows_of(made)
    features = thumbnail_features(image for *_, image in images)
    places = np.array([(float(row["x"]), float(row["y"])) for row in rows])
    modalities = [modality for _, modality, _, _ in images]
    assert made.silhouette_modality == pytest.approx(separation(features, modalities))
    assert made.silhouette_modality_map == pytest.approx(separation(places, modalities))
    assert made.silhouette_client == pytest.approx(separation(features, [image[0] for image in images]))
    assert made.silhouette_modality > 0


def test_the_summary_has_the_same_figures_in_json(maps):
    _, made = maps["pixels"]
    summary = json.loads((made.folder / "tsne.json").read_text(encoding="utf-8"))
    assert (summary["format"], summary["version"]) == ("flames-embedding", 2)
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
def test_the_same_seed_gives_the_same_bytes(features, maps, trained):
    one, other = (
        {path.name: path.read_bytes() for path in made.folder.iterdir()}
        for made in (maps[features][1], run(trained, features=features))
    )
    assert one == other


def test_deep_features_are_of_the_run_named_or_of_the_newest(maps, trained):
    assert run(trained, features="deep", run="flames").run == "flames"
    newest = maps["deep"][1]
    assert (newest.run, newest.features) == ("local", "deep")
    assert maps["pixels"][1].run is None


def test_deep_features_give_another_map_than_pixels(maps):
    one, other = ([row["x"] for row in rows_of(maps[name][1])] for name in ("pixels", "deep"))
    assert len(one) == len(other)
    assert one != other


def test_deep_features_without_a_run_name_the_command(workspace):
    with pytest.raises(MissingArtifact, match="make it with `flames federate`"):
        run(workspace(), features="deep")


@pytest.mark.parametrize(("option", "value"), [("run", "flames"), ("round", 1)])
def test_a_run_for_pixels_is_rejected_since_it_would_have_no_effect(trained, option, value):
    with pytest.raises(FlamesError, match=f"got --{option} {value} with --features pixels"):
        run(trained, **{option: value})


def test_maps_of_pixels_and_of_runs_are_kept_next_to_each_other(trained):
    made = [
        run(trained),
        run(trained, features="deep", run="flames"),
        run(trained, features="deep", run="fedavg"),
        run(trained, features="deep", run="flames", round=1),
        run(trained, name="mine"),
    ]
    names = ["pixels", "deep-flames", "deep-fedavg", "deep-flames-round-1", "mine"]
    assert [one.folder for one in made] == [trained / "maps" / name for name in names]
    assert all(one.aside == "" for one in made)


def test_the_same_map_is_written_again_and_one_of_other_data_is_renamed(trained):
    first = {path.name: path.read_bytes() for path in run(trained).folder.iterdir()}
    again = run(trained)
    assert (again.aside, {path.name: path.read_bytes() for path in again.folder.iterdir()}) == ("", first)
    other = run(trained, seed=1)
    assert (other.folder.name, other.aside) == ("pixels", "pixels-old-1")
    old = trained / "maps" / "pixels-old-1"
    assert {path.name: path.read_bytes() for path in old.iterdir()} == first


def test_the_map_of_another_partition_has_its_name(trained):
    partition(PartitionConfig(workspace=trained, split={"brats": 1}, name="one"))
    made = run(trained, partition="one")
    assert (made.folder.name, made.partition) == ("pixels-one", "one")
    assert made.images != run(trained).images
    with pytest.raises(FlamesError, match="got --partition one with --features deep, which are those of"):
        run(trained, features="deep", partition="one")


def test_deep_features_are_those_of_the_runs_own_partition(trained):
    before = run(trained, features="deep", run="flames")
    partition(PartitionConfig(workspace=trained, split={"brats": 1}, overwrite=True))
    assert run(trained, features="deep", run="flames").images == before.images
    assert run(trained).images != before.images


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
    """Return a workspace in which all brain images are one client's: more than the smallest `max_images`."""
    root = workspace()
    made = partition(PartitionConfig(workspace=root, split={"brats": 1}, overwrite=True))
    assert made.clients[0].images["train"] > 10
    return root


def test_no_client_gives_more_images_than_asked_for(large_client):
    all_of_them, made = run(large_client), run(large_client, max_images=10)
    every = [case for client, _, case, _ in training_images(large_client) if client == "brats"]
    drawn = [row["case"] for row in rows_of(made) if row["client"] == "brats"]
    assert len(set(drawn)) == len(drawn) == 10
    assert [case for case in every if case in drawn] == drawn
    assert made.images["busi"] == all_of_them.images["busi"]


def test_another_seed_draws_other_images(large_client):
    one, other = (
        [row["case"] for row in rows_of(run(large_client, max_images=10, seed=seed))] for seed in (0, 1)
    )
    assert one != other


def test_too_few_images_are_rejected(workspace):
    root = workspace()
    partition(PartitionConfig(workspace=root, datasets=("busi",), val_fraction=0.7, overwrite=True))
    with pytest.raises(FlamesError, match=r"cannot draw the map: .* N >= 5 cases"):
        run(root)


def test_progress_counts_every_client(trained):
    told = []
    tsne(TsneConfig(workspace=trained), lambda *step: told.append(step))
    assert told == [*(("features", done, 5) for done in range(1, 6)), ("t-SNE", 0, 1), ("t-SNE", 1, 1)]
