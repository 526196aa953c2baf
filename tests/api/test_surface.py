"""The public API is exactly what this file lists: a change here is a change for every user (docs/api.md)."""

import ast
import inspect
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import flames_cli as flames
from tests.support.command_line import shell_environment

FUNCTIONS = {
    "adapt": "(config=None, *, progress=None, **AdaptConfig) -> Adapted",
    "check": "(config=None, *, progress=None, **CheckConfig) -> Checked",
    "compare": "(config=None, *, progress=None, **CompareConfig) -> Comparison",
    "evaluate": "(config=None, *, progress=None, **EvaluateConfig) -> Evaluation",
    "export": "(config=None, **ExportConfig) -> Exported",
    "federate": "(config=None, *, resume=None, progress=None, **FederateConfig) -> Run",
    "federate_family": "(config=None, *, resume=None, progress=None, **FederateConfig) -> Family",
    "load_model": "(model=None, *, run=None, client=None, modality=None, round=None, window=None, "
    "percentile=None, device='auto', precision='auto', workspace=None) -> Model",
    "make_phantoms": "(folder, *, seed=0, patients=None, progress=None) -> dict[str, pathlib.Path]",
    "open_evaluation": "(name, workspace=None) -> Evaluation",
    "open_family": "(name, workspace=None) -> Family",
    "open_partition": "(name='default', workspace=None) -> Partition",
    "open_run": "(name=None, workspace=None) -> Run",
    "partition": "(config=None, *, progress=None, **PartitionConfig) -> Partition",
    "partition_folds": "(config=None, *, progress=None, **PartitionConfig) -> list[Partition]",
    "predict": "(config=None, *, progress=None, **PredictConfig) -> Prediction",
    "preprocess": "(config=None, *, progress=None, **PreprocessConfig) -> Preprocessed",
    "tsne": "(config=None, *, progress=None, **TsneConfig) -> Map",
    "write_report": "(config=None, *, progress=None, **ReportConfig) -> ReportPage",
}
LEFT_OUT = {
    "compare": "detail",
    "evaluate": "detail",
    "federate": "folds seeds",
    "partition": "folds",
    "partition_folds": "fold",
}
"""Options of a configuration that its function does not have."""

RESULTS = {
    "Adapted": "name folder facts client chosen candidates tests notes",
    "Checked": "passed findings counts pages reports",
    "Client": "name modality organ dataset site train_images val_images test_images train_patients "
    "val_patients test_patients",
    "ClientRound": "run round client modality accepted rejection_reason seconds n_examples n_steps "
    "train_loss best_epoch received_val_loss received_val_dice trained_val_loss trained_val_dice n_val "
    "n_val_patients update_norm",
    "Comparison": "name folder runs metrics means differences fairness notes",
    "DataSet": "name modality organ file images patients report",
    "EvaluatedRun": "name strategy seed fold round last_round asked why partition partition_sha256 "
    "checkpoint validation_dice stale_statistics; is_from_file models",
    "Evaluation": "name folder run runs clients server cases volumes tables notes",
    "Event": "kind task done total text round record seconds_left",
    "Exported": "name folder sha256 facts archive files notes",
    "Family": "name runs unfinished; rounds",
    "Map": "folder files images silhouette_modality silhouette_client",
    "ModelInfo": "name architecture input training threshold validation privacy versions licence seen sha256",
    "ModelScore": "model modality organ unseen_site protocol n patients dice dice_sd",
    "Partition": "name folder seed size channels clients server notes",
    "Prediction": "folder models cases skipped scores notes; failed masks",
    "Preprocessed": "datasets; left_out",
    "ReportPage": "name run page has_patients notes",
    "Round": "run round seconds accepted rejected train_loss val_dice val_dice_small bytes_down bytes_up "
    "epsilon",
    "Run": "name folder config rounds client_rounds clients validation best_round chosen_round chosen_why "
    "validation_dice notes resumed_from; is_finished workspace",
    "Segmentation": "probabilities mask",
    "TestSet": "name modality organ site images patients",
    "ValidationRow": "label modality n_clients patients images best last",
}
CLASSES = {
    "Model": "facts predict threshold",
    "Workspace": "evaluation evaluations family model models partition partitions path run runs",
}
CONFIGURATIONS = {
    "AdaptConfig", "CheckConfig", "CompareConfig", "EvaluateConfig", "ExportConfig", "FederateConfig",
    "PartitionConfig", "PredictConfig", "PreprocessConfig", "ReportConfig", "TsneConfig",
}  # fmt: skip
ERRORS = {"FlamesError", "MissingArtifact"}
FOR_PLUGINS = {
    "Algorithm", "BadCase", "Blend", "Entries", "Listing", "LocalUpdate", "RawCase", "ReadOptions", "Reader",
    "Report", "SegmentationModel", "SkippedCase", "Source", "TrackedRun", "Tracker",
}  # fmt: skip
"""Types from which plug-ins are made (docs/plugins.md)."""


