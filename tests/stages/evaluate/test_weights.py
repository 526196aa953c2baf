import numpy as np
import pytest
import torch

from flames_cli.config import EvaluateConfig, ExportConfig
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.export.stage import export
from flames_cli.store.models import read_model
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run

SMALL = {"device": "cpu", "precision": "fp32", "overlays": False, "batch_size": 8}


def evaluate_weights(workspace, path, **options):
    return evaluate(EvaluateConfig(workspace=workspace, weights=path, **{**SMALL, **options}))


@pytest.fixture
def exported(trained):
    return export(ExportConfig(workspace=trained, run="flames", model="MRI")).folder


def as_pth(folder, path, prefix=""):
    info, weights = read_model(folder)
    torch.save({prefix + name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, path)
    options = {name: value for name, value in info.architecture.options.items() if name != "in_channels"}
    return {"model": info.architecture.model, "norm": info.architecture.norm, "model_options": options}


def dice_of(result, modality="MRI"):
    rows = read_csv(result.folder / "cases.csv")
    return {row["case"]: row["dice"] for row in rows if row["modality"] == modality}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_weights_has_the_scores_of_the_run_that_made_it(trained, exported, tmp_path, prefix):
    described = as_pth(exported, tmp_path / "mri.pth", prefix)
    found = evaluate_weights(trained, tmp_path / "mri.pth", modality="mri", **described)
    run = evaluate_run(trained, server_test=True)
    assert dice_of(found) == dice_of(run)
    assert dice_of(found)
    assert not dice_of(found, "US")
    assert found.content.name == "weights-mri"
    (entry,) = found.content.runs
    assert entry.is_from_file
    assert (entry.strategy, entry.why) == ("unet", "weights of mri.pth")
    assert found.content.untested == {}


def test_a_model_folder_needs_no_description(trained, exported):
    found = evaluate_weights(trained, exported)
    assert dice_of(found) == dice_of(evaluate_run(trained, server_test=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "flames"}, "got --weights and --run"),
        ({"threshold": "auto"}, "got --weights and --threshold auto"),
        ({"client_test": True}, "got --weights and --client-test"),
        ({"modality": None}, "expected --modality too"),
        ({"model": None}, "expected --model, its architecture, too"),
        ({"modality": "CT"}, "expected a modality of the server's test sets in partition 'default': MRI, US"),
        ({"model": "utnet"}, "for model utnet: weights do not fit the model"),
        ({"model_options": {"depth": 3}}, "for model unet: weights do not fit the model"),
        ({"model_options": {"breadth": 3}}, "unknown option 'breadth'"),
    ],
)
def test_options_that_do_not_fit_are_one_message(trained, exported, tmp_path, options, message):
    described = {"modality": "MRI", **as_pth(exported, tmp_path / "mri.pth")}
    with pytest.raises(FlamesError, match=message):
        evaluate_weights(trained, tmp_path / "mri.pth", **{**described, **options})
    assert not (trained / "evaluations" / "weights-mri").exists()


def test_weights_that_are_not_finite_are_an_error(trained, exported, tmp_path):
    described = as_pth(exported, tmp_path / "mri.pth")
    state = torch.load(tmp_path / "mri.pth", weights_only=True)
    state["head.bias"][0] = float("nan")
    torch.save(state, tmp_path / "mri.pth")
    with pytest.raises(FlamesError, match=r"head\.bias is not finite"):
        evaluate_weights(trained, tmp_path / "mri.pth", modality="MRI", **described)


@pytest.mark.parametrize("option", [{"modality": "MRI"}, {"partition": "default"}, {"norm": "group"}])
def test_options_of_weights_without_weights_are_an_error(trained, option):
    with pytest.raises(FlamesError, match="without --weights, expected both"):
        evaluate_run(trained, **option)


def test_a_missing_file_or_folder_is_an_error(trained, tmp_path):
    with pytest.raises(FlamesError, match="no weights file"):
        evaluate_weights(trained, tmp_path / "x.pth", model="unet", modality="MRI")
    with pytest.raises(MissingArtifact, match=r"no model\.toml"):
        evaluate_weights(trained, tmp_path / "x")
