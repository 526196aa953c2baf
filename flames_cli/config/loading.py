"""The options of one command: defaults, the file of --config, then what was typed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from flames_cli.config.adaptation import AdaptConfig
from flames_cli.config.data import CheckConfig, PartitionConfig, PreprocessConfig
from flames_cli.config.federation import FederateConfig
from flames_cli.config.results import CompareConfig, DemoConfig, EvaluateConfig, TsneConfig
from flames_cli.config.section import Section, WrongOptions
from flames_cli.config.use import ExportConfig, PredictConfig, ReportConfig
from flames_cli.errors import FlamesError
from flames_cli.store.files.parse import parse_toml, read_text
from flames_cli.store.schema import RUN, check_stamp

SECTIONS: dict[str, type[Section]] = {
    "check": CheckConfig,
    "preprocess": PreprocessConfig,
    "partition": PartitionConfig,
    "federate": FederateConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "export": ExportConfig,
    "adapt": AdaptConfig,
    "predict": PredictConfig,
    "tsne": TsneConfig,
    "report": ReportConfig,
    "demo": DemoConfig,
}
SHARED = ("workspace", "plugins", "seed")

SectionT = TypeVar("SectionT", bound=Section)


def load_section(kind: type[SectionT], options: Mapping[str, Any], file: Path | None = None) -> SectionT:
    """Return the options of one command: defaults, then `file`, then the typed `options`.

    Paths in a file are relative to that file. The complete file is checked, not only this command's table.
    The config.toml of a run is also accepted.

    Raises:
        FlamesError: every wrong option as `field: message`, or a file that cannot be read.
    """
    name = next(name for name, section in SECTIONS.items() if section is kind)
    values = _read_tables(file)[name] if file else {}
    return check_section(kind, _replace(values, options))


REPLACED = {"seeds": {"seed"}, "folds": {"fold", "partition"}, "fold": {"folds"}, "partition": {"folds"}}
"""Keys whose typed value replaces other keys of the file."""


def _replace(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with the `others` in their place: several seeds or folds also
    replace one."""
    replaced = {old for new, keys in REPLACED.items() if new in others for old in keys}
    return {key: value for key, value in values.items() if key not in replaced} | {**others}


def _read_tables(file: Path) -> dict[str, dict[str, Any]]:
    """Return each command's values in `file`: its table, and the shared keys where the table has none."""
    try:
        content = parse_toml(read_text(file))
    except FileNotFoundError as error:
        raise FlamesError(f"no configuration {file}; check --config") from error
    except (OSError, ValueError) as error:
        raise FlamesError(f"{file} cannot be read as TOML: {error}") from error
    if "format" in content:
        # This is the config.toml of a run; its stamp and its facts are not options.
        check_stamp(content, RUN, file)
        content = {"federate": options_of_run(content, file)}
    unknown = [key for key in content if key not in (*SECTIONS, *SHARED)]
    if unknown:
        known = ", ".join((*SHARED, *(f"[{name}]" for name in SECTIONS)))
        raise FlamesError(f"{file}: '{unknown[0]}' is not known; choose from {known}")
    shared = _resolve_paths({key: content[key] for key in SHARED if key in content}, file.parent)
    problems = _problems(Section, shared, where="")
    tables = {}
    for name, section in SECTIONS.items():
        table = content.get(name, {})
        if not isinstance(table, dict):
            problems.append(f"{name}: input should be a table, [{name}] (got {table!r})")
            continue
        table = _resolve_paths(table, file.parent)
        problems += _problems(section, table, where=f"{name}.")
        tables[name] = _replace(shared, table)
    if problems:
        raise FlamesError(f"{file}: " + "; ".join(problems))
    return tables


def options_of_run(tables: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the options in the config.toml of a run, as they are written.

    Raises:
        FlamesError: they name files of plug-ins: code that runs comes from the user alone.
    """
    options = tables.get("federate", {})
    if isinstance(options, dict) and options.get("plugins"):
        raise FlamesError(
            f"{file} names files of plug-ins, which no file of a run may do; delete its line plugins, and "
            "pass --plugin FILE with files that you trust"
        )
    return dict(options) if isinstance(options, dict) else {}


def _resolve_paths(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    resolved = dict(table)
    for key in (
        "workspace",
        "root",
        "out",
        "truth",
        "accept",
        "duplicate_list",
        "salt_file",
        "deployment",
        "weights",
        "shard",
    ):
        if isinstance(resolved.get(key), str) and resolved[key]:
            resolved[key] = str(folder / resolved[key])
    if isinstance(files := resolved.get("plugins"), str | list):
        files = [files] if isinstance(files, str) else files
        resolved["plugins"] = [folder / path if isinstance(path, str) else path for path in files]
    if isinstance(resolved.get("raw"), dict):
        raw = resolved["raw"].items()
        resolved["raw"] = {name: folder / path if isinstance(path, str) else path for name, path in raw}
    return resolved


def check_section(kind: type[SectionT], values: Mapping[str, Any], where: str = "") -> SectionT:
    """Return the options of one command, from `values` alone.

    Raises:
        FlamesError: every wrong option as `field: message`, with `where` before each; or seeds and another
            seed.
    """
    if problems := _problems(kind, values, where):
        raise FlamesError("; ".join(problems))
    made = kind(**values)
    if isinstance(made, FederateConfig) and made.seeds and "seed" in made.model_fields_set:
        _check_same_seed(made, where)
    if isinstance(made, FederateConfig) and made.folds is not None and "partition" in made.model_fields_set:
        raise FlamesError(
            f"{where}got partition {made.partition} and folds, expected one of the two; leave --partition "
            "out for all folds, or --folds for one partition"
        )
    if isinstance(made, PartitionConfig) and made.fold and made.folds:
        raise FlamesError(
            f"{where}got fold {made.fold} and folds {made.folds}, expected one of the two; leave --fold out "
            "for all folds, or --folds for one"
        )
    return made


def _check_same_seed(made: FederateConfig, where: str) -> None:
    if made.seeds != (made.seed,):
        listed = ",".join(map(str, made.seeds))
        raise FlamesError(
            f"{where}got seed {made.seed} and seeds {listed}, expected one of the two; leave --seed out for "
            "several runs, or --seeds for one"
        )


def _problems(kind: type[Section], values: Mapping[str, Any], where: str) -> list[str]:
    try:
        kind(**values)
    except WrongOptions as error:
        return [f"{where}{problem}" for problem in error.problems]
    return []


def facts_of(kind: type[Section], key: str) -> dict[str, Any]:
    """Return what `option` declares of a key besides its default, help text and limits."""
    extra = kind.model_fields[key].json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def keys_with(kind: type[Section], fact: str, value: object) -> set[str]:
    """Return the keys of a section for which `option` declares this value of `fact`."""
    return {key for key in kind.model_fields if facts_of(kind, key).get(fact) == value}
