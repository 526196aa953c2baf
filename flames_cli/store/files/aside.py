"""Results that are replaced: the old folder is kept under another name, because it took time to make."""

import shutil
from itertools import count
from pathlib import Path

from flames_cli.store.files.atomic import raising_not_written


def set_aside(path: Path) -> Path | None:
    """Rename the file or folder `path` to the first free name `NAME-old-1`, `NAME-old-2`, …; a suffix of a
    file stays at the end, also one of two parts such as .nii.gz.

    Returns:
        The new path; None if `path` does not exist.

    Raises:
        NotWritten: it cannot be renamed.
    """
    if not path.exists():
        return None
    parts = () if path.is_dir() else path.suffixes[-2 if path.suffix == ".gz" else -1 :]
    suffix = "".join(parts)
    stem = path.name.removesuffix(suffix)
    names = (path.with_name(f"{stem}-old-{number}{suffix}") for number in count(1))
    target = next(name for name in names if not name.exists())
    with raising_not_written(target):
        path.rename(target)
    return target


def keep_others(earlier: Path, new: Path) -> None:
    """Copy to the folder `new` the files of an earlier result that it does not have."""
    for path in earlier.iterdir() if earlier.is_dir() else ():
        if not (new / path.name).exists():
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, new / path.name)
