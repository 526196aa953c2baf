"""Options of the commands that use what a run made: export, predict, report."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from flames_cli.config.section import RUN_PANEL, Section, option
from flames_cli.config.values import DEFAULT_ROUND, Device, Labels, Name, Names, Precision, Round, Window

Format = Literal["onnx", "torch-export", "monai-bundle"]
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
        "File for other programs, written into the folder and checked against torch: onnx (model.onnx), "
        "torch-export (model.pt2), or monai-bundle (a folder for MONAI's bundle runner); may be repeated.",
        flag="--format",
        shown="none",
        metavar="[onnx|torch-export|monai-bundle]",
    )


class PredictConfig(Section):
    """Options of `flames predict`."""

    no_option = ("seed",)

    inputs: tuple[str, ...] = option(
        (),
        "Images: files (PNG, JPEG, TIFF, BMP, NIfTI, DICOM), folders, patterns, or a manifest (.csv) with "
        "the column image.",
        metavar="FILE…",
        argument=True,
    )
    models: tuple[str, ...] = option(
        (),
        "Model: its folder, or its name in models/ of the workspace; may be repeated for an ensemble, whose "
        "probability is the mean.",
        flag="--model",
        shown="none: pass --run",
        metavar="MODEL",
    )
    run: Name | None = option(
        None, "Run whose model predicts, without an export.", shown="the newest", names="runs"
    )
    client: str | None = option(
        None, "Client of the run whose personalised model predicts.", shown="none", metavar="NAME"
    )
    modality: str | None = option(
        None, "Modality of the run whose server model predicts.", shown="none", metavar="MODALITY"
    )
    round: Round | None = option(
        None,
        "Round of the run: best, best-small, last or a number, as in `flames evaluate`.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    out: Path | None = option(
        None, "Folder of the masks.", shown="predictions/MODEL in the workspace", metavar="DIR"
    )
    root: Path | None = option(
        None,
        "Folder to which the paths of a manifest are relative.",
        shown="folder of the CSV",
        metavar="DIR",
    )
    keep_columns: Names = option(
        (),
        "Columns of a manifest to keep in cases.csv.",
        shown="none",
        metavar="COLUMN,…",
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = option(
        None, "Probability above which a pixel is tumour.", shown="threshold of the model", metavar="NUMBER"
    )
    tta: Literal["none", "flips"] = option(
        "none", "Test-time augmentation: none, or the mean over the image and its three flips."
    )
    postprocess: Literal["none", "largest"] = option(
        "none", "Clean-up of masks: largest keeps the largest connected part of each volume or image only."
    )
    probabilities: bool = option(False, "Also write the probabilities, in the geometry of the image.")
    overlays: bool = option(True, "Draw the masks over the images.")
    window: Window | None = option(
        None,
        "Intensities that become black and white, in place of the model's own rule.",
        shown="rule of the model",
        metavar="LOW,HIGH",
    )
    percentile: Annotated[float, Field(gt=0, le=100)] | None = option(
        None,
        "Percentile that becomes white, in place of the model's own rule.",
        shown="rule of the model",
        metavar="NUMBER",
    )
    percentile_of: Literal["all", "foreground"] = option(
        "all", "Voxels of which --percentile is taken: all, or foreground, those above 0."
    )
    any_modality: bool = option(
        False, "Also predict on images whose DICOM file or manifest states another modality than the model's."
    )
    truth: str | None = option(
        None,
        "Score the masks: with the masks of the manifest, or with those in FOLDER, which have the names of "
        "the images, or with one FILE.",
        shown="no scores",
        metavar="[PATH]",
        optional_value=True,
    )
    labels: Labels = option(
        (),
        "Labels of the masks of --truth that are tumour; a manifest's column labels overrides them.",
        shown="the only label of each mask",
        metavar="LABEL,…",
    )
    metrics: Names = option(
        (),
        "Metric of a plug-in (`flames info --plugins`) that is computed with --truth, too; may be repeated.",
        flag="--metric",
        names="extra metrics",
        metavar="NAME",
    )
    batch_size: Annotated[int, Field(ge=1)] | None = option(
        None, "Images in a step.", RUN_PANEL, shown="2 on a CPU, else 32", metavar="NUMBER"
    )
    workers: Annotated[int, Field(ge=0)] = option(
        0, "Number of threads that read images; 0: one for each core.", RUN_PANEL
    )
    device: Device = option("auto", "Device for prediction.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)


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
