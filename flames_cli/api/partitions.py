"""Partitions of a workspace: their clients and the test sets of the server."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.api.options import PathLike, find_workspace, make_config, takes
from flames_cli.api.progress import Callback, stage_progress
from flames_cli.config import PartitionConfig
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.stage import make_partitions
from flames_cli.store import partition as stored
from flames_cli.store.workspace import partition_folder


@dataclass(frozen=True, slots=True)
class Client:
    """One client with its numbers of images and patients. A number that is not known is None."""

    name: str
    modality: str
    organ: str
    dataset: str = ""
    """Empty: not known, as for real nodes."""
    site: str = ""
    """The centre, if the data set was divided by site."""
    train_images: int | None = None
    val_images: int | None = None
    test_images: int | None = None
    train_patients: int | None = None
    val_patients: int | None = None
    test_patients: int | None = None


@dataclass(frozen=True, slots=True)
class TestSet:
    """One test set of the server, of patients that no client has."""

    __test__ = False  # pytest would take it for a class of tests

    name: str
    modality: str
    organ: str
    site: str
    """The site, if no client has images of it; else empty."""
    images: int
    patients: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One division of the preprocessed data sets between clients."""

    name: str
    folder: Path
    seed: int
    size: int
    """Side of the images, in pixels."""
    channels: int
    clients: list[Client] = field(repr=False)
    server: list[TestSet] = field(repr=False)
    notes: list[str] = field(default_factory=list, repr=False)
    """Warnings of the call that made it; empty if it was only opened."""


@takes(PartitionConfig, "folds")
def partition(
    config: PartitionConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Partition:
    """Divide the preprocessed data sets between clients; no patient is in two sets.

    Args:
        config: options as a `PartitionConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: no data set is preprocessed.
        FlamesError: an option is wrong; the partition exists and `overwrite` is False; or a client would have
            too few patients.

    Examples:
        >>> made = flames.partition(name="uneven", split={"brats": 2}, skew=0.5, workspace=workspace)
        >>> [client.name for client in made.clients]
        ['brats-1', 'brats-2', 'busi']
    """
    chosen = make_config(PartitionConfig, config, options)
    if chosen.folds is not None:
        raise FlamesError(
            f"got folds={chosen.folds}, which makes several partitions, expected one; call partition_folds"
        )
    return _make(chosen, progress)[0]


@takes(PartitionConfig, "fold")
def partition_folds(
    config: PartitionConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> list[Partition]:
    """Make all folds of a cross-validation, one partition for each.

    Args:
        config: options as a `PartitionConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: no data set is preprocessed.
        FlamesError: `folds` is missing, or another error as in `partition`.

    Examples:
        >>> [made.name for made in flames.partition_folds(name="cv", folds=2, workspace=workspace)]
        ['cv-fold-1', 'cv-fold-2']
    """
    chosen = make_config(PartitionConfig, config, options)
    if chosen.folds is None:
        raise FlamesError("got no number of folds, expected 2 or more; pass folds=5, or call partition")
    return _make(chosen, progress)


def open_partition(name: str = "default", workspace: PathLike | None = None) -> Partition:
    """Return a partition of a workspace.

    Args:
        name: its name.
        workspace: its folder; None: that of FLAMES_WORKSPACE, or `flames-workspace`.

    Raises:
        MissingArtifact: there is no such partition.
        FlamesError: its file is damaged.

    Examples:
        >>> [(test.name, test.patients) for test in flames.open_partition("default", workspace).server]
        [('brats', 2), ('busi', 2)]
    """
    found = stored.open_partition(find_workspace(workspace), name)
    return _partition(name, found.folder, found.content)


def _make(config: PartitionConfig, progress: Callback | None) -> list[Partition]:
    with stage_progress(progress) as report:
        made = make_partitions(config, report)
    return [
        _partition(
            one.name,
            partition_folder(config.workspace, one.name),
            one.partition,
            [*one.notes, *([f"the earlier partition is called {one.aside} now"] if one.aside else [])],
        )
        for one in made
    ]


def _partition(
    name: str, folder: Path, content: stored.Partition, notes: list[str] | None = None
) -> Partition:
    return Partition(
        name=name,
        folder=folder,
        seed=content.seed,
        size=content.size,
        channels=content.channels,
        clients=clients_of(content),
        server=[
            TestSet(
                name=test,
                modality=entry.modality,
                organ=entry.organs[test],
                site=entry.sites.get(test, ""),
                images=n,
                patients=len(entry.patients[test]),
            )
            for entry in content.server
            for test, n in entry.images.items()
        ],
        notes=notes or [],
    )


def clients_of(content: stored.Partition) -> list[Client]:
    """Return the clients of a partition."""
    return [
        Client(
            name=one.name,
            modality=one.modality,
            organ=one.organ,
            dataset=one.dataset,
            site=one.site,
            **{f"{part}_images": one.images[part] for part in ("train", "val", "test")},
            **{f"{part}_patients": len(one.patients[part]) for part in ("train", "val", "test")},
        )
        for one in content.clients
    ]
