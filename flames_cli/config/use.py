"""Options of the commands that use what a run made: export, report."""

from typing import Annotated, Literal

from pydantic import Field

from flames_cli.config.section import RUN_PANEL, Section, option
from flames_cli.config.values import DEFAULT_ROUND, Device, Name, Names, Precision, Round

Format = Literal["onnx", "torch-export"]
"""Format of a file for other programs, in the folder of a model."""


class ExportConfig(Section):
    """Options of `flames export`."""

    no_option = ("seed",)

    run: Name | None = option(None, "Run whose model is exported.", shown="the newest", names="runs")
    model: str | None = option(
        None,
        "Model: the server's of a modality, such as MRI, or a client's, such as client:brats-1.",
        shown="none: the message lists the models of the run",
        metavar="MRI|client:NAME",
    )
    round: Round | None = option(
        None,
        "Round whose model is exported: best, best-small, last or a number, as in `flames evaluate`.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    name: Name | None = option(
        None,
        "Name of the model, and of its folder in models/.",
        RUN_PANEL,
        shown="names of the run and the model",
        metavar="NAME",
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] = option(
        0.5, "Probability above which a pixel is tumour, for all who use the model.", metavar="THRESHOLD"
    )
    licence: Annotated[str, Field(max_length=200)] = option(
        "", "Licence of the model, such as cc-by-4.0.", shown="not stated", metavar="LICENCE"
    )
    zip: bool = option(False, "Also write models/NAME.zip, which `flames models add` installs.")
    formats: tuple[Format, ...] = option(
        (),
        "File for other programs, written into the folder and checked against torch: onnx (model.onnx) or "
        "torch-export (model.pt2); may be repeated.",
        flag="--format",
        shown="none",
        metavar="[onnx|torch-export]",
    )


class ReportConfig(Section):
    """Options of `flames report`."""

    no_option = ("seed",)

    run: Name | None = option(
        None,
        "Run, or the name of runs with several --seeds or folds, which are pooled.",
        shown="the newest",
        names="runs and families",
    )
    compare: Names = option(
        (),
        "Run, family or evaluation to compare with; may be repeated. The tables show it next to --run.",
        names="runs and evaluations",
        metavar="RUN",
    )
    data: bool = option(
        False,
        "Add pictures of patients: example images, and masks over images. Without it the page has none.",
    )
    name: Name | None = option(
        None,
        "Name of the report, and of its folder.",
        shown="names of the runs, joined by -vs-; with --data it ends in -data",
        metavar="NAME",
    )
    batch_size: Annotated[int, Field(ge=1)] = option(
        64, "Images in a step, for runs that are evaluated first."
    )
    device: Device = option("auto", "Device for runs that are evaluated first.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)
