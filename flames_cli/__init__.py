"""FLAMES: federated, multi-modality tumour segmentation.

The names in `__all__` are the public API (docs/api.md). Each is loaded when it is first used, so that
`import flames_cli` takes a few milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flames_cli.api.adaptation import Adapted, adapt
    from flames_cli.api.data import Checked, DataSet, Preprocessed, check, make_phantoms, preprocess
    from flames_cli.api.evaluations import (
        Comparison,
        Evaluation,
        ModelScore,
        compare,
        evaluate,
        open_evaluation,
    )
    from flames_cli.api.federation import federate, federate_family
    from flames_cli.api.models import Exported, Model, Prediction, export, load_model, predict
    from flames_cli.api.pages import Map, ReportPage, tsne, write_report
    from flames_cli.api.partitions import (
        Client,
        Partition,
        TestSet,
        open_partition,
        partition,
        partition_folds,
    )
    from flames_cli.api.progress import Event
    from flames_cli.api.rounds import ClientRound, Round
    from flames_cli.api.runs import Family, Run, open_family, open_run
    from flames_cli.api.workspace import Workspace
    from flames_cli.config import (
        AdaptConfig,
        CheckConfig,
        CompareConfig,
        EvaluateConfig,
        ExportConfig,
        FederateConfig,
        PartitionConfig,
        PredictConfig,
        PreprocessConfig,
        ReportConfig,
        TsneConfig,
    )
    from flames_cli.core.federated.algorithm import Algorithm
    from flames_cli.core.federated.blend import Blend
    from flames_cli.core.federated.reports import Entries, Report
    from flames_cli.errors import FlamesError, MissingArtifact
    from flames_cli.learn.local_updates import LocalUpdate
    from flames_cli.learn.models.base import SegmentationModel
    from flames_cli.readers.base import BadCase, Listing, RawCase, Reader, ReadOptions, SkippedCase, Source
    from flames_cli.stages.federate.validation import ValidationRow
    from flames_cli.stages.predict.arrays import Segmentation
    from flames_cli.store.evaluations import EvaluatedRun
    from flames_cli.store.models import ModelInfo
    from flames_cli.trackers.base import TrackedRun, Tracker

__all__ = [
    "AdaptConfig",
    "Adapted",
    "Algorithm",
    "BadCase",
    "Blend",
    "CheckConfig",
    "Checked",
    "Client",
    "ClientRound",
    "CompareConfig",
    "Comparison",
    "DataSet",
    "Entries",
    "EvaluateConfig",
    "EvaluatedRun",
    "Evaluation",
    "Event",
    "ExportConfig",
    "Exported",
    "Family",
    "FederateConfig",
    "FlamesError",
    "Listing",
    "LocalUpdate",
    "Map",
    "MissingArtifact",
    "Model",
    "ModelInfo",
    "ModelScore",
    "Partition",
    "PartitionConfig",
    "PredictConfig",
    "Prediction",
    "PreprocessConfig",
    "Preprocessed",
    "RawCase",
    "ReadOptions",
    "Reader",
    "Report",
    "ReportConfig",
    "ReportPage",
    "Round",
    "Run",
    "Segmentation",
    "SegmentationModel",
    "SkippedCase",
    "Source",
    "TestSet",
    "TrackedRun",
    "Tracker",
    "TsneConfig",
    "ValidationRow",
    "Workspace",
    "__version__",
    "adapt",
    "check",
    "compare",
    "evaluate",
    "export",
    "federate",
    "federate_family",
    "load_model",
    "make_phantoms",
    "open_evaluation",
    "open_family",
    "open_partition",
    "open_run",
    "partition",
    "partition_folds",
    "predict",
    "preprocess",
    "tsne",
    "write_report",
]

_MODULES = {
    "api.adaptation": (
        "Adapted",
        "adapt",
    ),
    "api.data": (
        "Checked",
        "DataSet",
        "Preprocessed",
        "check",
        "make_phantoms",
        "preprocess",
    ),
    "api.evaluations": (
        "Comparison",
        "Evaluation",
        "ModelScore",
        "compare",
        "evaluate",
        "open_evaluation",
    ),
    "api.federation": (
        "federate",
        "federate_family",
    ),
    "api.models": (
        "Exported",
        "Model",
        "Prediction",
        "export",
        "load_model",
        "predict",
    ),
    "api.pages": (
        "Map",
        "ReportPage",
        "tsne",
        "write_report",
    ),
    "api.partitions": (
        "Client",
        "Partition",
        "TestSet",
        "open_partition",
        "partition",
        "partition_folds",
    ),
    "api.progress": ("Event",),
    "api.rounds": (
        "ClientRound",
        "Round",
    ),
    "api.runs": (
        "Family",
        "Run",
        "open_family",
        "open_run",
    ),
    "api.workspace": ("Workspace",),
    "config": (
        "AdaptConfig",
        "CheckConfig",
        "CompareConfig",
        "EvaluateConfig",
        "ExportConfig",
        "FederateConfig",
        "PartitionConfig",
        "PredictConfig",
        "PreprocessConfig",
        "ReportConfig",
        "TsneConfig",
    ),
    "core.federated.algorithm": ("Algorithm",),
    "core.federated.blend": ("Blend",),
    "core.federated.reports": (
        "Entries",
        "Report",
    ),
    "errors": (
        "FlamesError",
        "MissingArtifact",
    ),
    "learn.local_updates": ("LocalUpdate",),
    "learn.models.base": ("SegmentationModel",),
    "readers.base": (
        "BadCase",
        "Listing",
        "RawCase",
        "ReadOptions",
        "Reader",
        "SkippedCase",
        "Source",
    ),
    "stages.federate.validation": ("ValidationRow",),
    "stages.predict.arrays": ("Segmentation",),
    "store.evaluations": ("EvaluatedRun",),
    "store.models": ("ModelInfo",),
    "trackers.base": (
        "TrackedRun",
        "Tracker",
    ),
}
"""Names of `__all__` by their module: the imports above, which only type checkers make."""

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # First: Flower and torch read variables when they are imported.
    from flames_cli.stages.entrance import set_up_process

    set_up_process()
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted(__all__)
