"""Tasks of the Medical Segmentation Decathlon: brain MRI (FLAIR); CT of liver, lung and pancreas in HU.

Task01_BrainTumour is BraTS of 2016 and 2017; Task03_Liver is LiTS in the layout of the Decathlon.
"""

from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import numpy as np

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source, VolumeRules
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import read_slices, require_same_grid

LICENCE = "CC BY-SA 4.0 (medicaldecathlon.com)"


@dataclass(frozen=True, slots=True)
class Task:
    """Contents of a task's files, and the rules of its volumes."""

    rules: VolumeRules
    labels: tuple[int, ...]
    """Labels that a label volume may contain."""
    tumour: tuple[int, ...]
    """Labels that mark tumour; all others are background."""
    channel: int = 0
    """Channel of a 4D image that is read."""


def list_sources(root: Path) -> list[Source]:
    """Return every labelled volume, liver_2 before liver_10.

    Files whose names start with a dot are ignored: macOS leaves them next to the real ones.
    """
    images, labels = _volumes(root / "imagesTr"), _volumes(root / "labelsTr")
    return [
        Source(
            name=name,
            patient=name,
            image=images.get(name, root / "imagesTr" / f"{name}.nii.gz"),
            masks=(labels.get(name, root / "labelsTr" / f"{name}.nii.gz"),),
        )
        for name in sorted(images | labels, key=lambda name: (len(name), name))
    ]


def _volumes(folder: Path) -> dict[str, Path]:
    files = [path for pattern in ("*.nii", "*.nii.gz") for path in folder.glob(pattern)]
    return {path.name.split(".nii")[0]: path for path in files if not path.name.startswith(".")}


def read_source(task: Task, source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the slices of one volume.

    Raises:
        BadCase: image or labels cannot be trusted.
        SkippedCase: there is no tumour, and such volumes are not kept.
    """
    image = read_volume(source.image, task.channel)
    mask = read_labels(source.masks[0], frozenset(task.labels))
    require_same_grid(source, image, mask)
    tumour = reduce(np.logical_or, (mask.voxels == label for label in task.tumour))
    return read_slices(source, image, tumour, options, task.rules)


# The Decathlon uses labels 0..3, BraTS itself 0..4 (there 4 is enhancing tumour); all above 0 are tumour.
# Channel 0 is FLAIR. Slices as in the authors' code.
_BRATS = Task(VolumeRules("MRI", slices="near"), labels=(0, 1, 2, 3, 4), tumour=(1, 2, 3, 4), channel=0)
BRATS = Reader(
    name="brats",
    modality="MRI",
    organ="brain",
    licence=LICENCE,
    folder="Task01_BrainTumour",
    layout="imagesTr/BRATS_001.nii.gz with labelsTr/BRATS_001.nii.gz",
    list_sources=list_sources,
    read_source=partial(read_source, _BRATS),
    complete=484,
    server_test=230,
    volume_rules=_BRATS.rules,
)

# Labels: background, liver, tumour. Window in HU and rule for small lesions as FedGS has them for LiTS.
_LIVER = Task(VolumeRules("CT", window=(-200.0, 200.0)), labels=(0, 1, 2), tumour=(2,))
LIVER = Reader(
    name="msd-liver",
    modality="CT",
    organ="liver",
    licence=LICENCE,
    folder="Task03_Liver",
    layout="imagesTr/liver_0.nii.gz with labelsTr/liver_0.nii.gz",
    list_sources=list_sources,
    read_source=partial(read_source, _LIVER),
    complete=131,
    volume_rules=_LIVER.rules,
    small_lesion_rule=SmallLesionRule("area", 1000.0, 1000.0),
)

# Labels: background, tumour (non-small-cell cancer). Window in HU from air to bone, as is usual for chest CT
# (Zuidhof's tutorial, Data Science Bowl 2017).
_LUNG = Task(VolumeRules("CT", window=(-1000.0, 400.0)), labels=(0, 1), tumour=(1,))
LUNG = Reader(
    name="msd-lung",
    modality="CT",
    organ="lung",
    licence=LICENCE,
    folder="Task06_Lung",
    layout="imagesTr/lung_001.nii.gz with labelsTr/lung_001.nii.gz",
    list_sources=list_sources,
    read_source=partial(read_source, _LUNG),
    complete=63,
    volume_rules=_LUNG.rules,
)

# Labels: background, pancreas, mass (cyst or tumour). Window in HU as in work on the pancreas (Zhou et al.
# 2017, arXiv:1612.08230).
_PANCREAS = Task(VolumeRules("CT", window=(-100.0, 240.0)), labels=(0, 1, 2), tumour=(2,))
PANCREAS = Reader(
    name="msd-pancreas",
    modality="CT",
    organ="pancreas",
    licence=LICENCE,
    folder="Task07_Pancreas",
    layout="imagesTr/pancreas_001.nii.gz with labelsTr/pancreas_001.nii.gz",
    list_sources=list_sources,
    read_source=partial(read_source, _PANCREAS),
    complete=281,
    volume_rules=_PANCREAS.rules,
)
