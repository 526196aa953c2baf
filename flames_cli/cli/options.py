"""Options that several commands share, and how what was typed becomes a configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from click.core import ParameterSource

from flames_cli.errors import FlamesError

if TYPE_CHECKING:
    from flames_cli.config import Section

# The configuration is imported where it is read: its pydantic takes a third of the time of `flames --help`.
DEFAULT_WORKSPACE = Path("flames-workspace")

Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace", envvar="FLAMES_WORKSPACE", help="Folder of all artifacts.", show_default=True
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with any of these options; what is typed wins.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Seed = Annotated[
    int, typer.Option("--seed", help="Of everything random; the same seed gives the same bytes.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make the output anew where it is there already.")
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")]


# What the commands that read raw data share.
DatasetNames = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Data set to read; `flames info` lists them; may be given several times."),
]
RawFolder = Annotated[
    Path | None,
    typer.Option(
        "--raw",
        help="Raw folder of the one data set, or a manifest's CSV.",
        show_default="WORKSPACE/raw/DATASET",
    ),
]
CollectionName = Annotated[
    str | None,
    typer.Option("--name", help="Name of a manifest's data sets.", show_default="its folder's"),
]
Size = Annotated[int, typer.Option("--size", help="Side of the square images, in pixels.")]
Channels = Annotated[str, typer.Option("--channels", help="grey, or rgb where a data set has colour.")]
Plane = Annotated[str, typer.Option("--plane", help="axial, coronal or sagittal slices of a volume.")]
Slices = Annotated[
    str | None,
    typer.Option(
        "--slices",
        help="near, lesion or all: those near the tumour's mean slice, all that bear tumour, or every one.",
        show_default="as the data set's paper",
    ),
]
SliceHalfWidth = Annotated[
    int,
    typer.Option("--slice-half-width", help="For near: slices on either side of the tumour's mean slice."),
]
Windows = Annotated[
    list[str] | None,
    typer.Option(
        "--window",
        help="MODALITY=LOW,HIGH intensities that become black and white, CT=-160,240 in HU.",
        show_default="the data set's",
    ),
]
SmallRules = Annotated[
    list[str] | None,
    typer.Option(
        "--small",
        help="DATASET=area:RATIO or box:RATIO: lesions are small where the image is so many times as large "
        "as they, or as the box of the smallest; :BASE of FedGS's logarithm may follow.",
        show_default="the data set's",
    ),
]
Percentile = Annotated[
    float, typer.Option("--percentile", help="Of a volume without a window, that becomes white.")
]
Workers = Annotated[int, typer.Option("--workers", help="Threads; 0: one a core.")]

SectionT = TypeVar("SectionT", bound="Section")

NOT_OPTIONS = {"config", "json_output"}


def build_config(ctx: typer.Context, kind: type[SectionT], **changed: Any) -> SectionT:
    """The command's configuration: defaults, the file of --config, then what was typed.

    Args:
        ctx: the command's context, which tells what was typed (or set in the environment).
        kind: the command's section.
        changed: options whose typed form is not their configured one; None where nothing was typed.
    """
    from flames_cli.config import load_section

    typed = {
        name: value
        for name, value in ctx.params.items()
        if name not in NOT_OPTIONS and name not in changed and _was_given(ctx, name)
    }
    typed |= {name: value for name, value in changed.items() if value is not None}
    # Typer turns text into a Path only for the function itself.
    file = ctx.params.get("config")
    options = load_section(kind, typed, Path(file) if file else None)
    check_workspace(options.workspace)
    return options


def check_workspace(workspace: Path) -> None:
    """Refuse a file where the workspace's folder should be.

    Raises:
        FlamesError: it is one.
    """
    if workspace.is_file():
        raise FlamesError(f"{workspace} is a file, expected the workspace's folder; check --workspace")


def _was_given(ctx: typer.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def parse_pairs(option: str, items: list[str] | None) -> dict[str, str] | None:
    """`NAME=VALUE` items as a dict; None where none was typed.

    Raises:
        FlamesError: an item without a name or a value, or a name twice.
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
    """`NAME=VALUE` items as a dict of lists, for names that come several times; None where none was typed.

    Raises:
        FlamesError: an item without a name or a value.
    """
    lists: dict[str, list[str]] = {}
    for item in items or []:
        for name, value in (parse_pairs(option, [item]) or {}).items():
            lists.setdefault(name, []).append(value)
    return lists or None


def parse_number(text: str) -> int | float | str:
    """`text` as a whole number or a float; itself where it is neither, for the configuration to refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_by_modality(option: str, field: str, items: list[str] | None) -> dict[str, Any]:
    """`--lr 1e-4 --lr US=3e-4` as the options `lr` and `lr_by_modality`; None where nothing was typed.

    Raises:
        FlamesError: an item without a value, or a modality twice.
    """
    plain = [item for item in items or [] if "=" not in item]
    named = parse_pairs(option, [item for item in items or [] if "=" in item])
    return {
        field: parse_number(plain[-1]) if plain else None,
        f"{field}_by_modality": {name: parse_number(value) for name, value in named.items()}
        if named
        else None,
    }


def parse_windows(items: list[str] | None) -> dict[str, list[int | float | str]] | None:
    """`--window CT=-160,240` as {modality: [low, high]}; the configuration refuses what is no window."""
    pairs = parse_pairs("--window", items)
    return (
        {name: [parse_number(part) for part in text.split(",")] for name, text in pairs.items()}
        if pairs
        else None
    )


def raw_folders(datasets: list[str] | None, raw: Path | None) -> dict[str, Path] | None:
    """`--raw` as folders by data set; None where it was not typed.

    Raises:
        FlamesError: it is the folder of no data set, or of several.
    """
    if raw is None:
        return None
    if not datasets or len(datasets) != 1:
        raise FlamesError("--raw is the folder of one data set; pass exactly one --dataset with it")
    return {datasets[0]: raw}
