"""The progress of an asynchronous federation in a checkpoint: numbers in its index, weights in its files."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.core.federated.progress import NewestReport, Progress, Training
from flames_cli.core.federated.shelf import ClientModels
from flames_cli.store.checkpoint_files import FileWriter


def write_progress(written: FileWriter, progress: Progress) -> dict[str, Any]:
    """Write the weights of `progress`, and return its entry in the index."""
    newest = ClientModels({name: one.load for name, one in progress.newest.items()})
    files = written.personal(newest, "report")
    return {
        "seconds": progress.seconds,
        "trainings": dict(progress.trainings),
        "on_the_way": {name: asdict(one) for name, one in progress.on_the_way.items()},
        "starts": written.personal(progress.starts, "start"),
        "newest": {
            name: {"n_examples": one.n_examples, "began": one.began, "file": files[name]}
            for name, one in progress.newest.items()
        },
    }


def parse_progress(found: Mapping[str, Any], read: Callable[[str], Weights]) -> Progress:
    """Return the progress from its entry in the index; `read` reads a file.

    Raises:
        KeyError, TypeError, ValueError: the entry is damaged.
    """
    starts = {str(name): read(file) for name, file in found["starts"].items()}
    on_the_way = {str(name): _training(**one) for name, one in found["on_the_way"].items()}
    if lost := [one.start for one in on_the_way.values() if one.start not in starts]:
        raise KeyError(lost[0])
    return Progress(
        seconds=float(found["seconds"]),
        trainings={str(name): int(number) for name, number in found["trainings"].items()},
        on_the_way=on_the_way,
        starts=ClientModels.of(starts),
        newest={str(name): _newest(read, **one) for name, one in found["newest"].items()},
    )


def _training(number: int, began: int, start: str, ends: float) -> Training:
    return Training(int(number), int(began), str(start), float(ends))


def _newest(read: Callable[[str], Weights], n_examples: int, began: int, file: str) -> NewestReport:
    weights = read(file)
    return NewestReport(int(n_examples), int(began), lambda: weights)