def test_the_public_names_are_those_of_this_file():
    listed = {*FUNCTIONS, *RESULTS, *CLASSES, *CONFIGURATIONS, *ERRORS, *FOR_PLUGINS}
    assert {*flames.__all__} - {"__version__"} == listed


def test_type_checkers_see_the_same_names_in_the_same_modules():
    """The imports under TYPE_CHECKING, which no test executes."""
    imported = {}
    module = ast.parse(inspect.getsource(flames))
    (block,) = (node for node in module.body if isinstance(node, ast.If))
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            imported |= {one.name: node.module.removeprefix("flames_cli.") for one in node.names}
    assert imported == flames._MODULE_OF


def shown(name: str, hidden: set[str]) -> str:
    """A function's signature without annotations of parameters and without `hidden` ones."""
    function = getattr(flames, name)
    parameters = inspect.signature(function).parameters.values()
    kept = [one.replace(annotation=one.empty) for one in parameters if one.name not in hidden]
    result = inspect.formatannotation(function.__annotations__["return"])
    return f"{inspect.Signature(kept)} -> {re.sub(r'flames_cli[.]api[.][a-z]+[.]', '', result)}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_exactly_these_parameters(name):
    expected = FUNCTIONS[name]
    kind = next((one for one in CONFIGURATIONS if f"**{one}" in expected), None)
    if kind is None:
        assert shown(name, set()) == expected
        return
    config = getattr(flames, kind)
    options = {*config.model_fields} - {*config.no_option, *LEFT_OUT.get(name, "").split()}
    assert options < {*inspect.signature(getattr(flames, name)).parameters}
    assert shown(name, options) == expected.replace(f", **{kind}", "")


def members(kind: type) -> str:
    own = [one.name for one in fields(kind)] if is_dataclass(kind) else []
    others = sorted(name for name in dir(kind) if not name.startswith("_") and name not in own)
    return " ".join(own) + (f"; {' '.join(others)}" if others else "")


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_frozen_and_has_exactly_these_fields(name):
    kind = getattr(flames, name)
    assert members(kind) == RESULTS[name]
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_exactly_these_members(name):
    source = inspect.getsource(getattr(flames, name))
    attributes = set(re.findall(r"self[.]([a-z]\w*)(?:: \w+)? =", source))
    found = {one for one in dir(getattr(flames, name)) if not one.startswith("_")} | attributes
    assert " ".join(sorted(found)) == CLASSES[name]


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *RESULTS, *CLASSES, *CONFIGURATIONS, *ERRORS}))
def test_every_public_name_is_explained_and_functions_show_how(name):
    text = inspect.getdoc(getattr(flames, name)) or ""
    assert len(text) > 20
    if name in FUNCTIONS:
        assert {"Raises:", "Examples:"} <= {line.strip() for line in text.splitlines()}, name


def test_the_page_names_every_function():
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    table = page.split("## Functions and their results")[1].split("## Progress")[0]
    assert [name for name in FUNCTIONS if f"`{name}`" not in table] == []


def test_help_lists_every_option_with_its_default():
    text = inspect.getdoc(flames.federate)
    assert "    rounds: Number of rounds in total. Default: 50." in text.splitlines()
    described = set(re.findall(r"^    (\w+): ", text.split("Options:")[1], re.M))
    assert described == {*flames.FederateConfig.model_fields} - {"seeds", "folds"}


FRESH = """
import sys, time
start = time.perf_counter()
import flames_cli
took = time.perf_counter() - start
assert "federate" in dir(flames_cli)
print(took, *{name.split(".")[0] for name in sys.modules})
"""


def test_the_import_loads_nothing_and_takes_no_time():
    result = subprocess.run(
        [sys.executable, "-c", FRESH],
        env=shell_environment(), capture_output=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    took, *loaded = result.stdout.split()
    assert {*loaded} & {"torch", "numpy", "pydantic", "flwr", "typer", "rich"} == set()
    assert float(took) < 0.1


TELEMETRY = """
import os, sys
import flames_cli
assert "GOMP_SPINCOUNT" not in os.environ
flames_cli.FlamesError
assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0" and os.environ["GOMP_SPINCOUNT"] == "5000"
assert not {"flwr", "torch"} & {*sys.modules}
"""


def test_flower_and_torch_find_their_variables_when_they_are_imported():
    """Flower would send telemetry, which no hospital has agreed to."""
    environment = shell_environment()
    for name in ("FLWR_TELEMETRY_ENABLED", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", TELEMETRY], env=environment, timeout=60, check=True)


def test_an_unknown_name_is_an_error_of_the_usual_kind():
    with pytest.raises(AttributeError, match="no attribute 'fedrate'"):
        flames.fedrate  # noqa: B018
    assert not hasattr(flames, "numpy")
