"""Cases in HDF5: one group per set and one chunk per case, so sets can be copied without decoding."""

import json
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from types import TracebackType
from typing import Any, Self, cast, get_args

import h5py
import numpy as np
from isal import isal_zlib

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.intensity import PercentileOf
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.lesions import LesionSize
from flames_cli.core.imaging.preparation import Empty, Plane
from flames_cli.core.imaging.small_lesion_rule import (
    DEFAULT_RULE,
    Lesion,
    SmallLesionRule,
    parse_small_lesion_rule,
)
from flames_cli.core.imaging.volumes import PLANES, Placement, are_axes
from flames_cli.core.patient_units import NOUNS
from flames_cli.store.files.atomic import raising_not_written, write_all
from flames_cli.store.files.parse import parse_json

LEVEL = 1
"""Compression level of ISA-L's deflate. Its highest level saves 0.2 % of disk on ultrasound and takes twice
the time."""

_IDENTITY = {
    "case": "case",
    "patient": "patient",
    "group": "split_unit",
    "stratum": "stratum",
    "site": "site",
}
"""Field of `CaseInfo` by column of the file. The split unit is called `group` in the file."""

_LESIONS = ("lesion_px", "n_lesions", "smallest_px", "smallest_box_px")


NO_PLACE = Placement("", -1, (0, 0, 0), "", (0.0,) * 16)
"""Placeholder in the file for a still image among slices."""


@dataclass(frozen=True, slots=True)
class CaseInfo:
    """Information about a case besides its pixels; every file names patients by their pseudonyms."""

    case: str
    patient: str
    split_unit: str
    """The patient, or the first of several patients whose images are near copies: no split divides it."""
    stratum: str
    slice_index: int
    spacing_mm: tuple[float, float]
    lesion_px: int
    site: str = ""
    """The centre that the case comes from; empty if the data set does not name it."""
    raw_shape: tuple[int, int] = (0, 0)
    """Rows and columns before the case was made square."""
    place: Placement | None = None
    """Position of the slice in its volume; None for still images."""
    n_lesions: int = 0
    """Number of connected parts of the stored mask; these four numbers are those of
    `core.imaging.lesions.LesionSize`."""
    smallest_px: int = 0
    smallest_box_px: int = 0
    selected: bool = True
    """False for a slice that only completes its volume: no model is trained, validated or chosen on it."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Values of the columns of the manifest that the user kept, by column."""

    @property
    def volume(self) -> str:
        """Name of its volume, unique within the data set; empty for still images."""
        return self.case.rpartition("/")[0] if self.place else ""

    @property
    def lesions(self) -> LesionSize:
        """Size of its lesions, at the stored image size."""
        return LesionSize(self.lesion_px, self.n_lesions, self.smallest_px, self.smallest_box_px)


