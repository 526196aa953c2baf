"""Packages that are installed as far as their metadata say, without any code."""

from collections.abc import Mapping
from pathlib import Path


def install_metadata(
    folder: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]] | None = None
) -> Path:
    """Write the metadata of a package into `folder`, which belongs on the search path; return its folder.

    `entry_points` is {group: {name: reference}}; None: one model.
    """
    groups = {"flames.models": {"a-model": "nowhere:Model"}} if entry_points is None else entry_points
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return info
