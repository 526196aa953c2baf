"""Preparation of new images for a model: read, scaled and made square exactly as `preprocess` does it."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.geometry import MaskResize
from flames_cli.core.imaging.intensity import MAX_8_BIT, dequantise
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.volumes import Placement
from flames_cli.readers.base import BadCase, RawCase, ReadOptions
from flames_cli.readers.inputs import InputImage, read_input
from flames_cli.stages.predict.truth import TruthSource
from flames_cli.stages.preprocess.decoding import in_8_bits, square
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.models import ModelInput


@dataclass(frozen=True, slots=True)
class ModelPreparation:
    """Rules by which a model's images are prepared; models of one ensemble may share them."""

    size: int
    channels: int
    plane: str
    mask_resize: MaskResize
    intensities: IntensityRule | None
    """None: the model has none or several, so only images of 8 bits can be prepared."""

    def read_options(self, labels: tuple[str, ...] = ()) -> ReadOptions:
        """Return the options for reading; `labels` are those of true masks that are tumour."""
        return ReadOptions(
            plane=self.plane,
            colour=self.channels == 3,
            labels=labels,
            intensities=self.intensities or IntensityRule(),
        )


def preparation_of(model: ModelInput, rule: IntensityRule | None = None) -> ModelPreparation:
    """Return the preparation of a model's images; `rule` replaces its own rules of intensities."""
    own = model.intensities[0] if len(model.intensities) == 1 else None
    return ModelPreparation(model.size, model.channels, model.plane, model.mask_resize, rule or own)


@dataclass(frozen=True, slots=True)
class Squares:
    """Images of one input as a model receives them, in the precision of preprocessed files."""

    pixels: NDArray[np.integer]
    """N×S×S, or N×S×S×3; a still image has N = 1."""
    max_value: int

    def part(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return some of the images as float32 in [0, 1]."""
        return dequantise(self.pixels[start:stop], self.max_value)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One input that is ready for the models. The pixels of its file are not in memory any more."""

    image: InputImage
    sha256: str
    squares: tuple[Squares, ...]
    """Its images, for each preparation."""
    place: Placement | None
    """Position of its first slice; None for a still image."""
    shape: tuple[int, int]
    """Rows and columns of a slice, or of the image."""
    spacing_mm: tuple[float, float]
    """Distance between rows and between columns; NaN where it is unknown."""
    shown: tuple[Pixels, ...]
    """Its images in 8 bits in the geometry of the source, for pictures; empty without pictures."""
    truth: NDArray[np.uint8] | None
    """True mask in that geometry, N×H×W; None if none was given."""
    notes: tuple[str, ...]
    """Remarks about its files."""
    seconds: float
    truth_sha256: str = ""
    """Checksum of its true masks (see `InputHashes`)."""

    @property
    def n(self) -> int:
        """Number of its images."""
        return len(self.squares[0].pixels)

    @property
    def is_volume(self) -> bool:
        """True for slices of a volume."""
        return self.place is not None

    @property
    def voxel_mm(self) -> tuple[float, ...]:
        """Length of a voxel from slice to slice, of a row and of a column; of a pixel for a still image."""
        return (self.place.slice_distance_mm, *self.spacing_mm) if self.place else self.spacing_mm


def prepare(
    image: InputImage,
    digest: str,
    hows: Sequence[ModelPreparation],
    with_pictures: bool,
    truth: TruthSource | None = None,
) -> Prepared:
    """Read one input and prepare it for all models.

    Args:
        image: the input.
        digest: its checksum (see `InputHashes`).
        hows: the preparations; those that differ in the size only share one reading of the file.
        with_pictures: True to keep its images in 8 bits.
        truth: where its true mask is; None: nowhere.

    Raises:
        BadCase: the image or its true mask cannot be used.
    """
    start, squares = time.perf_counter(), []
    wanted = truth.of(image) if truth else None
    labels = truth.labels if truth else ()
    last: ReadOptions | None = None
    for how in hows:
        options = how.read_options(labels)
        if options != last:
            cases, last = read_input(wanted or image, options, with_masks=wanted is not None), options
        squares.append(prepare_squares(cases, how))
    first = cases[0]
    return Prepared(
        image=image,
        sha256=digest,
        squares=tuple(squares),
        place=first.place,
        shape=first.mask.shape,
        spacing_mm=first.spacing_mm,
        shown=tuple(in_8_bits(case).copy() for case in cases) if with_pictures else (),
        truth=np.stack([case.mask for case in cases]) if wanted else None,
        notes=first.notes,
        seconds=time.perf_counter() - start,
    )


class InputHashes:
    """SHA-256 of inputs and of their true masks; a file that several inputs share, such as a clip, is hashed
    once."""

    def __init__(self) -> None:
        self._shared: dict[Path, str] = {}
        self._lock = Lock()

    def of_image(self, image: InputImage) -> str:
        """Return that of an input's bytes: of its file, or of the checksums of its files in order."""
        if image.source.frame:
            return _joined([self._of_shared(image.files[0]), str(image.source.frame)])
        if len(image.files) == 1:
            return hash_file(image.files[0])
        return _joined([hash_file(path) for path in image.files])

    def of_truth(self, image: InputImage | None) -> str:
        """Return that of the true masks of an input and of their labels; empty for None.

        A missing file counts as an empty one: reading it fails later, with a reason.
        """
        if image is None:
            return ""
        files = [path for mask in image.source.masks for path in _files_in(mask)]
        return _joined([*map(self._of_shared, files), *image.source.labels])

    def _of_shared(self, path: Path) -> str:
        with self._lock:
            if path not in self._shared:
                self._shared[path] = hash_file(path) if path.is_file() else ""
            return self._shared[path]


def _files_in(mask: Path) -> list[Path]:
    return sorted(path for path in mask.iterdir() if path.is_file()) if mask.is_dir() else [mask]


def _joined(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def prepare_squares(cases: Sequence[RawCase], how: ModelPreparation) -> Squares:
    """Return the images of one input as a model receives them.

    Raises:
        BadCase: the images need a rule of intensities, and the model has none or several.
    """
    first = cases[0]
    if first.max_value != MAX_8_BIT and how.intensities is None:
        raise BadCase(
            "its intensities have no fixed range, and the model states no rule, or several, for them; pass "
            "--window LOW,HIGH or --percentile"
        )
    images = [square(case, how.size, how.mask_resize)[0] for case in cases]
    pixels = np.stack(images)
    if how.channels == 3 and pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    return Squares(pixels, first.max_value)
