"""A workspace: the folder of all artifacts of a study."""

from pathlib import Path

from flames_cli.api.evaluations import Evaluation, open_evaluation
from flames_cli.api.models import Model, load_model
from flames_cli.api.options import PathLike, find_workspace
from flames_cli.api.partitions import Partition, open_partition
from flames_cli.api.runs import Family, Run, open_family, open_run
from flames_cli.stages.models.listing import list_names
from flames_cli.store.runs import list_runs
from flames_cli.store.workspace import list_evaluations, list_partitions


class Workspace:
    """Folder of all artifacts, which need not exist yet. Every function takes it as `workspace`.

    Examples:
        >>> study = flames.Workspace(workspace)
        >>> study.runs()
        ['flames', 'seeds-seed-0', 'seeds-seed-1']
        >>> study.run("flames").is_finished
        True
    """

    def __init__(self, path: PathLike | None = None) -> None:
        self.path: Path = find_workspace(path)
        """The folder; None: that of FLAMES_WORKSPACE, or `flames-workspace`."""

    def runs(self) -> list[str]:
        """Return the names of all runs, in order."""
        return [path.name for path in list_runs(self.path)]

    def run(self, name: str | None = None) -> Run:
        """Return a run; None: the newest. Raises as `open_run`."""
        return open_run(name, self.path)

    def family(self, name: str) -> Family:
        """Return the runs of several seeds or folds. Raises as `open_family`."""
        return open_family(name, self.path)

    def partitions(self) -> list[str]:
        """Return the names of all partitions, in order."""
        return list_partitions(self.path)

    def partition(self, name: str = "default") -> Partition:
        """Return a partition. Raises as `open_partition`."""
        return open_partition(name, self.path)

    def evaluations(self) -> list[str]:
        """Return the names of all evaluations, in order."""
        return list_evaluations(self.path)

    def evaluation(self, name: str) -> Evaluation:
        """Return an evaluation. Raises as `open_evaluation`."""
        return open_evaluation(name, self.path)

    def models(self) -> list[str]:
        """Return the names of all model folders, in order."""
        return list_names(self.path)

    def model(self, name: str, *, device: str = "auto") -> Model:
        """Return a model that is ready for arrays. Raises as `load_model`."""
        return load_model(name, device=device, workspace=self.path)

    def __fspath__(self) -> str:
        """Return the path of the folder."""
        return str(self.path)

    def __repr__(self) -> str:
        """Return the path of the folder."""
        return f"Workspace({str(self.path)!r})"
