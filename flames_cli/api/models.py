"""Trained models: export, prediction on files, and prediction on arrays."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flames_cli.api.options import PathLike, find_workspace, make_config, takes
from flames_cli.api.progress import Callback, stage_progress
from flames_cli.config import ExportConfig, PredictConfig
from flames_cli.errors import FlamesError
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.use import Predictor, open_model
from flames_cli.stages.export.stage import export as export_stage
from flames_cli.stages.predict.arrays import Segmentation, segment_array
from flames_cli.stages.predict.models import ChosenModel, choose_models
from flames_cli.stages.predict.stage import predict as predict_stage
from flames_cli.store.models import ModelInfo
from flames_cli.store.prediction_folder import case_record

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """Model folder that was written, or that was there already."""

    name: str
    folder: Path
    """Folder for `load_model` and `predict`, which can be given to others."""
    sha256: str
    """Checksum of its weights."""
    facts: ModelInfo = field(repr=False)
    archive: Path | None
    """The zip file; None: it was not asked for."""
    files: list[Path]
    """Files for other programs: ONNX, torch.export, MONAI bundle."""
    notes: list[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Masks that models predicted in image files."""

    folder: Path
    models: list[str]
    cases: list[Record] = field(repr=False)
    """One record for each input, with the columns of cases.csv; `status` is done or failed."""
    skipped: int
    """Number of inputs that were done before with the same models and options."""
    scores: Record | None = field(repr=False)
    """Summary of the scores against true masks; None without `truth`."""
    notes: list[str] = field(repr=False)

    @property
    def masks(self) -> dict[str, Path]:
        """File of each mask, by name of the input."""
        return {case["input"]: self.folder / case["mask"] for case in self.cases if case["status"] == "done"}

    @property
    def failed(self) -> dict[str, str]:
        """Reason for each input without a mask."""
        return {case["input"]: case["reason"] for case in self.cases if case["status"] == "failed"}


class Model:
    """A trained model in memory, for images as arrays."""

    def __init__(self, chosen: ChosenModel, predictor: Predictor, threshold: float) -> None:
        self._chosen, self._predictor = chosen, predictor
        self.threshold = threshold
        """Probability above which a pixel is tumour."""

    @property
    def facts(self) -> ModelInfo:
        """Facts about the model: architecture, images that it is for, origin, validation, licence."""
        return self._chosen.info

    def predict(
        self,
        image: NDArray[Any],
        *,
        threshold: float | None = None,
        tta: Literal["none", "flips"] = "none",
        largest_only: bool = False,
    ) -> Segmentation:
        """Return the probabilities and the mask of tumour in one image, as `flames predict` finds them.

        Args:
            image: H×W, or H×W×3 of red, green and blue. uint8 is used as it is; other values are scaled by
                the window or percentile of the model (`facts.input.intensities`).
            threshold: probability above which a pixel is tumour; None: that of the model.
            tta: test-time augmentation: none, or the mean over the image and its three flips.
            largest_only: True: only the largest connected part of the mask stays.

        Raises:
            FlamesError: the array is no image, or its values need a rule that the model does not state; pass
                `window` or `percentile` to `load_model`.

        Examples:
            >>> import numpy as np
            >>> model = flames.load_model(run="flames", modality="US", workspace=workspace)
            >>> found = model.predict(np.zeros((40, 60), np.uint8))
            >>> found.mask.shape, found.probabilities.dtype
            ((40, 60), dtype('float32'))
        """
        limit = self.threshold if threshold is None else threshold
        if not 0 < limit < 1:
            raise FlamesError(f"got threshold={limit}, expected a number above 0 and below 1; correct it")
        if tta not in ("none", "flips"):
            raise FlamesError(f"got tta={tta!r}, expected none or flips; correct it")
        rule = MaskRule(limit, tta, largest_only)
        return segment_array(np.asarray(image), self._chosen.preparation, self._predictor, rule)

    def __repr__(self) -> str:
        """Return name, modality and architecture."""
        info = self.facts
        return f"Model({info.name!r}, {info.input.modality}, {info.architecture.model})"


@takes(ExportConfig)
def export(config: ExportConfig | PathLike | None = None, **options: Any) -> Exported:
    """Write a model of a run as a folder, which can be used without the run and given to others.

    Args:
        config: options as an `ExportConfig`, or the path of a TOML file; the keywords replace them.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: an option is wrong, or no model or an unknown one is named.

    Examples:
        >>> made = flames.export(run="flames", model="US", name="us", workspace=workspace)
        >>> made.facts.input.modality, made.facts.training.strategy
        ('US', 'flames')
    """
    made = export_stage(make_config(ExportConfig, config, options))
    aside = [f"the earlier model is called {made.aside} now"] if made.aside else []
    return Exported(
        name=made.info.name,
        folder=made.folder,
        sha256=made.info.sha256,
        facts=made.info,
        archive=made.archive,
        files=[made.folder / one.path for one in made.formats],
        notes=[*made.notes, *aside],
    )


@takes(PredictConfig)
def predict(
    config: PredictConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Prediction:
    """Predict the tumours in image files, and write masks in the geometry of the images.

    An input that fails does not end the others: see `Prediction.failed`.

    Args:
        config: options as a `PredictConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no such model or run.
        FlamesError: an option is wrong, or none of the inputs could be predicted.

    Examples:
        >>> found = flames.predict(inputs=[image], run="flames", modality="US", workspace=workspace)
        >>> found.cases[0]["status"], len(found.masks)
        ('done', 1)
    """
    chosen = make_config(PredictConfig, config, options)
    with stage_progress(progress) as report:
        made = predict_stage(chosen, report)
    return Prediction(
        folder=made.folder,
        models=list(made.models),
        cases=[case_record(case) for case in made.cases],
        skipped=made.skipped,
        scores=asdict(made.truth) if made.truth else None,
        notes=[f"the earlier prediction is called {made.aside} now"] if made.aside else [],
    )


def load_model(
    model: PathLike | None = None,
    *,
    run: str | None = None,
    client: str | None = None,
    modality: str | None = None,
    round: int | str | None = None,
    window: tuple[float, float] | None = None,
    percentile: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    workspace: PathLike | None = None,
) -> Model:
    """Return a trained model that is ready for images as arrays.

    Args:
        model: a model folder, or the name of one in the workspace.
        run: in place of `model`, the run whose model is loaded, with `client` or `modality`.
        client: client of the run whose personalised model is loaded.
        modality: modality of the run whose server model is loaded.
        round: round of the run: best, best-small, last, or a number.
        window: intensities that become black and white, in place of the model's own rule.
        percentile: percentile that becomes white, in place of the model's own rule.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
        workspace: folder of the artifacts; None: that of FLAMES_WORKSPACE, or `flames-workspace`.

    Raises:
        MissingArtifact: there is no such model or run.
        FlamesError: an option is wrong, or the model is damaged.

    Examples:
        >>> model = flames.load_model(run="flames", client="busi", workspace=workspace)
        >>> model.facts.input.size, model.threshold
        (32, 0.5)
    """
    given = {
        "models": () if model is None else model,
        "run": run,
        "client": client,
        "modality": modality,
        "round": round,
        "window": window,
        "percentile": percentile,
        "device": device,
        "precision": precision,
        "workspace": find_workspace(workspace),
    }
    config = make_config(PredictConfig, None, given)
    chosen = choose_models(config)[0]
    predictor = open_model(chosen.info, chosen.weights, config.device, config.precision)
    return Model(chosen, predictor, chosen.info.threshold)
