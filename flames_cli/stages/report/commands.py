"""Commands with which a run is made again, as a user types them."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flames_cli.config import FederateConfig, PartitionConfig, PreprocessConfig, Section, facts_of
from flames_cli.stages.report.data import preprocessing_reports
from flames_cli.stages.report.gathering import Gathered

BY_MODALITY = "_by_modality"
"""End of the name of a key whose values the option of the key without it takes, too."""

NOT_TYPED = {"workspace", "accept", "workers", "overwrite", "datasets", "raw", "deployment", "device"}
"""Options that do not change the result, or that only this machine knows."""


def repeat_commands(gathered: Gathered) -> Iterator[str]:
    """Yield the commands in their order: preprocess, partition, federate, evaluate."""
    # A manifest makes a data set for each modality, with one command.
    yield from dict.fromkeys(
        shlex.join(
            [
                *("flames", "preprocess", "--dataset", str(report.get("reader", report["dataset"]))),
                *("--raw", "FOLDER"),
                *type_options(PreprocessConfig, report["options"]),
            ]
        )
        for report in preprocessing_reports(gathered)
    )
    if gathered.partition:
        content = gathered.partition.content
        options = {**content.options, "seed": content.seed, "name": gathered.partition.name}
        yield shlex.join(["flames", "partition", *type_options(PartitionConfig, options)])
    for run in gathered.runs:
        options = {**gathered.options_of(run), "run": run.folder.name}
        yield shlex.join(["flames", "federate", *type_options(FederateConfig, options)])
    if gathered.partition or not gathered.first.at_sites:
        yield evaluate_command(gathered)


def evaluate_command(gathered: Gathered) -> str:
    """Return the command that evaluates the run or family."""
    return shlex.join(["flames", "evaluate", "--run", gathered.name])


def type_options(kind: type[Section], options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of a command line that give `options`, without those that have their default."""
    for key, field in kind.model_fields.items():
        if key not in options or key in NOT_TYPED or isinstance(field.default, Path):
            continue
        value = _without_paths(key, options[key])
        if value is None or _plain(value) == _plain(field.default):
            continue
        name = key.removesuffix(BY_MODALITY)
        flag = facts_of(kind, key).get("flag") or "--" + name.replace("_", "-")
        yield from _type_option(flag, value)


def _without_paths(key: str, value: Any) -> Any:
    """Return FILE in place of a path: a page that leaves the site names no folders of its owner."""
    if key == "encoder_weights" and value not in (None, "imagenet", "none"):
        return "FILE"
    if key == "duplicate_list":  # the report of preprocess has True or False in place of the path
        return "FILE" if value else None
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, so that a tuple equals a list."""
    return list(value) if isinstance(value, tuple) else value


def _type_option(flag: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield flag if value else f"--no-{flag.removeprefix('--')}"
    elif isinstance(value, Mapping):
        for name, one in value.items():
            for item in one if isinstance(one, list) and not _is_numbers(one) else [one]:
                yield from (flag, f"{name}={_text(item)}")
    else:
        yield from (flag, _text(value))


def _is_numbers(value: list[Any]) -> bool:
    return all(isinstance(one, int | float) for one in value)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
