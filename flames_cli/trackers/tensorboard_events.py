"""The tracker `tensorboard`: event files in the folder `tensorboard` of the run.

Scalars are written as PyTorch's SummaryWriter does, by a writer without a thread of its own, so that an error
is noticed and every round is in the file.
"""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.summary.writer.record_writer import RecordWriter

from flames_cli.store.files.jsonl import append_bytes
from flames_cli.trackers.base import Figures, Status, TrackedRun
from flames_cli.trackers.figures import CHOSEN, SECONDS

FOLDER = "tensorboard"


class TensorBoardTracker:
    """Event files, one for each command that trained the run."""

    def __init__(self) -> None:
        self._path = Path()
        self._final = 0

    def start(self, run: TrackedRun) -> int:
        """Find the last round in the files that are there, and begin another one."""
        folder = run.folder / FOLDER
        folder.mkdir(exist_ok=True)
        files = sorted(folder.glob("events.out.tfevents.*"))
        seen = [(tag, step) for file in files for tag, step in _read(file)]
        last = max((step for tag, step in seen if tag == SECONDS), default=0)
        self._final = max((step for tag, step in seen if tag == CHOSEN), default=0)
        # TensorBoard reads the files in the order of their names.
        number = int(files[-1].name.rpartition(".")[2]) + 1 if files else 0
        self._path = folder / f"events.out.tfevents.0000000000.flames.{number:06d}"
        self._write(file_version="brain.Event:2")
        self._write(summary=hparams.hparams_pb(dict(run.parameters), trial_id=run.name))
        return last

    def round(self, number: int, figures: Figures) -> None:
        """Write all figures as one event."""
        self._write(step=number, summary=_scalars(figures))

    def final(self, number: int, figures: Figures) -> None:
        """Write the figures at the last round."""
        if number > self._final:
            self._write(step=number, summary=_scalars(figures))
            self._final = number

    def finish(self, status: Status) -> None:
        """Do nothing, since everything is written."""

    def _write(self, **content: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        append_bytes(self._path, record.getvalue())


def _scalars(figures: Figures) -> Summary:
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in figures.items()])


def _read(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the round of each figure in a file."""
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            yield value.tag, event.step
