"""The steps of a prediction: threads read inputs and write masks while the models compute."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flames_cli import __version__
from flames_cli.config import PredictConfig
from flames_cli.core.scores.extra_metrics import extra_metrics
from flames_cli.errors import FlamesError, NotWritten
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.use import open_model
from flames_cli.readers.inputs import InputImage
from flames_cli.stages.parallel import weighted_map
from flames_cli.stages.predict.familiarity import find_warnings, require_modality
from flames_cli.stages.predict.files import Folder
from flames_cli.stages.predict.masks import Member, Predicting, SourceMask, in_file_geometry
from flames_cli.stages.predict.measures import measure
from flames_cli.stages.predict.models import ChosenModel
from flames_cli.stages.predict.pictures import write_overlays
from flames_cli.stages.predict.preparing import InputHashes, ModelPreparation, Prepared, prepare
from flames_cli.stages.predict.truth import TruthSource, score
from flames_cli.store.prediction_folder import PredictedCase
from flames_cli.writers.label import ModelLabel
from flames_cli.writers.masks import write_mask, write_probabilities

STILL_WEIGHT = 1 / 32
"""Weight of a still image while a volume weighs 1: so many may be in memory in place of one volume."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Input that cannot be predicted."""

    image: InputImage
    sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Found:
    """Input with the mask that the models found in it."""

    prepared: Prepared
    mask: SourceMask
    seconds: float
    """Seconds that the models took."""


Ready = Prepared | _Failed | PredictedCase
"""An input that was read: ready for the models, failed, or done before."""
Done = _Found | _Failed | PredictedCase
"""An input after the models."""


