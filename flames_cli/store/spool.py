"""The clients' models of a running federation, on the disk: the memory contains a few of them at a time.

Another thread writes what the run hands over, in this order, while the run goes on. A model that is not on
the disk yet stays in the memory. The folder belongs to one process and is removed at its end; models that
remain after it are in checkpoints.
"""

import itertools
import shutil
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.federated.shelf import Load, Shelf
from flames_cli.store.files.atomic import TEMPORARY, raising_not_written
from flames_cli.store.weights import map_safetensors, spill, write_new_file

FOLDER = f".spool{TEMPORARY}"
"""Name of the folder in that of a run; `remove_leftovers` deletes it after the process was killed."""

LARGEST = 192 << 20
"""Number of bytes of reports, and of models that are not written yet, that stay in the memory together: a few
models, so that a small federation does not wait for the disk."""

IDLE_SECONDS = 1.0
"""Time without work after which the other thread ends."""


_NUMBERS = itertools.count()
"""Numbers of files, which never repeat in a process: an earlier call that failed may still be in a traceback,
and its models delete their files only when the traceback is gone."""


class StoredModel:
    """A client's model in a file, or in the memory until the file is complete."""

    def __init__(self, path: Path, weights: Weights) -> None:
        self.path = path
        self.sha256: str | None = None
        """Checksum of the file; None until it is complete."""
        self._weights: Weights | None = weights
        weakref.finalize(self, _remove, path)

    def __call__(self) -> Weights:
        """Return the model."""
        weights = self._weights  # read once: the other thread may complete the file now
        return map_safetensors(self.path) if weights is None else weights

    def write(self) -> None:
        """Complete the file; the memory is free afterwards."""
        if self._weights is not None:
            with raising_not_written(self.path):
                self.sha256 = write_new_file(self.path, self._weights)
            self._weights = None


class _StoredReport:
    """A report in a file."""

    def __init__(self, path: Path, weights: Weights) -> None:
        self._path = path
        weakref.finalize(self, _remove, path)
        with raising_not_written(path):
            spill(path, weights)

    def __call__(self) -> Weights:
        return map_safetensors(self._path)


class _HeldReport:
    """A report in the memory, of which `on_end` gets the size when it is no longer used."""

    def __init__(self, weights: Weights, on_end: Callable[[int], None]) -> None:
        self._weights = weights
        weakref.finalize(self, on_end, size_of(weights))

    def __call__(self) -> Weights:
        return self._weights


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work that was handed over."""

    work: Callable[[], object]
    size: int


class Spool(Shelf):
    """Stores clients' models in files of `folder`, and lets one other thread write them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = 0
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def keep_report(self, weights: Weights) -> Load:
        """Store reported weights; in the memory, while there are few.

        Raises:
            NotWritten: the disk is full, also for something that was handed over earlier.
        """
        self._raise_error()
        size = size_of(weights)
        if self._in_memory + size <= LARGEST:
            self._held += size
            return _HeldReport(weights, self._release)
        return _StoredReport(self._new_path("report"), weights)

    def keep_model(self, weights: Weights) -> Load:
        """Store a client's model. Waits while many are not on the disk yet; raises as `keep_report`."""
        model = StoredModel(self._new_path("client"), weights)
        self.submit(model.write, size_of(weights))
        return model

    def submit(self, work: Callable[[], object], size: int = 0) -> Job:
        """Let the other thread do `work` after all that was handed over earlier.

        Args:
            work: called once; its error is raised by a later call of a method.
            size: number of bytes that stay in the memory until it is done. Waits while they are many.

        Raises:
            Exception: the error of earlier work.
        """
        with self._changed:
            while size and self._jobs and self._in_memory + size > LARGEST:
                self._changed.wait()
            self._raise_error()
            job = Job(work, size)
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def wait(self, last: Job | None = None) -> None:
        """Wait until all work up to `last` is done; None: all work.

        Raises:
            Exception: the error of some work.
        """
        with self._changed:
            while self._jobs if last is None else last in self._jobs:
                self._changed.wait()
            self._raise_error()

    def close(self) -> None:
        """Wait until all work is done, and remove the folder; raises as `wait`."""
        try:
            self.wait()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self) -> None:
        """Do the work. The first error ends the rest of them: the run ends, too."""
        while True:
            with self._changed:
                while not self._jobs:
                    if not self._changed.wait(IDLE_SECONDS) and not self._jobs:
                        self._thread = None
                        return
                work = self._jobs[0].work
            try:
                work()
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._jobs.clear()
                    self._changed.notify_all()
                continue
            finally:
                del work
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()

    @property
    def _in_memory(self) -> int:
        """Number of bytes of models and reports in the memory."""
        return self._held + sum(job.size for job in tuple(self._jobs))

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _new_path(self, kind: str) -> Path:
        with raising_not_written(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder / f"{kind}-{next(_NUMBERS)}.safetensors"

    def _release(self, size: int) -> None:
        self._held -= size


def size_of(weights: Weights) -> int:
    """Return the number of bytes of the arrays."""
    return sum(array.nbytes for array in weights.values())


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
