"""Options of the commands that read runs, and of the demo."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from flames_cli.config.section import RUN_PANEL, WEIGHTS, Section, option
from flames_cli.config.values import DEFAULT_ROUND, Device, Name, Names, Precision, Round, Threshold
from flames_cli.core.scores.metric_names import COMPARED


class EvaluateConfig(Section):
    """Options of `flames evaluate`."""

    no_option = ("seed",)

    run: Name | None = option(
        None,
        "Run to evaluate, or the name of runs with several --seeds, which are pooled.",
        shown="the newest",
        names="runs and families",
    )
    round: Round | None = option(
        None,
        "Round whose models are evaluated: best (by the clients' validation), best-small (by validation on "
        "small lesions), last, or the number of a stored one.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    client_test: bool = option(
        False, "Evaluate every personalised model on the test set of its own client only."
    )
    server_test: bool = option(
        False, "Evaluate every server model on the unseen patients of its modality only."
    )
    cross_site: bool = option(
        False, "Evaluate every client's model on every client's test set, too, and draw the matrix."
    )
    detail: bool = option(False, "Print all tables and notes, not one screen.")
    on: Names = option(
        (),
        "Modality of the server's test sets on which all server models are evaluated, also those of other "
        "modalities (unseen modality); may be repeated.",
        metavar="MODALITY",
    )
    model: str | None = option(
        None,
        "Server model that is evaluated with --on, such as MRI: by its modality, or by its label in the "
        "tables; or the architecture of the file of --weights, such as densenet-unet.",
        shown="all",
        metavar="MODEL",
    )
    weights: Path | None = option(
        None,
        "Evaluate this model instead of a run: a .pth, .pt or .safetensors file of a complete model (with "
        "--model and --modality), or a model folder; on the server's test set of its modality.",
        WEIGHTS,
        metavar="FILE",
    )
    modality: str | None = option(
        None, "Modality of the images that the file of --weights is for.", WEIGHTS, shown="none"
    )
    partition: Name | None = option(
        None,
        "Partition on whose test set --weights is evaluated.",
        WEIGHTS,
        shown="default",
        names="partitions",
        metavar="NAME",
    )
    norm: Literal["batch", "group", "frozen"] = option(
        "batch", "Normalisation layers of the file of --weights.", WEIGHTS
    )
    model_options: dict[str, int | float] = option(
        {},
        "Option of the model in the file of --weights, such as base_channels=8; may be repeated.",
        WEIGHTS,
        flag="--model-option",
        metavar="NAME=NUMBER",
    )
    name: Name | None = option(
        None,
        "Name of the evaluation, and of its folder.",
        shown="name of the run, with what differs from the default",
        metavar="NAME",
    )
    ensemble: bool = option(
        False,
        "Evaluate the mean probability of all runs of a family (seeds and folds) as one model of each "
        "modality, on the server's test patients only.",
    )
    threshold: Threshold = option(
        0.5,
        "Probability above which a pixel is tumour: a number, or auto (chosen for each model on its clients' "
        "validation patients).",
        metavar="THRESHOLD",
    )
    tta: Literal["none", "flips"] = option(
        "none", "Test-time augmentation: none, or the mean over the image and its three flips."
    )
    postprocess: Literal["none", "auto"] = option(
        "none",
        "Clean-up of masks: none, or auto (only the largest connected part stays, for models whose "
        "validation Dice rises by it).",
    )
    lesion_iou: Annotated[float, Field(gt=0, le=1)] = option(
        0.1, "Smallest intersection over union of a lesion and the predicted part that finds it."
    )
    metrics: Names = option(
        (),
        "Metric of a plug-in (`flames info --plugins`) that is measured, too; may be repeated.",
        flag="--metric",
        names="extra metrics",
        metavar="NAME",
    )
    batch_size: Annotated[int, Field(ge=1)] = option(64, "Images in a step.")
    overlays: bool = option(True, "Draw the pictures.")
    device: Device = option("auto", "Device for prediction.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)


def _check_runs(runs: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := [run for number, run in enumerate(runs) if run in runs[:number]]:
        raise PydanticCustomError("runs", f"Runs should differ; {repeated[0]} is repeated")
    return runs


class CompareConfig(Section):
    """Options of `flames compare`."""

    runs: Annotated[tuple[Name, ...], AfterValidator(_check_runs)] = option(
        (),
        "Runs, families of runs (several --seeds or folds, which are pooled), or evaluations; the first is "
        "the reference.",
        names="runs and evaluations",
        metavar="RUN…",
        argument=True,
    )
    metrics: Annotated[Names, Field(min_length=1)] = option(
        ("dice",),
        f"Metric of the tables: {', '.join(COMPARED)}, or one of a plug-in; may be repeated. The CSV files "
        "have all of these.",
        flag="--metric",
        shown="dice",
        names="compared metrics",
        metavar="METRIC",
    )
    protocol: Literal["auto", "slices", "volumes"] = option(
        "auto",
        "Cases that have one value each: volumes and still images (auto), the same if all volumes are "
        "complete (volumes), or the selected images, as in the paper (slices).",
    )
    by: str | None = option(
        None,
        "Also show the means by site, dataset, organ, modality, lesion, or a column of the manifest that was "
        "kept.",
        shown="none",
        metavar="COLUMN",
    )
    round: Round | None = option(
        None,
        "Round whose models are compared: best, best-small, last or a number, as in `flames evaluate`.",
        shown=f"{DEFAULT_ROUND}, by one rule for all runs",
        metavar="ROUND",
    )
    name: Name | None = option(
        None,
        "Name of the comparison, and of its folder.",
        shown="names of the runs, joined by -vs-",
        metavar="NAME",
    )
    detail: bool = option(False, "Print all lines, with standard deviations and all tests.")
    batch_size: Annotated[int, Field(ge=1)] = option(
        64, "Images in a step, for runs that are evaluated first."
    )
    overlays: bool = option(True, "Draw the pictures.")
    device: Device = option("auto", "Device for runs that are evaluated first.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)


class TsneConfig(Section):
    """Options of `flames tsne`."""

    features: Literal["pixels", "deep"] = option(
        "pixels", "Features of an image: its pixels, or the bottleneck of a run's model (deep)."
    )
    run: Name | None = option(None, "Run for deep features.", shown="the newest", names="runs")
    partition: Name | None = option(
        None,
        "Partition whose images are drawn, with pixels.",
        shown="default; with deep features that of the run",
        names="partitions",
        metavar="NAME",
    )
    name: Name | None = option(
        None, "Name of the map.", RUN_PANEL, shown="pixels, or deep-RUN", metavar="NAME"
    )
    round: Round | None = option(
        None,
        "Round whose models make deep features: best, best-small, last or a number, as in `flames evaluate`.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    max_images: Annotated[int, Field(ge=10)] = option(
        1000, "Largest number of images of each client, drawn by seed."
    )
    perplexity: Annotated[float, Field(gt=1)] = option(30.0, "Perplexity of t-SNE.")
    device: Device = option("auto", "Device for deep features.", RUN_PANEL)


class DemoConfig(Section):
    """Options of `flames demo`."""

    workspace: Path = option(Path("flames-demo"), "Folder of the demo's artifacts.", RUN_PANEL)
    size: Annotated[int, Field(ge=32, le=240)] = option(64, "Side of the square images, in pixels.")
    rounds: Annotated[int, Field(ge=1)] = option(16, "Number of rounds of each run.")
    device: Device = option("auto", "Device for training.")
