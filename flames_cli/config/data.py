"""Options of the commands that read raw data and divide it: check, preprocess, partition."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from flames_cli.config.section import RUN_PANEL, Section, option
from flames_cli.config.values import (
    Fold,
    Fraction,
    Labels,
    MaskThreshold,
    Name,
    Names,
    Rule,
    Sites,
    Split,
    Window,
)
from flames_cli.store.member_names import partition_name
from flames_cli.store.workspace import DEFAULT_PARTITION


class ReadConfig(Section):
    """Options of the commands that read raw data."""

    datasets: tuple[str, ...] = option(
        (),
        "Data set to read (`flames info` lists them), or manifest for your own data; may be repeated.",
        flag="--dataset",
        names="datasets",
    )
    raw: dict[str, Path] = option(
        {},
        "Raw folder of the one data set, or the CSV of a manifest.",
        shown="WORKSPACE/raw/DATASET",
        metavar="PATH",
    )
    root: Path | None = option(
        None,
        "Folder to which the paths of a manifest are relative, such as a read-only export of the PACS.",
        shown="folder of the CSV",
        metavar="DIR",
    )
    size: Annotated[int, Field(ge=16, le=2048)] = option(240, "Side of the square images, in pixels.")
    mask_resize: Literal["aligned", "paper"] = option(
        "aligned",
        "Resizing of masks: aligned with their images, or as in the FLAMES paper, up to half a pixel off.",
    )
    name: Name | None = option(None, "Name of the data sets of a manifest.", shown="name of its folder")
    channels: Literal["grey", "rgb"] = option("grey", "Channels to read: rgb for data sets with colour.")
    plane: Literal["axial", "coronal", "sagittal"] = option("axial", "Plane of the slices of a volume.")
    slices: Literal["near", "lesion", "all"] | None = option(
        None,
        "Slices of a volume: those near the mean slice of the tumour, all with tumour, or all.",
        shown="as in the paper of the data set",
    )
    empty: Literal["skip", "keep"] = option(
        "skip", "Images and volumes without a lesion: skip leaves them out, keep trains and tests on them."
    )
    slice_half_width: Annotated[int, Field(ge=0)] = option(
        20, "Slices on either side of the tumour's mean slice, for --slices near."
    )
    window: dict[str, Window] = option(
        {},
        "Intensities that become black and white, such as CT=-160,240 in HU, also for names such as CT-CE.",
        shown="window of the data set",
        metavar="MODALITY=LOW,HIGH",
    )
    percentile: Annotated[float, Field(gt=0, le=100)] = option(
        95.0, "Percentile that becomes white in a volume or 16-bit image without a window."
    )
    percentile_of: Literal["all", "foreground"] = option(
        "all",
        "Voxels of which the percentile is taken: all, as in the paper, or foreground, those above 0.",
    )
    labels: Labels = option(
        (),
        "Labels of the masks of a manifest that are tumour, by number, name or colour, such as 2 or 2,3; "
        "its column labels overrides them.",
        shown="the only label of each mask",
        metavar="LABEL,…",
    )
    mask_threshold: MaskThreshold | None = option(
        None,
        "Smallest value that is tumour in soft masks (probabilities, JPEG); HALF: half of full scale.",
        shown="the data set's own, else none: soft masks are rejected",
        metavar="HALF|VALUE",
    )
    accept: Path | None = option(
        None, "TOML file of findings to accept, with the id of each and a reason.", metavar="FILE"
    )
    workers: Annotated[int, Field(ge=0)] = option(
        0, "Number of threads or processes; 0: one for each core.", RUN_PANEL
    )
    cache: bool = option(
        True,
        "Read unchanged files once for check and preprocess: WORKSPACE/cache contains patients' images.",
        RUN_PANEL,
    )


class CheckConfig(ReadConfig):
    """Options of `flames check`."""

    no_option = ("seed",)


class PreprocessConfig(ReadConfig):
    """Options of `flames preprocess`."""

    server_test: Annotated[float, Field(ge=0)] | None = option(
        None,
        "Images (1 or more) or fraction of patients (below 1) for the server's test set.",
        shown="number of the paper, at most a quarter of the patients; without a paper a tenth",
    )
    test_fraction: Fraction = option(0.2, "Fraction of the other patients for the clients' test sets.")
    only: Literal["server-test"] | None = option(
        None,
        "The one set of all patients: server-test makes a data set on which no client trains, such as one of "
        "another modality or organ. It replaces --server-test and --test-fraction.",
        shown="all sets",
    )
    small: dict[str, Rule] = option(
        {},
        "Rule for small lesions: DATASET=area:RATIO or DATASET=box:RATIO. Lesions are small if the image is "
        "at least RATIO times as large as they, or as the box of the smallest. :BASE of FedGS's logarithm "
        "may follow.",
        shown="rule of the data set",
        metavar="DATASET=RULE",
    )
    keep_columns: Names = option(
        (),
        "Columns of a manifest to keep, such as sex,age_group, by which results can be compared. Their "
        "values are in shards and in the tables of flames evaluate: keep none that identifies a patient.",
        shown="none",
        metavar="COLUMN,…",
    )
    duplicate_list: Path | None = option(None, "CSV of known copies, column Filename: {a.png&b.png}.")
    salt_file: Path | None = option(
        None,
        "File with the site's salt, from which the pseudonyms of patients are made: 64 or more hex digits.",
        shown="WORKSPACE/private/salt, drawn at the first use",
    )
    skip_bad: bool = option(False, "Leave bad cases out instead of stopping.")
    overwrite: bool = option(False, "Replace existing output.", RUN_PANEL)


class PartitionConfig(Section):
    """Options of `flames partition`."""

    name: Name = option(
        DEFAULT_PARTITION,
        "Name of the partition, for `flames federate --partition`.",
        names="partitions",
        metavar="NAME",
    )
    datasets: tuple[str, ...] = option(
        (),
        "Data set to divide between clients; may be repeated.",
        flag="--dataset",
        names="datasets",
        shown="all preprocessed",
    )
    split: dict[str, Split] = option(
        {},
        "Number of clients, divided by patient, or DATASET=site for one client per centre; may be repeated.",
        shown="brats=3; polypgen, lits, lits-slices by site; others 1",
        metavar="DATASET=CLIENTS",
    )
    skew: Annotated[float, Field(gt=0, le=1e6)] | None = option(
        None,
        "Dirichlet concentration of the clients' shares; small values are uneven, such as 0.5.",
        shown="even shares",
    )
    fold: Fold | None = option(
        None,
        "Fold K of an N-fold cross-validation becomes the clients' test set.",
        shown="as preprocessed",
        metavar="K/N",
    )
    folds: Annotated[int, Field(ge=2, le=999)] | None = option(
        None,
        "All N folds of a cross-validation, as partitions fold-1 to fold-N (with --name: NAME-fold-1, …).",
        shown="one partition",
        metavar="N",
    )
    hold_out_site: dict[str, Sites] = option(
        {},
        "Centre whose images no client gets; the server tests on them. May be repeated.",
        metavar="DATASET=SITE",
    )
    val_fraction: Fraction = option(
        0.1, "Fraction of each client's training patients, held out to select the epoch and the round."
    )
    different_people: bool = option(
        False, "Divide data sets that share ids of patients: the same id means another person in each."
    )
    overwrite: bool = option(
        False,
        "Make an existing partition again. If a run was made on it, the old one is renamed, such as "
        "default-old-1.",
        RUN_PANEL,
    )

    @property
    def members(self) -> "list[PartitionConfig]":
        """Options of each partition: one for each fold, or only these."""
        if self.folds is None:
            return [self]
        changes = (
            {"name": partition_name(self.name, k), "fold": f"{k}/{self.folds}", "folds": None}
            for k in range(1, self.folds + 1)
        )
        return [self.model_copy(update=change) for change in changes]

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """Numbers K and N of `fold`; None without a fold."""
        if self.fold is None:
            return None
        k, n = self.fold.split("/")
        return int(k), int(n)
