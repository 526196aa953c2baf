"""Small model folders, and zip files of them with any change."""

import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, TrainedOn, Training, write_model

OPTIONS = {"base_channels": 2, "depth": 1, "in_channels": 1}

INFO = ModelInfo(
    name="tiny",
    architecture=Architecture("unet", "batch", {**OPTIONS}),
    input=ModelInput("MRI", ("brain",), 32, intensities=(IntensityRule(),)),
    training=Training(
        "client", "flames", "a", "flames", 2, 3, "as requested", 0, (TrainedOn("a", "MRI", "brain", 3, 9),)
    ),
    validation={"dice": 0.5, "images": 9.0, "patients": 3.0},
    versions={"flames": "0.1.0"},
)


def tiny_weights() -> dict[str, Any]:
    """Return the initial weights of the model that INFO describes."""
    return to_weights(build_model("unet", seed=0, **OPTIONS))


def make_folder(
    folder: Path, weights: dict[str, Any] | None = None, card: str = "# tiny\n", **changes: Any
) -> Path:
    """Write the folder of a tiny model."""
    write_model(folder, replace(INFO, **changes), tiny_weights() if weights is None else weights, card)
    return folder


def make_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip file with these entries."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zip_entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    """Return an entry with the kind and rights of a file of Unix."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def files_of(folder: Path, prefix: str = "") -> dict[str, bytes]:
    """Return the content of the files of a folder, by name."""
    return {f"{prefix}{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
