"""`flames demo`: raw phantoms, then all real stages, with the baseline and FLAMES next to each other."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flames_cli.config import (
    CompareConfig,
    DemoConfig,
    EvaluateConfig,
    FederateConfig,
    PartitionConfig,
    PreprocessConfig,
    ReportConfig,
    TsneConfig,
)
from flames_cli.demo_data import draw_new_images
from flames_cli.errors import FlamesError
from flames_cli.fed.events import OnEvent, ignore
from flames_cli.learn.train_options import TrainOptions
from flames_cli.stages.compare.files import Comparison
from flames_cli.stages.compare.stage import compare
from flames_cli.stages.demo.phantoms import PATIENTS, draw_phantoms
from flames_cli.stages.evaluate.files import Evaluation
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import FederationResult, federate
from flames_cli.stages.partition.stage import Partitioned, make_partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.report.stage import Report, report
from flames_cli.stages.tsne.stage import Map, tsne
from flames_cli.store.files.atomic import remove_folder, write_text
from flames_cli.store.files.locks import locked
from flames_cli.store.runs import run_folder
from flames_cli.store.workspace import comparison_folder, evaluation_folder, map_folder, report_file

MARKER = "DEMO.txt"

PARTS = ("raw", "preprocessed", "partitions", "runs")
"""Folders that show that a workspace is in use."""

BASELINE, OURS = "fedavg", "flames"

NEW_IMAGES, NEW_MASKS = "new-images", "new-masks"
"""Folders of images that no stage has seen, and of their true masks."""

Watch = Callable[[str], AbstractContextManager[OnEvent]]
"""Function that starts to show the run of that strategy."""

SLICE_HALF_WIDTH = 1
"""Slices on either side of a brain tumour's mean slice; more patients with fewer slices train better."""

TRAINING = TrainOptions(local_epochs=2, batch_size=8, lr=3e-3, keep_epoch="last")
BASE_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Demo:
    """Results of all stages."""

    preprocessed: list[dict[str, Any]]
    partition: Partitioned
    runs: dict[str, FederationResult]
    evaluation: Evaluation
    """Result of FLAMES."""
    comparison: Comparison
    """FLAMES next to the baseline."""
    map: Map
    report: Report
    """Page about FLAMES, compared with the baseline."""
    new_images: list[Path]
    """Images that no stage has seen: brain, breast, ovary."""


def demo(
    config: DemoConfig, progress: Progress = silent, watch: Watch = lambda _: nullcontext(ignore)
) -> Demo:
    """Draw phantoms of brain MRI, breast US and ovary US, then preprocess, partition, federate twice,
    evaluate and embed them, and write a report, in a workspace of its own.

    Args:
        config: workspace, size, rounds and seed.
        progress: receives the steps of the stages.
        watch: starts to show a run, by the strategy's name.
    """
    _claim(config.workspace)
    shared = {"workspace": config.workspace, "seed": config.seed}
    raw = draw_phantoms(config.workspace / "raw", config.seed, PATIENTS, progress)
    preparing = PreprocessConfig(
        **shared,
        size=config.size,
        raw=raw,
        slice_half_width=SLICE_HALF_WIDTH,
        percentile=99.5,
        percentile_of="foreground",
        overwrite=True,
    )
    reports = [report for name in raw for report in preprocess(preparing, name, progress)]
    divided = make_partition(PartitionConfig(**shared, overwrite=True), progress)
    runs = {}
    for strategy in (BASELINE, OURS):
        options = FederateConfig(
            **shared,
            strategy=strategy,
            rounds=config.rounds,
            **asdict(TRAINING),
            lr_schedule="cosine",
            model="unet",
            model_options={"base_channels": BASE_CHANNELS, "depth": 4},
            device=config.device,
        )
        with watch(strategy) as on_event:
            runs[strategy] = federate(options, on_event)
    here = {**shared, "device": config.device}
    scored = evaluate(EvaluateConfig(**here, run=OURS), progress)
    compared = compare(CompareConfig(**here, runs=(BASELINE, OURS)), progress)
    mapped = tsne(TsneConfig(**here), progress)
    page = report(ReportConfig(**here, run=OURS, compare=(BASELINE,)), progress)
    new = draw_new_images(config.workspace / NEW_IMAGES, config.workspace / NEW_MASKS, config.seed)
    return Demo(reports, divided, runs, scored, compared, mapped, page, new)


def _claim(workspace: Path) -> None:
    """Mark `workspace` as the demo's, and delete what an earlier demo made of its two runs.

    Raises:
        FlamesError: it contains artifacts that the demo did not make, or a demo is running there.
    """
    marker = workspace / MARKER
    taken = any((workspace / name).exists() for name in (*PARTS, "partition.json"))
    if taken and not marker.is_file():
        raise FlamesError(f"{workspace} contains artifacts that are not the demo's; pass another --workspace")
    write_text(marker, "Made by `flames demo` from synthetic images, which overwrites all files here.\n")
    for strategy in (BASELINE, OURS):
        run = run_folder(workspace, strategy).path
        if run.is_dir():
            with locked(run):
                remove_folder(run)
        remove_folder(evaluation_folder(workspace, strategy))
    remove_folder(comparison_folder(workspace, f"{BASELINE}-vs-{OURS}"))
    remove_folder(map_folder(workspace, "pixels"))
    remove_folder(report_file(workspace, f"{OURS}-vs-{BASELINE}").parent)
