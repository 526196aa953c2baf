"""Files of a checkpoint: weights in safetensors files with safe names, and their checksums."""

import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.federated.final_statistics import FinalStatistics
from flames_cli.core.federated.reports import OpenedSum
from flames_cli.core.federated.shelf import ClientModels
from flames_cli.store.files.names import safe_name
from flames_cli.store.spool import StoredModel
from flames_cli.store.weights import write_new_file, write_safetensors


@dataclass(frozen=True, slots=True)
class Saved:
    """A file of the last checkpoint, and the arrays that it contains."""

    path: Path
    sha256: str
    arrays: dict[str, "weakref.ref[NDArray[Any]]"]

    def contains(self, weights: Weights) -> bool:
        """Return whether the file has exactly these arrays: the same objects, which nobody changes."""
        names = list(weights) == list(self.arrays)
        return names and all(self.arrays[name]() is array for name, array in weights.items())


class LastFiles:
    """The files of the last checkpoint. A later one links to those whose arrays are still the same.

    A link is a second name of a file. Therefore no file of a checkpoint is ever changed in place.
    """

    def __init__(self) -> None:
        self._files: dict[str, Saved] = {}

    def find(self, file: str, weights: Weights) -> Saved | None:
        """Return the earlier file of that name if it has the same arrays; else None."""
        saved = self._files.get(file)
        return saved if saved and saved.contains(weights) else None

    def replace(self, files: Mapping[str, Saved]) -> None:
        """Forget the earlier files."""
        self._files = dict(files)


class FileWriter:
    """Writer of weights to files with safe names; it collects their checksums."""

    def __init__(self, folder: Path, is_new: bool, last: LastFiles | None = None) -> None:
        """Prepare to write to `folder`; `is_new`: no reader sees it yet."""
        self._folder = folder
        self._is_new = is_new
        self._last = last or LastFiles()
        self.sha256: dict[str, str] = {}
        self.saved: dict[str, Saved] = {}

    def personal(self, models: Mapping[str, Weights], prefix: str = "client") -> dict[str, str]:
        """Write the clients' models, one at a time, or link to the files in which they are stored already."""
        stored = ClientModels.of(models)
        files = {}
        for name in stored:
            load, file = stored.load_of(name), f"{prefix}-{safe_name(name)}.safetensors"
            is_stored = isinstance(load, StoredModel) and self._link(load.path, file, load.sha256)
            files[name] = file if is_stored else self._write(file.removesuffix(".safetensors"), load())
        return files

    def by_name(self, prefix: str, models: Mapping[str, Weights]) -> dict[str, str]:
        """Write models, and return the file of each."""
        return {name: self._write(f"{prefix}-{safe_name(name)}", weights) for name, weights in models.items()}

    def by_kind(self, prefix: str, states: Mapping[str, Mapping[str, Weights]]) -> dict[str, dict[str, str]]:
        """Write the weights of each owner by kind, and return their files."""
        # A safe name contains no +, so no two of these names can be the same.
        return {
            owner: {
                kind: self._write(f"{prefix}-{safe_name(owner)}+{safe_name(kind)}", weights)
                for kind, weights in kinds.items()
            }
            for owner, kinds in states.items()
        }

    def statistics(self, found: FinalStatistics | None) -> dict[str, dict[str, str]] | None:
        """Write the statistics of the final models, and return their files; None if there are none."""
        if found is None:
            return None
        return {
            "clients": self.by_name("statistics-client", found.clients),
            "groups": self.by_name("statistics-server", found.groups),
            "modalities": self.by_name("statistics-modality", found.modalities),
        }

    def sums(self, sums: Sequence[OpenedSum]) -> list[dict[str, Any]]:
        """Write the words of opened sums, and return their entries."""
        return [
            {
                "group": one.group,
                "round": one.round,
                "clients": list(one.clients),
                "session": one.session,
                "total": one.total,
                "preferences": list(one.preferences),
                "file": self._write(f"sum-{safe_name(one.group)}+{one.round}", one.words),
            }
            for one in sums
        ]

    def _write(self, stem: str, weights: Weights) -> str:
        file = f"{stem}.safetensors"
        if (same := self._last.find(file, weights)) and self._link(same.path, file, same.sha256):
            self.saved[file] = same
            return file
        write = write_new_file if self._is_new else write_safetensors
        self.sha256[file] = write(self._folder / file, weights)
        with suppress(TypeError):  # numpy's scalars, which are no arrays, cannot be referred to in this way
            arrays = {name: weakref.ref(array) for name, array in weights.items()}
            self.saved[file] = Saved(self._folder / file, self.sha256[file], arrays)
        return file

    def _link(self, source: Path, file: str, sha256: str | None) -> bool:
        """Give a file that is on the disk already a second name; return False if the disk cannot do that, or
        if the file is not complete, so that it has no checksum."""
        if sha256 is None:
            return False
        try:
            (self._folder / file).hardlink_to(source)
        except (OSError, NotImplementedError):
            return False
        self.sha256[file] = sha256
        return True