class Work:
    """The steps of one command: threads read images and write results while the models compute."""

    def __init__(
        self,
        config: PredictConfig,
        models: Sequence[ChosenModel],
        truth: TruthSource | None,
        rule: MaskRule,
        folder: Folder,
    ) -> None:
        self._config, self._models, self._truth, self._folder = config, models, truth, folder
        self._preparations: tuple[ModelPreparation, ...] = tuple(
            dict.fromkeys(model.preparation for model in models)
        )
        members = [
            Member(
                open_model(model.info, model.weights, config.device, config.precision, config.batch_size),
                self._preparations.index(model.preparation),
            )
            for model in models
        ]
        self._predicting = Predicting(tuple(members), self._preparations, rule, config.probabilities)
        self._at_once = max(member.predictor.batch_size for member in members)
        self._hashes = InputHashes()
        self._label = ModelLabel("+".join(folder.content.models), __version__)

    def run(self, inputs: Sequence[InputImage]) -> Iterator[tuple[PredictedCase, bool]]:
        """Yield the result of each input in order, and whether it was done before."""
        read = weighted_map(self._read, inputs, _weight_of_reading, self._config.workers)
        written = weighted_map(self._write, self._compute(read), _weight_of_writing, self._config.workers)
        for case, is_old in written:
            if not is_old:
                self._folder.append(case)
            yield case, is_old

    def _read(self, image: InputImage) -> Ready:
        if image.problem:
            return _Failed(image, "", image.problem)
        digest = ""
        try:
            digest = self._hashes.of_image(image)
            of_truth = self._hashes.of_truth(self._truth.of(image) if self._truth else None)
            if not self._config.any_modality:
                for model in self._models:
                    require_modality(image, model.info.name, model.info.input.modality)
            if old := self._folder.find_done(image.name, digest, of_truth):
                return replace(old, **self._origin(image))
            made = prepare(image, digest, self._preparations, self._config.overlays, self._truth)
            return replace(made, truth_sha256=of_truth)
        except OSError as error:
            what = error.strerror or type(error).__name__
            return _Failed(image, digest, f"it cannot be read ({what}); check the file and its rights")
        except FlamesError as error:
            # The name is in the line already: that of the file, or of the folder of a series.
            first = image.files[0]
            reason = str(error).removeprefix(f"{first.name}: ").removeprefix(f"{first.parent.name}: ")
            return _Failed(image, digest, reason)

    def _compute(self, read: Iterator[Ready]) -> Iterator[Done]:
        """Yield each input with its mask; stills go through the models together, as many as are in a step."""
        group: list[Ready] = []
        n_stills = 0
        for ready in read:
            group.append(ready)
            n_stills += isinstance(ready, Prepared)
            if not n_stills or n_stills >= self._at_once or (isinstance(ready, Prepared) and ready.is_volume):
                yield from self._predict(group)
                group, n_stills = [], 0
        yield from self._predict(group)

    def _predict(self, group: Sequence[Ready]) -> Iterator[Done]:
        start = time.perf_counter()
        prepared = [one for one in group if isinstance(one, Prepared)]
        masks = iter(self._predicting.predict(prepared))
        seconds = (time.perf_counter() - start) / max(1, len(prepared))
        for one in group:
            yield _Found(one, next(masks), seconds) if isinstance(one, Prepared) else one

    def _write(self, done: Done) -> tuple[PredictedCase, bool]:
        if isinstance(done, PredictedCase):
            return done, True
        if isinstance(done, _Failed):
            return self._failed(done.image, done.sha256, done.reason), False
        start, prepared = time.perf_counter(), done.prepared
        try:
            case = self._finish(prepared, done.mask)
        except NotWritten:
            raise
        except FlamesError as error:
            return self._failed(prepared.image, prepared.sha256, str(error)), False
        spent = prepared.seconds + done.seconds + time.perf_counter() - start
        return replace(case, seconds=round(spent, 4)), False

    def _failed(self, image: InputImage, digest: str, reason: str) -> PredictedCase:
        self._folder.clear(image.name)
        return replace(self._facts(image, digest), status="failed", reason=reason)

    def _facts(self, image: InputImage, digest: str) -> PredictedCase:
        return PredictedCase(
            input=image.name, sha256=digest, status="done", model=self._label.name, **self._origin(image)
        )

    @staticmethod
    def _origin(image: InputImage) -> dict[str, Any]:
        """Return the fields that say where an input is from; its bytes do not decide them."""
        return {
            "path": str(image.files[0].absolute()),
            "modality": image.modality,
            "patient": image.source.patient,
            "extra": dict(image.source.extra),
        }

    def _finish(self, prepared: Prepared, found: SourceMask) -> PredictedCase:
        """Write the files of one input, and return its line of the table."""
        image, folder = prepared.image, self._folder
        folder.clear(image.name, prepared.sha256)
        written = write_mask(
            in_file_geometry(found.stack, prepared),
            image,
            folder.mask(image.name),
            self._label,
            overwrite=True,
        )
        if found.probabilities is not None:
            values = in_file_geometry(found.probabilities, prepared)
            write_probabilities(values, image, folder.probabilities(image.name), self._label, overwrite=True)
        if self._config.overlays:
            write_overlays(folder.overlay(image.name), prepared, found)
        warnings = {
            line: None
            for member, model in zip(self._predicting.members, self._models, strict=True)
            for line in find_warnings(prepared, model.info, prepared.squares[member.preparation])
        }
        scores = None
        if prepared.truth is not None:
            scores = score(
                found.stack,
                prepared.truth,
                prepared.voxel_mm,
                prepared.is_volume,
                extra_metrics(self._config.metrics),
                image.name,
            )
        return replace(
            self._facts(image, prepared.sha256),
            mask=written.path.relative_to(folder.path).as_posix(),
            slices=prepared.n,
            mean_probability=found.mean_probability,
            max_probability=found.max_probability,
            warnings=(*warnings, *prepared.notes, *written.notes),
            truth=scores,
            truth_sha256=prepared.truth_sha256,
            **asdict(measure(found.stack, prepared)),
        )


def _weight_of_reading(image: InputImage) -> float:
    return 1.0 if image.is_volume else STILL_WEIGHT


def _weight_of_writing(done: Done) -> float:
    # A volume is written before the models begin with the next one, which is in memory already.
    return 2.0 if isinstance(done, _Found) and done.prepared.is_volume else STILL_WEIGHT
