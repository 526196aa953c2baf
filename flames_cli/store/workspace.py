"""Folders of a workspace: each stage writes below one of them, under the name of what it made."""

from pathlib import Path

DEFAULT_PARTITION = "default"
PARTITION_FILE = "partition.json"


def partition_folder(workspace: Path, name: str = DEFAULT_PARTITION) -> Path:
    """Return the folder of partition `name`, which has `partition.json` and `shards/`."""
    return workspace / "partitions" / name


def partition_file(workspace: Path, name: str = DEFAULT_PARTITION) -> Path:
    """Return the path of `partition.json` of partition `name`."""
    return partition_folder(workspace, name) / PARTITION_FILE


def list_partitions(workspace: Path) -> list[str]:
    """Return the names of all partitions, in order, without folders that a killed process left."""
    found = (path.parent.name for path in workspace.glob(f"partitions/*/{PARTITION_FILE}"))
    return sorted(name for name in found if not name.startswith("."))


def partition_command(name: str, *options: str) -> str:
    """Return the command that makes partition `name`, for messages."""
    named = () if name == DEFAULT_PARTITION else ("--name", name)
    return f"`{' '.join(('flames partition', *named, *options))}`"


def evaluation_folder(workspace: Path, name: str) -> Path:
    """Return the folder of evaluation `name`, which `flames evaluate` writes."""
    return workspace / "evaluations" / name


def list_evaluations(workspace: Path) -> list[str]:
    """Return the names of all evaluations, in order, without folders that a killed process left."""
    found = (path.parent.name for path in workspace.glob("evaluations/*/evaluation.json"))
    return sorted(name for name in found if not name.startswith("."))


def comparison_folder(workspace: Path, name: str) -> Path:
    """Return the folder of comparison `name`, which `flames compare` writes."""
    return workspace / "comparisons" / name


def map_folder(workspace: Path, name: str) -> Path:
    """Return the folder of map `name`, which `flames tsne` writes."""
    return workspace / "maps" / name


def model_folder(workspace: Path, name: str) -> Path:
    """Return the folder of model `name`, which `flames export` writes."""
    return workspace / "models" / name


def report_file(workspace: Path, name: str) -> Path:
    """Return the path of the report of run `name`, which `flames report` writes."""
    return workspace / "reports" / name / "report.html"


def prediction_folder(workspace: Path, models: str) -> Path:
    """Return the folder of the predictions of `models`, which `flames predict` writes."""
    return workspace / "predictions" / models
