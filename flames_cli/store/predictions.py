"""`predictions.h5`: the masks that models predicted for the images of their test sets."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from flames_cli.arrays import Mask
from flames_cli.store.cases import Spool, encode_chunk, read_texts, write_masks, write_texts
from flames_cli.store.files.atomic import write_bytes
from flames_cli.store.h5 import open_checked
from flames_cli.store.schema import PREDICTIONS, stamp


@dataclass(frozen=True, slots=True)
class PredictedSet:
    """Test set with the model that predicted its masks; one group of the file."""

    run: str
    split: str
    model: str
    modality: str
    unseen_site: str
    datasets: tuple[str, ...]
    """Data set of each mask."""
    cases: tuple[str, ...]
    """Case of each mask."""


class PredictionSpool:
    """Predicted masks on disk, in the order in which models are scored, until the evaluation is written."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._sets: list[tuple[PredictedSet, int, list[int]]] = []

    def add(self, predicted: PredictedSet, masks: Sequence[Mask]) -> None:
        """Store the masks (H×W of 0 and 1) of one test set.

        Raises:
            NotWritten: the disk is full.
        """
        size = len(masks[0]) if len(masks) else 1
        self._sets.append((predicted, size, [self._spool.add(encode_chunk(mask)) for mask in masks]))

    def write(self, path: Path) -> None:
        """Write all masks, atomically. The same masks give the same bytes.

        HDF5 makes the file in memory, of the size of the deflated masks: it crashes if the disk is full when
        it closes a file of many groups.
        """
        with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
            file.attrs.update(stamp(PREDICTIONS))
            for number, (predicted, size, chunks) in enumerate(self._sets):
                group = file.create_group(f"{number:05d}")
                for name in ("run", "split", "model", "modality", "unseen_site"):
                    group.attrs[name] = getattr(predicted, name)
                write_texts(group, "dataset", predicted.datasets)
                write_texts(group, "case", predicted.cases)
                write_masks(group, size, [self._spool.get(chunk) for chunk in chunks])
            file.flush()
            content = file.id.get_file_image()
        write_bytes(path, content)


class Predictions:
    """An open predictions.h5."""

    def __init__(self, file: h5py.File) -> None:
        self._groups = [file[name] for name in sorted(file)]
        self.sets = [_read_set(group) for group in self._groups]
        """Test sets with their models, in the order of the evaluation."""

    def masks(self, number: int, rows: Iterable[int] | None = None) -> Iterator[Mask]:
        """Yield the masks (H×W of 0 and 1) of `sets[number]` at `rows` (None: all)."""
        stored = self._groups[number]["mask"]
        for row in range(len(stored)) if rows is None else rows:
            yield np.asarray(stored[row], np.uint8)


@contextmanager
def open_predictions(path: Path) -> Iterator[Predictions]:
    """Open `path` for reading.

    Raises:
        MissingArtifact: there is no such file.
        FlamesError: it is damaged, or has another format or version.
    """
    with open_checked(path, PREDICTIONS) as file:
        yield Predictions(file)


def _read_set(group: h5py.Group) -> PredictedSet:
    return PredictedSet(
        **{name: str(group.attrs[name]) for name in ("run", "split", "model", "modality", "unseen_site")},
        datasets=tuple(read_texts(group["dataset"])),
        cases=tuple(read_texts(group["case"])),
    )
