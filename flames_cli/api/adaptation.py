"""Adaptation of a trained model to the images of one hospital."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.api.options import PathLike, make_config, takes
from flames_cli.api.progress import Callback, stage_progress
from flames_cli.config import AdaptConfig
from flames_cli.stages.adapt.stage import adapt as adapt_stage
from flames_cli.store.models import ModelInfo


@dataclass(frozen=True, slots=True)
class Adapted:
    """Model folder that was adapted to one client, and its test."""

    name: str
    folder: Path
    """Folder for `load_model` and `predict`."""
    sha256: str
    """Checksum of its weights."""
    facts: ModelInfo = field(repr=False)
    """Facts about the model; `facts.training.base` has the model it was made from, and the choice."""
    chosen: str
    """Name of the chosen candidate, such as fine-tuned or as it is."""
    candidates: list[dict[str, Any]] = field(repr=False)
    """Name, share of fine-tuned weights and validation Dice of each candidate."""
    tests: list[dict[str, Any]] = field(repr=False)
    """Dice of both models on the client's test patients, of volumes and of images; empty without any."""
    notes: list[str] = field(repr=False)


@takes(AdaptConfig)
def adapt(
    config: AdaptConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Adapted:
    """Adapt a trained model to the images of one hospital, whose validation patients choose.

    Nothing is overwritten, and the test patients choose nothing.

    Args:
        config: options as an `AdaptConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no such model, shard or partition.
        FlamesError: an option is wrong, the images are not such as the model is for, or the model was trained
            on the hospital's test patients.

    Examples:
        >>> us = flames.export(run="flames", model="US", name="us-of-all", workspace=workspace)
        >>> made = flames.adapt(model=us.name, client="busi", epochs=1, workspace=workspace)
        >>> made.name, made.facts.training.kind, made.facts.training.base.sha256 == us.sha256
        ('us-of-all-busi', 'adapted', True)
    """
    chosen = make_config(AdaptConfig, config, options)
    with stage_progress(progress) as report:
        made = adapt_stage(chosen, report)
    return Adapted(
        name=made.info.name,
        folder=made.folder,
        sha256=made.info.sha256,
        facts=made.info,
        chosen=made.chosen,
        candidates=[asdict(one) for one in made.candidates],
        tests=[asdict(one) for one in made.tests],
        notes=list(made.notes),
    )
