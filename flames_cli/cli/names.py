"""Names of strategies, models, data sets and runs, found without loading what they stand for."""

from collections.abc import Iterable
from pathlib import Path

REGISTRIES = {"datasets": "readers"}
"""Group of plug-ins of those kinds of names that are called otherwise."""


def known_names(kind: str, workspace: Path) -> list[str]:
    """Return the known names of a kind, for the shell to complete.

    These are members of a registry such as strategies, models or datasets; metrics of a comparison; or, in
    the workspace, partitions, sets of folds, runs, runs and families, or these with evaluations. No plug-in
    is imported, and no file of plug-ins is run.
    """
    # Imported here and below: `flames --help` needs no registry.
    from flames_cli.plugins import GROUPS, registry_of

    group = REGISTRIES.get(kind, kind)
    if group in GROUPS:
        names = registry_of(group).listed()
        stored = workspace.glob("preprocessed/*.h5") if kind == "datasets" else ()
        return list(dict.fromkeys((*names, *(path.stem for path in stored))))
    match kind:
        case "partitions" | "sets of folds":
            from flames_cli.store.member_names import split_partition_name
            from flames_cli.store.workspace import list_partitions

            there = list_partitions(workspace)
            sets = dict.fromkeys(split_partition_name(name)[0] for name in there)
            return there if kind == "partitions" else [name for name in sets if name]
        case "extra metrics" | "compared metrics":
            from flames_cli.core.scores.metric_names import COMPARED

            extra = [*registry_of("metrics").listed()]
            return [*COMPARED, *extra] if kind == "compared metrics" else extra
        case "model folders":
            from flames_cli.store.workspace import model_folder

            models = (path.parent.name for path in model_folder(workspace, "").glob("*/model.toml"))
            return sorted(name for name in models if not name.startswith("."))
        case _:
            from flames_cli.store.member_names import family_name
            from flames_cli.store.runs import list_runs

            runs = [path.name for path in list_runs(workspace)]
            families = filter(None, map(family_name, runs)) if kind != "runs" else ()
            found = workspace.glob("evaluations/*/evaluation.json") if kind == "runs and evaluations" else ()
            evaluations = (path.parent.name for path in found if not path.parent.name.startswith("."))
            return list(dict.fromkeys((*families, *runs, *sorted(evaluations))))


def check_name(kind: str, name: str) -> None:
    """Check that a member of a registry, such as a strategy or a model, is known, without importing it.

    Raises:
        FlamesError: the name is not known.
    """
    from flames_cli.plugins import registry_of

    registry_of(REGISTRIES.get(kind, kind)).require_known(name)


def check_datasets(names: Iterable[str]) -> None:
    """Check that every data set has a reader, without loading one.

    Raises:
        FlamesError: a name is not known.
    """
    from flames_cli.readers import ALIASES

    for name in names:
        check_name("datasets", ALIASES.get(name.lower(), name.lower()))
