"""What the trackers stored, read back with the readers of their own packages."""

import csv
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Stored = dict[int, dict[str, list[float]]]
"""Values by round and name, in the order in which they were stored."""


def read_csv_tracker(run: Path, workspace: Path) -> Stored:
    found: Stored = {}
    for row in csv.DictReader((run / "csv" / "rounds.csv").read_text("utf-8").splitlines()):
        number = int(row.pop("round"))
        _add(found, number, {name: float(value) for name, value in row.items() if value})
    final = dict(csv.reader((run / "csv" / "final.csv").read_text("utf-8").splitlines()[1:]))
    _add(found, int(final.pop("round")), {name: float(value) for name, value in final.items()})
    return found


def read_tensorboard(run: Path, workspace: Path) -> Stored:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found: Stored = {}
    for tag in events.Tags()["scalars"]:
        for one in events.Scalars(tag):
            _add(found, one.step, {tag: one.value})
    return found


def read_mlflow(run: Path, workspace: Path) -> Stored:
    client = open_mlflow(workspace)
    (stored,) = find_mlflow(client, f"attributes.run_name = '{run.name}'")
    found: Stored = {}
    for name in stored.data.metrics:
        for one in client.get_metric_history(stored.info.run_id, name):
            _add(found, one.step, {name: one.value})
    return found


def open_mlflow(workspace: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow' / 'mlflow.db'}")


def find_mlflow(client: Any, query: str = "") -> list[Any]:
    experiment = client.get_experiment_by_name("flames")
    return list(client.search_runs([experiment.experiment_id], query))


def read_wandb(run: Path, workspace: Path) -> Stored:
    found: Stored = {}
    last = 0
    for record in wandb_records(run):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            last = record.history.step.num
            _add(found, last, {name: value for name, value in items.items() if name[0] != "_"})
        elif record.WhichOneof("record_type") == "summary":
            for one in record.summary.update:
                name = one.key or "/".join(one.nested_key)
                if name.startswith("chosen"):
                    _add(found, last, {name: json.loads(one.value_json)})
    return found


def wandb_records(run: Path, seconds: float = 20.0) -> list[Any]:
    """Return the records of all offline files of a run, in their order.

    W&B's own process writes them, and may do so after `finish` has returned.
    """
    deadline = time.monotonic() + seconds
    while True:
        files = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_ctime_ns)
        found = [[*_parse(file)] for file in files]
        complete = all(any(one.WhichOneof("record_type") == "exit" for one in file) for file in found)
        if complete or time.monotonic() > deadline:
            return [record for file in found for record in file]
        time.sleep(0.02)


def _parse(file: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    for part in _leveldb_records(file.read_bytes(), header=7):
        record = Record()
        record.ParseFromString(part)
        yield record


def _leveldb_records(data: bytes, header: int, block: int = 32768) -> Iterator[bytes]:
    """Yield the records of a log of LevelDB: blocks of chunks with checksum, length and kind."""
    place, record = header, b""
    while place + 7 <= len(data):
        if (left := block - place % block) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # complete, or the last chunk of one
            yield record
            record = b""


def _add(found: Stored, number: int, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        found.setdefault(number, {}).setdefault(name, []).append(value)


READERS = {
    "csv": read_csv_tracker,
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}
