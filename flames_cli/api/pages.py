"""Pictures and pages about data and runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.api.options import PathLike, make_config, takes
from flames_cli.api.progress import Callback, stage_progress
from flames_cli.config import ReportConfig, TsneConfig
from flames_cli.stages.report.stage import report as report_stage
from flames_cli.stages.tsne.stage import tsne as tsne_stage


@dataclass(frozen=True, slots=True)
class Map:
    """Map of the clients' training images by t-SNE."""

    folder: Path
    files: list[Path]
    """The pictures, and a CSV with the place of each image."""
    images: dict[str, int] = field(repr=False)
    """Number of images by client."""
    silhouette_modality: float | None
    """Silhouette of the modalities before t-SNE, in [-1, 1]; None with one modality."""
    silhouette_client: float | None


@dataclass(frozen=True, slots=True)
class ReportPage:
    """HTML page about a run."""

    name: str
    run: str
    page: Path
    has_patients: bool
    """True if it contains pictures of patients."""
    notes: list[str] = field(repr=False)


@takes(TsneConfig)
def tsne(
    config: TsneConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Map:
    """Draw a map of the clients' training images, by modality and by client.

    Args:
        config: options as a `TsneConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no partition or run.
        FlamesError: an option is wrong, or there are too few images.

    Examples:
        >>> made = flames.tsne(perplexity=3, workspace=workspace)
        >>> sorted(made.images)
        ['brats-1', 'brats-2', 'busi']
    """
    with stage_progress(progress) as report:
        made = tsne_stage(make_config(TsneConfig, config, options), report)
    files = [made.folder / name for name in made.files]
    return Map(made.folder, files, dict(made.images), made.silhouette_modality, made.silhouette_client)


@takes(ReportConfig)
def write_report(
    config: ReportConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> ReportPage:
    """Write one HTML page about a run: its data, rounds, results, cost, and how to repeat it.

    Args:
        config: options as a `ReportConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no such run.
        FlamesError: an option is wrong.

    Examples:
        >>> flames.write_report(run="flames", workspace=workspace).page.name
        'report.html'
    """
    with stage_progress(progress) as report:
        made = report_stage(make_config(ReportConfig, config, options), report)
    aside = [f"the earlier report is called {made.aside} now"] if made.aside else []
    notes = [*([made.no_results] if made.no_results else []), *aside]
    return ReportPage(made.name, made.run, made.path, made.pictures, notes)
