import hashlib
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions
from flames_cli.stages.one_pass import Reading
from flames_cli.stages.source_cache import decode_sources
from tests.support.phantoms import PHANTOMS
from tests.support.raw_cases import iter_raw_cases

PATIENTS = 12
CT = ("msd-liver", "msd-lung", "msd-pancreas", "lits", "kits23")
NAMES = (*CT, "brats2020", "brats2021")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    return {name: PHANTOMS[name](root / name, PATIENTS, 3) for name in NAMES}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*.nii*") if not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def axes(path: Path) -> str:
    return "".join(nib.aff2axcodes(nib.load(path).affine))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_however_many_are_drawn(name, drawn, tmp_path):
    # Six reach past the misnamed patient.
    few, many = digests(PHANTOMS[name](tmp_path, 6, 3)), digests(drawn[name])
    assert few.items() < many.items()


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_patients(name, drawn, tmp_path):
    other, first = digests(PHANTOMS[name](tmp_path, 1, 4)), digests(drawn[name])
    assert all(other[key] != first[key] for key in other)


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_named_as_the_download(name, drawn):
    assert drawn[name].name == READERS[name].folder


@pytest.mark.parametrize("name", NAMES)
def test_most_patients_are_kept_at_a_small_size(name, drawn):
    sources = READERS[name].list_sources(drawn[name])
    decoded = list(decode_sources(Reading(READERS[name], ReadOptions(), 32, "aligned"), sources, None, 1))
    assert len(decoded) == PATIENTS
    assert not [one.bad for one in decoded if one.bad]
    kept = Counter(one.source.site for one in decoded if one.cases)
    assert kept.total() >= 8
    assert len(kept) == (5 if name == "lits" else 1)


@pytest.mark.parametrize("name", CT)
def test_a_window_shows_the_tumour_apart_from_its_organ(name, drawn):
    for case in iter_raw_cases(READERS[name], drawn[name]):
        inside = case.image[case.mask > 0]
        assert case.low < np.median(inside) < case.high
        assert np.median(np.abs(np.median(inside) - case.image[case.mask == 0])) > 2.0


def test_the_layouts_store_their_axes_as_the_real_ones_do(drawn):
    images = drawn["msd-liver"] / "imagesTr"
    assert {axes(path) for path in images.glob("liver*")} == {"RAS", "LPS"}
    assert {axes(path) for path in drawn["kits23"].glob("*/imaging.nii.gz")} == {"IPL"}
    assert {axes(path) for path in drawn["brats2020"].glob("*/BraTS20*_flair.nii")} == {"LPS"}


def test_some_of_lits_segmentations_have_a_header_of_no_meaning(drawn):
    volumes = sorted(drawn["lits"].glob("*/volume-*.nii"))
    pairs = Counter(
        (axes(path), axes(path.with_name(path.name.replace("volume", "segmentation")))) for path in volumes
    )
    assert pairs == {("RAS", "RAS"): 4, ("LPS", "LPS"): 4, ("LAS", "RAS"): 4}


def test_one_segmentation_of_brats_2020_is_misnamed(drawn):
    folder = drawn["brats2020"] / "BraTS20_Training_005"
    assert (folder / "W39_1998.09.19_Segm.nii").exists()
    assert not (folder / "BraTS20_Training_005_seg.nii").exists()


def test_labels_are_those_of_each_data_set(drawn):
    found = {
        "msd-liver": "labelsTr/liver*.nii.gz",
        "msd-lung": "labelsTr/lung*.nii.gz",
        "kits23": "*/segmentation.nii.gz",
        "brats2021": "*/*_seg.nii.gz",
    }
    labels = {
        name: set().union(*(np.unique(nib.load(path).dataobj).tolist() for path in drawn[name].glob(pattern)))
        for name, pattern in found.items()
    }
    assert labels == {
        "msd-liver": {0, 1, 2},
        "msd-lung": {0, 1},
        "kits23": {0, 1, 2, 3},
        "brats2021": {0, 1, 2, 4},
    }
