"""Files that a source is read from."""

import os
import stat
from collections.abc import Iterator

from flames_cli.readers.base import Source


def files_of(source: Source) -> list[tuple[str, os.stat_result]]:
    """Return the path and the state of each file of which the cases of `source` are made: images, masks, and
    all visible files of a folder with a DICOM series, in order.

    Raises:
        OSError: a file or folder does not exist or cannot be read.
    """
    named = dict.fromkeys(map(str, (source.image, *source.files, *source.masks)))
    return [file for path in named for file in _files_at(path)]


def _files_at(path: str) -> Iterator[tuple[str, os.stat_result]]:
    state = os.stat(path)  # noqa: PTH116 (Path.stat takes twice the time, which counts for 100,000 files)
    if not stat.S_ISDIR(state.st_mode):
        yield path, state
        return
    with os.scandir(path) as found:
        shown = [one for one in found if not one.name.startswith(".")]
    for one in sorted(shown, key=lambda one: one.name):
        if stat.S_ISREG((own := one.stat()).st_mode):
            yield one.path, own
