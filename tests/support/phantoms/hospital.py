"""A hospital's own folder with its manifest: head CT and MRI of the same patients, from two sites."""

import csv
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from flames_cli.arrays import Floats, Mask, Pixels
from flames_cli.core.rng import derive_rng
from flames_cli.demo_data.brain import FIELD_MM, draw_brain
from flames_cli.demo_data.layouts import APPLE_DOUBLE, lesion_area
from flames_cli.errors import FlamesError
from tests.support.phantoms.dicom import write_segmentation, write_series

SITES = ("Klinik Süd", "Hôpital Nord")
SHAPE = (36, 36, 6)
AIR_HU, FIRST_HU, SPAN_HU = -1000, -20, 110
MRI_UNITS = 700.0
COLUMNS = ("image", "mask", "patient_id", "modality", "organ", "site")

Entry = tuple[str, ...]


def draw_manifest(root: Path, patients: int, seed: int) -> Path:
    """Draw `Eigene Daten/` under `root`: `manifest.csv`, and a folder for each site and patient.

    Every patient has a CT as a DICOM series, whose mask is NIfTI or (in every fifth patient) DICOM-SEG. All
    but every fourth patient also have an MRI, as NIfTI. Returns the folder; files of the same name are
    replaced. Raises FlamesError for fewer than 1 patient.
    """
    if patients < 1:
        raise FlamesError(f"phantoms: patients is {patients}, expected at least 1; ask for more.")
    folder = root / "Eigene Daten"
    entries = [entry for index in range(patients) for entry in _draw_patient(folder, seed, index)]
    with (folder / "manifest.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *entries])
    return folder


def _draw_patient(folder: Path, seed: int, index: int) -> list[Entry]:
    rng = derive_rng(seed, "phantom", "manifest", index)
    brain = draw_brain(rng, SHAPE, lesion_area(seed, "brats", index))
    mask = (brain.labels > 0).astype(np.uint8)
    site, patient = SITES[index % 2], f"P{index + 1:03d}"
    home = folder / site / f"Patient {index + 1}"
    drawn = [(*_write_ct(home, patient, brain.t1, mask, segmented=index % 5 == 2), "CT", "brain")]
    if index % 4 != 3:
        drawn.append((*_write_mri(home, brain.flair, mask), "mr", "Brain"))
    return [
        (
            image.relative_to(folder).as_posix(),
            label.relative_to(folder).as_posix(),
            patient,
            modality,
            organ,
            site,
        )
        for image, label, modality, organ in drawn
    ]


def _write_ct(home: Path, patient: str, t1: Floats, mask: Mask, segmented: bool) -> tuple[Path, Path]:
    """Write a series in DICOM's own LPS, and its NIfTI mask in LAS, as converters do."""
    hounsfield = np.where(t1 > 0, FIRST_HU + SPAN_HU * t1, AIR_HU).round().astype(np.int16)
    series = home / "CT Schädel"
    slices = write_series(series, hounsfield[::-1, ::-1], _affine("LPS"), "CT", patient, intercept=-1024)
    (series / "._IM0001.dcm").write_bytes(APPLE_DOUBLE)
    if segmented:
        write_segmentation(home / "CT Tumor.dcm", slices, mask[::-1, ::-1])
        return series, home / "CT Tumor.dcm"
    _write_nifti(home / "CT Tumor.nii.gz", mask[::-1], "LAS")
    return series, home / "CT Tumor.nii.gz"


def _write_mri(home: Path, flair: Floats, mask: Mask) -> tuple[Path, Path]:
    image, label = home / "MR größer FLAIR.nii.gz", home / "MR Tumor.nii.gz"
    _write_nifti(image, np.round(flair * MRI_UNITS).astype(np.int16), "RAS")
    _write_nifti(label, mask, "RAS")
    return image, label


def _affine(axes: str) -> Floats:
    """Return the affine of a volume of FIELD_MM around the origin with the axis codes `axes`."""
    signs = np.array([1.0 if code in "RAS" else -1.0 for code in axes])
    spacing = signs * np.divide(FIELD_MM, SHAPE)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(SHAPE) - 1) / 2
    return affine


def _write_nifti(path: Path, volume: Pixels, axes: str) -> None:
    image = nib.Nifti1Image(volume, _affine(axes))
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
