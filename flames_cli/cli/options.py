"""The typed options of a command as its configuration, and the options that other commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import click
import typer
from click.core import ParameterSource

from flames_cli.cli.section_command import BY_MODALITY, has_option, is_argument
from flames_cli.errors import FlamesError
from flames_cli.stages.entrance import check_options

if TYPE_CHECKING:
    from flames_cli.config import Section

# The configuration is imported where it is used: pydantic takes a third of the time of `flames --help`.

Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace", envvar="FLAMES_WORKSPACE", help="Folder of all artifacts.", show_default=True
    ),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        envvar="FLAMES_PLUGINS",
        help="Python file with plug-ins of yours, for this machine; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="[auto|cpu|cuda|mps]", help="Device for training.")
]
PrecisionName = Annotated[
    str,
    typer.Option("--precision", metavar="[auto|fp32|bf16]", help="Precision of the model's arithmetic."),
]

SectionT = TypeVar("SectionT", bound="Section")


def build_config(ctx: click.Context, kind: type[SectionT]) -> SectionT:
    """Return the command's configuration: defaults, the file of --config, then the typed options.

    Raises:
        FlamesError: an option is wrong, or names a strategy, a model, a loss or an augmentation that is not
            known.
    """
    from flames_cli.config import load_section

    file = ctx.params.get("config")
    options = load_section(kind, typed_options(ctx, kind), Path(file) if file else None)
    check_options(options)
    return options


def typed_options(ctx: click.Context, kind: "type[Section]") -> dict[str, Any]:
    """Return the options that were typed or set in the environment, by key.

    Raises:
        FlamesError: the text of an option does not have its form.
    """
    typed: dict[str, Any] = {}
    flags = {one.name: one.opts[0] for one in ctx.command.params}
    for key in kind.model_fields:
        if not has_option(kind, key) or not _was_given(ctx, key):
            continue
        if is_argument(kind, key) and not ctx.params[key]:
            continue
        value, flag = ctx.params[key], flags[key]
        if key == "raw":
            typed[key] = raw_folders(ctx.params["datasets"], Path(value))
        elif key + BY_MODALITY in kind.model_fields:
            found = parse_by_modality(flag, key, value)
            typed |= {name: one for name, one in found.items() if one is not None}
        else:
            typed[key] = PARSERS[key](flag, value) if key in PARSERS else value
    return typed


def _was_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def parse_pairs(option: str, items: list[str] | None) -> dict[str, str] | None:
    """Return `NAME=VALUE` items as a dict; None without items.

    Raises:
        FlamesError: an item has no name or no value, or a name is repeated.
    """
    if not items:
        return None
    pairs: dict[str, str] = {}
    for item in items:
        name, _, value = (part.strip() for part in item.partition("="))
        if not (name and value):
            raise FlamesError(f"{option} got '{item}', expected NAME=VALUE")
        if name in pairs:
            raise FlamesError(f"{option} names {name} twice, {pairs[name]} and {value}; pass it once")
        pairs[name] = value
    return pairs


def parse_lists(option: str, items: list[str] | None) -> dict[str, list[str]] | None:
    """Return `NAME=VALUE` items as a dict of lists, for names that may be repeated; None without items.

    Raises:
        FlamesError: an item has no name or no value.
    """
    lists: dict[str, list[str]] = {}
    for item in items or []:
        for name, value in (parse_pairs(option, [item]) or {}).items():
            lists.setdefault(name, []).append(value)
    return lists or None


def parse_number(text: str) -> int | float | str:
    """Return `text` as an integer or a float; unchanged if it is neither, for the configuration to reject."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_numbers(option: str, items: list[str] | None) -> dict[str, int | float | str] | None:
    """Return `NAME=NUMBER` items as a dict; raises as `parse_pairs`."""
    pairs = parse_pairs(option, items)
    return {name: parse_number(value) for name, value in pairs.items()} if pairs else None


def parse_by_modality(option: str, field: str, items: list[str] | None) -> dict[str, Any]:
    """Return `--lr 1e-4 --lr US=3e-4` as the options `lr` and `lr_by_modality`; None for what was not typed.

    Raises:
        FlamesError: an item has no value, or a modality is repeated.
    """
    plain = [item for item in items or [] if "=" not in item]
    named = parse_numbers(option, [item for item in items or [] if "=" in item])
    return {field: parse_number(plain[-1]) if plain else None, f"{field}{BY_MODALITY}": named}


def parse_windows(
    option: str, items: list[str] | str | None
) -> dict[str, list[int | float | str]] | list[int | float | str] | None:
    """Return `--window CT=-160,240` as {modality: [low, high]}, and `--window -160,240` of a command that has
    one window as [low, high]; the configuration checks the numbers."""
    if isinstance(items, str):
        return [parse_number(part) for part in items.split(",")]
    pairs = parse_pairs(option, items) or {}
    return {name: [parse_number(part) for part in text.split(",")] for name, text in pairs.items()} or None


def raw_folders(datasets: tuple[str, ...] | None, raw: Path) -> dict[str, Path]:
    """Return `--raw` as folders by data set.

    Raises:
        FlamesError: there is not exactly one data set.
    """
    if not datasets:
        raise FlamesError(
            "--raw needs the name of its data set; pass --dataset NAME (--dataset manifest for your own data)"
        )
    if len(datasets) > 1:
        raise FlamesError(
            f"--raw is the folder of one data set, got {len(datasets)}; run the command once for each"
        )
    return {datasets[0]: raw}


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "window": parse_windows,
    "small": parse_pairs,
    "split": parse_numbers,
    "hold_out_site": parse_lists,
    "model_options": parse_numbers,
    "slow": parse_numbers,
}
"""Parser of each option whose typed form is not that of its key."""