@dataclass(frozen=True, slots=True)
class SetInfo:
    """Properties that all cases of a set share."""

    dataset: str
    modality: str
    organ: str
    size: int
    max_value: int
    channels: int = 1
    """1 for grey, or 3 for red, green, blue."""
    collection: str = ""
    """Name that data sets with common patients share (the modalities of one manifest); empty: the data set's
    own."""
    small: SmallLesionRule = DEFAULT_RULE
    """Rule that decides which of its images have small lesions."""
    patient_unit: str = "patient"
    """Unit that counts as a patient: `patient`, `sequence`, or `image` where patients are unknown."""
    mask_resize: str = "paper"
    """Method by which masks were resized (`core.imaging.geometry`): `aligned` or `paper`."""
    intensities: IntensityRule | None = None
    """Rule that made the intensities of its volumes and of its images of more than 8 bits 0..1; None: the
    file is of an earlier release."""
    empty: Empty | None = None
    """Rule for images without a lesion: skip or keep; None: the file is of an earlier release."""

    def judge(self, case: CaseInfo) -> Lesion:
        """Return whether the lesions of `case` are small, large, or none."""
        return self.small.judge(self.size * self.size, case.lesions)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """Shape of one image: H×W, or H×W×3."""
        return (self.size, self.size) if self.channels == 1 else (self.size, self.size, self.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored images."""
        return np.dtype(np.uint8 if self.max_value <= 255 else np.uint16)


@dataclass(frozen=True, slots=True)
class CaseSet:
    """Set of N cases in memory: images N×H×W (N×H×W×3 in colour) in their stored precision, masks N×H×W of 0
    and 1."""

    info: SetInfo
    cases: list[CaseInfo]
    images: Pixels
    masks: Mask

    def __len__(self) -> int:
        return len(self.cases)


def encode_chunk(pixels: Pixels) -> bytes:
    """Return the bytes that HDF5's shuffle and deflate filters would make of one chunk: H×W or H×W×3."""
    flat = np.ascontiguousarray(pixels)
    if flat.itemsize > 1:
        flat = np.ascontiguousarray(flat.view(np.uint8).reshape(-1, flat.itemsize).T)
    return isal_zlib.compress(flat.data, LEVEL)


class Spool:
    """Encoded cases on disk, between decoding and the split, so that memory does not grow with the set.

    The file has no name. It is in `folder` or in the nearest existing folder above it: this is the disk of
    the result, whose folder is made only at the end. None: the system's temporary folder, which is often in
    memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        above = [folder.absolute(), *folder.absolute().parents] if folder else []
        nearest = next((one for one in above if one.is_dir()), None)
        self._folder = nearest or Path(gettempdir())
        with raising_not_written(self._folder):
            self._file = TemporaryFile(dir=nearest, buffering=0)  # noqa: SIM115 (closed by __exit__)
        self._spans: list[tuple[int, int]] = []

    def add(self, chunk: bytes) -> int:
        """Store `chunk` and return the number with which `get` reads it.

        Raises:
            NotWritten: the disk is full.
        """
        return self.add_all([chunk])[0]

    def add_all(self, chunks: Sequence[bytes]) -> list[int]:
        """Store chunks in one step, like `add`, and return their numbers."""
        with raising_not_written(self._folder):
            start = self._file.seek(0, os.SEEK_END)
            write_all(self._file, chunks[0] if len(chunks) == 1 else b"".join(chunks))
        first = len(self._spans)
        for chunk in chunks:
            self._spans.append((start, len(chunk)))
            start += len(chunk)
        return list(range(first, len(self._spans)))

    def get(self, number: int) -> bytes:
        """Return the chunk for which `add` returned `number`."""
        start, length = self._spans[number]
        self._file.seek(start)
        return self._file.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write_set(
    parent: h5py.Group,
    name: str,
    info: SetInfo,
    cases: Sequence[CaseInfo],
    chunks: Iterable[tuple[bytes, bytes]],
) -> None:
    """Write group `name`: `cases` with their encoded (image, mask) chunks, in the same order."""
    group = parent.create_group(name)
    group.attrs.update(
        dataset=info.dataset,
        modality=info.modality,
        organ=info.organ,
        size=info.size,
        max_value=info.max_value,
        channels=info.channels,
        collection=info.collection,
        small=str(info.small),
        patient_unit=info.patient_unit,
        mask_resize=info.mask_resize,
        **_rule_attributes(info.intensities),
        **({"empty": info.empty} if info.empty else {}),
    )
    images = _create_chunked(group, "image", len(cases), info.pixel_shape, info.dtype)
    masks = _create_chunked(group, "mask", len(cases), (info.size, info.size), np.dtype(np.uint8))
    for index, (image, mask) in enumerate(chunks):
        images.id.write_direct_chunk((index, *(0 for _ in info.pixel_shape)), image)
        masks.id.write_direct_chunk((index, 0, 0), mask)
    _write_columns(group, cases)


def _rule_attributes(rule: IntensityRule | None) -> dict[str, Any]:
    if rule is None:
        return {}
    window = {} if rule.window is None else {"window": np.array(rule.window, np.float64)}
    return {"percentile": float(rule.percentile), "percentile_of": rule.percentile_of, **window}


def _create_chunked(
    group: h5py.Group, name: str, n: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> h5py.Dataset:
    return group.create_dataset(
        name,
        shape=(n, *shape),
        maxshape=(None, *shape),
        dtype=dtype,
        chunks=(1, *shape),
        compression="gzip",
        compression_opts=LEVEL,
        shuffle=dtype.itemsize > 1,
    )


def _write_columns(group: h5py.Group, cases: Sequence[CaseInfo]) -> None:
    for column, name in _IDENTITY.items():
        write_texts(group, column, [str(getattr(case, name)) for case in cases])
    group.create_dataset("slice", data=np.array([case.slice_index for case in cases], np.int32))
    spacing = np.array([case.spacing_mm for case in cases], np.float32).reshape(-1, 2)
    group.create_dataset("spacing_mm", data=spacing)
    for column in _LESIONS:
        group.create_dataset(column, data=np.array([getattr(case, column) for case in cases], np.int32))
    group.create_dataset("selected", data=np.array([case.selected for case in cases], np.uint8))
    if any(case.extra for case in cases):
        write_texts(group, "extra", [json.dumps(dict(case.extra), sort_keys=True) for case in cases])
    raw_shape = np.array([case.raw_shape for case in cases], np.int32).reshape(-1, 2)
    group.create_dataset("raw_shape", data=raw_shape)
    if any(case.place for case in cases):
        _write_places(group.create_group("volume"), [case.place or NO_PLACE for case in cases])


def write_texts(group: h5py.Group, column: str, texts: Sequence[str]) -> None:
    """Write a column of texts in UTF-8, with the width of the longest one."""
    encoded = [text.encode() for text in texts]
    width = max([len(text) for text in encoded], default=0) or 1
    group.create_dataset(column, data=np.array(encoded, dtype=h5py.string_dtype("utf-8", width)))


def write_masks(group: h5py.Group, size: int, chunks: Sequence[bytes]) -> None:
    """Write encoded masks (see `encode_chunk`) of `size`×`size` as the data set `mask` of `group`."""
    masks = _create_chunked(group, "mask", len(chunks), (size, size), np.dtype(np.uint8))
    for index, chunk in enumerate(chunks):
        masks.id.write_direct_chunk((index, 0, 0), chunk)


def _write_places(group: h5py.Group, places: Sequence[Placement]) -> None:
    for column, width in (("plane", 8), ("axes", 3)):
        encoded = [str(getattr(place, column)).encode() for place in places]
        group.create_dataset(column, data=np.array(encoded, dtype=h5py.string_dtype("utf-8", width)))
    group.create_dataset("shape", data=np.array([place.shape for place in places], np.int32))
    affine = np.array([place.affine for place in places], np.float64).reshape(-1, 4, 4)
    # All slices of a volume have the same affine.
    group.create_dataset("affine", data=affine, compression="gzip", compression_opts=LEVEL)


def read_set_info(group: h5py.Group) -> SetInfo:
    """Return the properties that all cases of `group` share."""
    attrs = group.attrs
    info = SetInfo(
        dataset=_text(attrs["dataset"]),
        modality=_text(attrs["modality"]),
        organ=_text(attrs["organ"]),
        size=operator.index(attrs["size"]),
        max_value=operator.index(attrs["max_value"]),
        channels=operator.index(attrs["channels"]),
        collection=_text(attrs["collection"]),
        small=parse_small_lesion_rule(_text(attrs["small"])),
        # Files of version 4 have neither; their masks were resized as in the paper.
        patient_unit=_text(attrs.get("patient_unit", "patient")),
        mask_resize=_text(attrs.get("mask_resize", "paper")),
        intensities=_read_rule(attrs),
        empty=_read_empty(attrs),
    )
    _check_pixels(group, info)
    if info.patient_unit not in NOUNS:
        raise ValueError(
            f"its patient_unit is {info.patient_unit[:40]!r}, expected one of {', '.join(NOUNS)}"
        )
    return info


def _read_rule(attrs: h5py.AttributeManager) -> IntensityRule | None:
    """Return the rule of the intensities; None in files of earlier releases."""
    if "percentile" not in attrs:
        return None
    percentile, of = float(attrs["percentile"]), _text(attrs["percentile_of"])
    window = [float(end) for end in attrs["window"]] if "window" in attrs else []
    if window and not (len(window) == 2 and -math.inf < window[0] < window[1] < math.inf):
        raise ValueError(f"its window is {window[:3]}, expected two numbers, the first below the second")
    if not 0 < percentile <= 100 or of not in get_args(PercentileOf):
        raise ValueError(f"its percentile is {percentile:g} of {of[:40]!r} voxels")
    return IntensityRule((window[0], window[1]) if window else None, percentile, cast(PercentileOf, of))


def _read_empty(attrs: h5py.AttributeManager) -> Empty | None:
    """Return the rule for images without a lesion; None in files of earlier releases."""
    found = _text(attrs.get("empty", ""))
    if found and found not in get_args(Empty):
        raise ValueError(f"its rule for images without a lesion is {found[:40]!r}, expected skip or keep")
    return cast(Empty, found) if found else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {type(value).__name__}, expected a text")
    return value


def _check_pixels(group: h5py.Group, info: SetInfo) -> None:
    """Check that the images have the properties in the attributes; all later code relies on it."""
    images, masks = group["image"], group["mask"]
    if info.size < 1 or info.max_value < 1 or info.channels not in (1, 3):
        raise ValueError(f"its attributes give images of size {info.size} with {info.channels} channels")
    found, expected = (images.shape[1:], images.dtype), (info.pixel_shape, info.dtype)
    if found != expected or masks.shape != (len(images), info.size, info.size) or masks.dtype != np.uint8:
        raise ValueError(f"its images are {found}, expected {expected}, and its masks {masks.shape}")


def read_cases(group: h5py.Group) -> list[CaseInfo]:
    """Return the cases of `group`, without their pixels."""
    columns: dict[str, list[Any]] = {
        **{name: read_texts(group[column]) for column, name in _IDENTITY.items()},
        "slice_index": _read_numbers(group["slice"]),
        "spacing_mm": [(float(y), float(x)) for y, x in group["spacing_mm"][...].tolist()],
        "raw_shape": [(int(rows), int(columns)) for rows, columns in group["raw_shape"][...].tolist()],
        "place": _read_places(group),
        **{column: _read_numbers(group[column]) for column in _LESIONS},
        "selected": read_selected(group),
        "extra": read_extra(group),
    }
    rows = zip(*columns.values(), strict=True)
    return [CaseInfo(**dict(zip(columns, row, strict=True))) for row in rows]


def read_selected(group: h5py.Group) -> list[bool]:
    """Return for every case of `group` whether it is selected; all are in files of versions 4 and 5."""
    if "selected" not in group:
        return [True] * int(group["slice"].shape[0])
    return [bool(value) for value in group["selected"][...].tolist()]


def read_extra(group: h5py.Group) -> list[Mapping[str, str]]:
    """Return for every case of `group` the values of the kept columns; none in files of versions 4 and 5."""
    if "extra" not in group:
        return [{}] * int(group["slice"].shape[0])
    texts = read_texts(group["extra"])
    parsed = {text: _parse_extra(text) for text in set(texts)}
    return [parsed[text] for text in texts]


def _parse_extra(text: str) -> Mapping[str, str]:
    values = parse_json(text)
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ValueError(f"its kept columns are {text[:80]!r}, expected texts by column")
    return values


def _read_numbers(dataset: h5py.Dataset) -> list[int]:
    return [int(value) for value in dataset[...].tolist()]


def read_texts(dataset: h5py.Dataset) -> list[str]:
    """Return the texts of a column."""
    return [value.decode() for value in dataset[...].tolist()]


def read_planes(group: h5py.Group) -> list[Plane]:
    """Return the planes of the slices of `group`, sorted; empty if all images are still images."""
    found = set(read_texts(group["volume"]["plane"])) if "volume" in group else set()
    return [plane for plane in get_args(Plane) if plane in found]


def _read_places(group: h5py.Group) -> list[Placement | None]:
    if "volume" not in group:
        return [None] * int(group["slice"].shape[0])
    volume = group["volume"]
    planes, axes = read_texts(volume["plane"]), read_texts(volume["axes"])
    for plane, codes in set(zip(planes, axes, strict=True)):
        if (plane or codes) and not (plane in PLANES and are_axes(codes)):
            raise ValueError(f"a slice has the plane {plane!r:.40} and the axes {codes!r:.40}")
    columns = zip(
        planes,
        group["slice"][...].tolist(),
        volume["shape"][...].tolist(),
        axes,
        volume["affine"][...].reshape(-1, 16).tolist(),
        strict=True,
    )
    return [
        Placement(plane, index, (x, y, z), axes, tuple(affine)) if plane else None
        for plane, index, (x, y, z), axes, affine in columns
    ]


def read_set(group: h5py.Group, complete: bool = False) -> CaseSet:
    """Return the selected cases of `group` in memory; with `complete`, all of its cases."""
    info, cases = read_set_info(group), read_cases(group)
    rows = [row for row, case in enumerate(cases) if complete or case.selected]
    if len(rows) == len(cases):
        return CaseSet(info, cases, group["image"][...], group["mask"][...])
    images = np.zeros((len(rows), *info.pixel_shape), info.dtype)
    masks = np.zeros((len(rows), info.size, info.size), np.uint8)
    for place, row in enumerate(rows):
        images[place], masks[place] = group["image"][row], group["mask"][row]
    return CaseSet(info, [cases[row] for row in rows], images, masks)


def read_chunks(group: h5py.Group, indices: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
    """Return the encoded (image, mask) chunks of the cases at `indices`, without decoding them."""
    for index in indices:
        _, image = group["image"].id.read_direct_chunk((index, *(0 for _ in group["image"].shape[1:])))
        _, mask = group["mask"].id.read_direct_chunk((index, 0, 0))
        yield image, mask
