"""Models that are adapted to one hospital."""

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
    """Model folder for one client, made of a trained model and the client's own images."""

    name: str
    folder: Path
    """Folder for `load_model` and `predict`."""
    facts: ModelInfo = field(repr=False)
    client: str
    chosen: str
    """The weights that validation chose: fine-tuned, a mixture with the model, or the model as it was."""
    candidates: list[dict[str, Any]] = field(repr=False)
    """One record for each of the weights from which it was chosen: name, share, dice."""
    tests: list[dict[str, Any]] = field(repr=False)
    """One record for volumes and one for images of the client's test set, with the Dice of both models."""
    notes: list[str] = field(repr=False)


@takes(AdaptConfig)
def adapt(
    config: AdaptConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Adapted:
    """Adapt a trained model to the images of one client, without a federation.

    Args:
        config: options as an `AdaptConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no such model, shard or partition.
        FlamesError: an option is wrong; the images are not such as the model is for; or a model of the new
            name is there.

    Examples:
        >>> _ = flames.export(run="flames", model="US", name="to-adapt", workspace=workspace)
        >>> made = flames.adapt(model="to-adapt", client="busi", epochs=1, workspace=workspace)
        >>> made.name, made.facts.training.kind
        ('to-adapt-busi', 'adapted')
    """
    with stage_progress(progress) as report:
        made = adapt_stage(make_config(AdaptConfig, config, options), report)
    return Adapted(
        name=made.info.name,
        folder=made.folder,
        facts=made.info,
        client=made.client,
        chosen=made.chosen,
        candidates=[asdict(one) for one in made.candidates],
        tests=[asdict(one) for one in made.tests],
        notes=list(made.notes),
    )
