"""`flames export`: write a model of a run as a model folder, which can be used and given to others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import ExportConfig
from flames_cli.core.federated.reports import find_not_finite
from flames_cli.errors import FlamesError
from flames_cli.report.model_card import write_card
from flames_cli.stages.export.making import list_models, make_model, name_model
from flames_cli.stages.export.source_runs import SourceRun, read_source_run
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import TEMPORARY
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.locks import locked
from flames_cli.store.model_archives import pack_model
from flames_cli.store.model_formats import WrittenFormat
from flames_cli.store.models import ModelInfo, find_same, write_model
from flames_cli.store.workspace import model_folder


@dataclass(frozen=True, slots=True)
class Exported:
    """A model folder that was written, or that was there already."""

    folder: Path
    info: ModelInfo
    is_new: bool = True
    """False if the folder had the same content already."""
    aside: str = ""
    """Name that an earlier model of this name has now; empty: there was none, or it is the same."""
    archive: Path | None = None
    """The zip file; None: not asked."""
    notes: tuple[str, ...] = ()
    """Remarks for the user."""
    formats: tuple[WrittenFormat, ...] = ()
    """Files for other programs that were written into the folder."""

    def as_json(self) -> dict[str, Any]:
        """Return the result for --json."""
        training = self.info.training
        return {
            "model": self.info.name,
            "folder": str(self.folder),
            "new": self.is_new,
            "aside": self.aside or None,
            "zip": str(self.archive) if self.archive else None,
            "sha256": self.info.sha256,
            "run": training.run,
            "round": training.round,
            "why": training.why,
            "formats": [asdict(one) for one in self.formats],
            "notes": list(self.notes),
        }


def export(config: ExportConfig) -> Exported:
    """Write the model folder, and the zip file if it is asked for.

    An earlier model of the same name and with other content is renamed.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: no model or an unknown one is named; the weights are not finite; another process writes
            a model of this name; or a file for other programs cannot be made or differs from torch.
        NotWritten: the disk is full.
    """
    if config.formats:
        from flames_cli.learn.formats.writing import require_formats

        require_formats(config.formats)
    run = read_source_run(config.workspace, config.run, config.round)
    if config.model is None:
        raise FlamesError(
            f"got no model of run '{run.folder.name}' to export; pass --model with one of "
            f"{', '.join(list_models(run))}"
        )
    info, weights = make_model(run, config.model)
    if fault := find_not_finite(weights):
        raise FlamesError(
            f"{config.model} of run '{run.folder.name}' cannot be exported ({fault}), expected finite "
            "weights; pass an earlier --round, or federate again with a smaller --lr"
        )
    name = config.name or name_model(run.folder.name, config.model)
    info = replace(info, name=name, threshold=config.threshold, licence=config.licence)
    made = replace(_write(model_folder(config.workspace, name), info, weights), notes=_notes(run))
    if config.formats:
        made = replace(made, formats=_write_formats(made, run, weights, config.formats))
    if not config.zip:
        return made
    return replace(made, archive=_pack(made.folder))


def _pack(folder: Path) -> Path:
    """Write the zip file; an earlier one with other content is renamed."""
    archive = folder.with_name(f"{folder.name}.zip")
    new = archive.with_name(f".{archive.name}{TEMPORARY}")
    try:
        pack_model(folder, new)
        if not archive.exists() or hash_file(archive) != hash_file(new):
            set_aside(archive)
            new.replace(archive)
    finally:
        new.unlink(missing_ok=True)
    return archive


def _write_formats(
    made: Exported, run: SourceRun, weights: Weights, formats: Sequence[str]
) -> tuple[WrittenFormat, ...]:
    # Imported here, since it imports torch, which takes seconds.
    from flames_cli.stages.export.formats import export_formats

    with locked(made.folder, _busy(made.info)):
        return tuple(export_formats(made.folder, run, made.info, weights, formats))


def _notes(run: SourceRun) -> tuple[str, ...]:
    """Return what a user should know about the round of the models."""
    if not run.has_stale_statistics:
        return run.plugin_notes
    return (
        *run.plugin_notes,
        f"the clients did not estimate the statistics of BatchNorm of round {run.state.round}, so the model "
        "has those of training; the last and the best round have better ones",
    )


def _write(folder: Path, info: ModelInfo, weights: Weights) -> Exported:
    card = write_card(info)
    with locked(folder, _busy(info)):
        if found := find_same(folder, info, weights, card):
            return Exported(folder, found, is_new=False)
        aside = set_aside(folder)
        made = write_model(folder, info, weights, card)
    return Exported(folder, made, aside=aside.name if aside else "")


def _busy(info: ModelInfo) -> str:
    return f"another process writes model '{info.name}'; wait for its end, or pass another --name"
