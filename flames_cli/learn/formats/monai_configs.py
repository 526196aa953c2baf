"""Configuration of a MONAI bundle: the steps of inference, as MONAI's own transforms, and the metadata."""

from importlib import metadata
from typing import Any

from flames_cli import __version__
from flames_cli.core.imaging.intensity import MAX_8_BIT
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.learn.formats.describing import describe_preparation
from flames_cli.store.models import ModelInfo

AXES = {"axial": "PRS", "coronal": "IRA", "sagittal": "IAR"}
"""Axis codes of rows, columns and slices in each plane, as `core.imaging.volumes` turns a volume."""

LABELS = [["L", "R"], ["P", "A"], ["I", "S"]]
"""Names of the directions; MONAI warns if they are left out."""

SLICES = 16
"""Number of slices in one batch of a volume."""

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
MODALITIES = {"MRI": "MR"}
"""Names of modalities in MONAI's metadata, where they differ from ours."""

PROGRAM = "models/model.pt2"
"""The network, in the bundle's folder."""

Config = dict[str, Any]


def inference_config(info: ModelInfo) -> Config:
    """Return configs/inference.json: masks of volumes in NIfTI, with the geometry of their files."""
    return {
        "imports": [
            "$import glob",
            "$import os",
            "$import numpy as np",
            "$import torch",
            "$from torch.export.passes import move_to_device_pass",
        ],
        "bundle_root": ".",
        "dataset_dir": "$os.path.join(@bundle_root, 'data')",
        "output_dir": "$os.path.join(@bundle_root, 'eval')",
        "images": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii')) "
        "+ glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "threshold": info.threshold,
        "network_def": "$torch.export.unflatten(move_to_device_pass("
        f"torch.export.load(os.path.join(@bundle_root, '{PROGRAM}')), @device))",
        "preprocessing": _compose(
            _step("LoadImaged", ensure_channel_first=True),
            _step("Lambdad", func="$lambda image: image[:1]"),
            _step("Orientationd", axcodes=AXES[info.input.plane], labels=LABELS),
            _step("Lambdad", func=_scaling(info)),
        ),
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': image} for image in @images]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": "SliceInferer",
            "roi_size": [-1, -1],
            "sw_batch_size": SLICES,
            "spatial_dim": 2,
        },
        "postprocessing": _compose(
            _inversion(),
            _step("Lambdad", keys="pred", func="$lambda mask, above=@threshold: (mask > above).byte()"),
            _saving(output_ext=".nii.gz"),
        ),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


def stills_config(info: ModelInfo) -> Config:
    """Return configs/stills.json, which is read after inference.json: masks of still images of 8 bits."""
    mode = "L" if info.input.channels == 1 else "RGB"
    patterns = " + ".join(
        f"glob.glob(os.path.join(@dataset_dir, '*.{suffix}'))" for suffix in ("png", "jpg", "jpeg", "bmp")
    )
    return {
        "images": f"$sorted({patterns})",
        # The network rounds prepared images as FLAMES does: stills to 8 bits, volumes to 12.
        "initialize": [f"$@network_def.levels.fill_({MAX_8_BIT})"],
        "preprocessing": _compose(
            _step(
                "LoadImaged",
                reader="PILReader",
                converter=f"$lambda image: image.convert('{mode}')",
                ensure_channel_first=True,
            ),
            # Pillow's reader gives columns first.
            _step("Transposed", indices=[0, 2, 1]),
            _step("Lambdad", func="$lambda image: image / 255"),
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": _compose(
            _inversion(),
            _step("Lambdad", keys="pred", func="$lambda mask, above=@threshold: 255 * (mask > above).byte()"),
            _saving(output_ext=".png"),
        ),
    }


def metadata_config(info: ModelInfo) -> Config:
    """Return configs/metadata.json, by the specification of MONAI's bundles."""
    given = info.input
    organs = ", ".join(given.organs)
    what = f"tumours in {given.modality} images{f' of {organs}' if organs else ''}"
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by FLAMES {__version__}"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "optional_packages_version": _optional_versions(),
        "name": info.name,
        "task": f"segmentation of {what}",
        "description": f"A {info.architecture.model} that segments {what}, slice by slice. "
        + describe_preparation(info),
        "authors": "the users of FLAMES who trained it; see docs/README.md",
        "copyright": info.licence or "not stated",
        "intended_use": "research; not for diagnosis",
        "network_data_format": {
            "inputs": {"image": _tensor(info, "magnitude", given.channels, _channels(info))},
            "outputs": {"pred": _tensor(info, "segmentation", 1, {"0": "probability of tumour"})},
        },
        "flames": {"threshold": info.threshold, "size": given.size, "weights_sha256": info.sha256},
    }


def find_rule(info: ModelInfo) -> IntensityRule:
    """Return the rule by which a bundle scales volumes: the first one of the model's training images; if none
    is known, the default of FLAMES, which the README of the bundle says."""
    return info.input.intensities[0] if info.input.intensities else IntensityRule()


def _scaling(info: ModelInfo) -> str:
    """Return the expression that scales a volume to [0, 1]."""
    rule = find_rule(info)
    if rule.window:
        low, high = rule.window
        return f"$lambda image: ((image - {low!r}) / {high - low!r}).clip(0, 1)"
    voxels = "image.numpy()" if rule.percentile_of == "all" else "image.numpy()[image.numpy() > 0]"
    return f"$lambda image: (image / float(np.percentile({voxels}, {rule.percentile!r}))).clip(0, 1)"


def _optional_versions() -> dict[str, str]:
    """Return the oldest versions of the packages that the runner needs with these transforms."""
    return {"fire": "0.5.0", "nibabel": "5.2.0", "pillow": "10.3.0", "pytorch-ignite": "0.4.11"}


def _channels(info: ModelInfo) -> dict[str, str]:
    if info.input.channels == 1:
        return {"0": "intensity"}
    return {"0": "red", "1": "green", "2": "blue"}


def _tensor(info: ModelInfo, kind: str, channels: int, definition: dict[str, str]) -> Config:
    return {
        "type": "image" if kind == "magnitude" else "probabilities",
        "format": kind,
        "modality": MODALITIES.get(info.input.modality, info.input.modality),
        "num_channels": channels,
        "spatial_shape": ["*", "*"],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": definition,
    }


def _compose(*steps: Config) -> Config:
    return {"_target_": "Compose", "transforms": list(steps)}


def _step(target: str, keys: str = "image", **options: Any) -> Config:
    return {"_target_": target, "keys": keys, **options}


def _inversion() -> Config:
    """Return the step that brings a map back to the axes of its file, with linear values unchanged."""
    return _step("Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=False)


def _saving(**options: Any) -> Config:
    return _step(
        "SaveImaged",
        keys="pred",
        output_dir="@output_dir",
        output_postfix="mask",
        output_dtype="$np.uint8",
        separate_folder=False,
        resample=False,
        **options,
    )
