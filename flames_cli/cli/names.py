"""Names of strategies, models, data sets and runs, found without loading what they stand for."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from flames_cli.errors import FlamesError

WORDS = {
    "strategies": "strategy",
    "models": "model",
    "datasets": "data set",
    "losses": "loss",
    "augmentations": "augmentation",
}


def known_names(kind: str, workspace: Path) -> list[str]:
    """Return the known names of a kind: strategies, models, datasets, or, in the workspace, partitions,
    sets of folds, runs, runs and families, or these with evaluations."""
    match kind:
        case "strategies":
            from flames_cli.fed.algorithms import ALGORITHMS

            return list(ALGORITHMS)
        case "models":
            from flames_cli.learn.models import MODELS

            return list(MODELS)
        case "losses":
            from flames_cli.learn.loss_registry import LOSSES

            return list(LOSSES)
        case "augmentations":
            from flames_cli.learn.augmentations import AUGMENTATIONS

            return list(AUGMENTATIONS)
        case "datasets":
            from flames_cli.readers import READERS

            preprocessed = (path.stem for path in workspace.glob("preprocessed/*.h5"))
            return list(dict.fromkeys((*READERS, *preprocessed)))
        case "partitions" | "sets of folds":
            from flames_cli.store.member_names import split_partition_name
            from flames_cli.store.workspace import list_partitions

            there = list_partitions(workspace)
            sets = dict.fromkeys(split_partition_name(name)[0] for name in there)
            return there if kind == "partitions" else [name for name in sets if name]
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


def check_name(kind: str, name: str, workspace: Path) -> None:
    """Check that a strategy, a model or a data set has a known name.

    Raises:
        FlamesError: the name is not known.
    """
    known = known_names(kind, workspace)
    if name not in known:
        raise FlamesError(
            f"{WORDS[kind]} '{name}' is not known{_nearest(name, known)}; choose one of {', '.join(known)}"
        )


def check_datasets(names: Iterable[str]) -> None:
    """Check that every data set has a reader, without loading one.

    Raises:
        FlamesError: a name is not known.
    """
    from flames_cli.readers import ALIASES, READERS

    for name in names:
        if ALIASES.get(name.lower(), name.lower()) not in READERS:
            raise FlamesError(
                f"data set '{name}' is not known{_nearest(name, READERS)}; choose one of {', '.join(READERS)}"
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
