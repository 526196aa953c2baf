import numpy as np
import pytest

from flames_cli.store import models as model_files
from flames_cli.store.files.locks import locked
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training, read_model
from flames_cli.store.site_models import BEST_SO_FAR, keep_model, read_kept, remove_best_so_far

ONE, OTHER = "00112233445566ff", "ff66554433221100"


def make_info(round_=3, token=ONE):
    return ModelInfo(
        name="flames",
        architecture=Architecture("unet"),
        input=ModelInput("MRI", ("brain",), 64),
        training=Training("client", "flames", "a", "flames", round=round_, rounds=3, token=token),
    )


def make_weights(value=1.0):
    return {"w": np.full((2, 3), value, np.float32), "n": np.array(4)}


def keep(models, info, weights, name="flames", provisional=False):
    return keep_model(models, name, info, weights, "card", provisional)


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def names(models):
    return sorted(path.name for path in models.iterdir() if not path.name.startswith("."))


def test_a_model_is_kept_and_can_be_read(models):
    folder, aside = keep(models, make_info(), make_weights())
    info, weights = read_model(folder)
    assert (folder, aside) == (models / "flames", "")
    assert info.training == make_info().training
    np.testing.assert_array_equal(weights["w"], make_weights()["w"])
    assert read_kept(models, "flames") == info


def test_the_same_model_is_not_written_again(models):
    folder, _ = keep(models, make_info(), make_weights())
    before = (folder / "weights.safetensors").stat().st_ino
    assert keep(models, make_info(), make_weights()) == (folder, "")
    assert (folder / "weights.safetensors").stat().st_ino == before
    assert names(models) == ["flames"]


@pytest.mark.parametrize("token", [ONE, OTHER])
def test_another_final_model_is_set_aside_and_never_overwritten(models, token):
    keep(models, make_info(), make_weights(1.0))
    _, aside = keep(models, make_info(5, token), make_weights(2.0))
    assert aside == "flames-old-1"
    assert names(models) == ["flames", "flames-old-1"]
    assert [read_model(models / name)[1]["w"][0, 0] for name in names(models)] == [2.0, 1.0]


def test_a_provisional_model_replaces_that_of_its_own_run_only(models):
    name = f"flames{BEST_SO_FAR}"
    keep(models, make_info(1), make_weights(1.0), name, provisional=True)
    keep(models, make_info(2), make_weights(2.0), name, provisional=True)
    assert names(models) == [name]
    keep(models, make_info(1, OTHER), make_weights(3.0), name, provisional=True)
    assert names(models) == [name, f"{name}-old-1"]
    assert read_model(models / f"{name}-old-1")[1]["w"][0, 0] == 2.0


def test_a_file_of_the_user_in_the_place_of_the_folder_is_set_aside(models):
    (models / "flames").mkdir(parents=True)
    (models / "flames" / "notes.txt").write_text("mine", encoding="utf-8")
    keep(models, make_info(), make_weights())
    assert (models / "flames-old-1" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_damaged_folder_is_set_aside(models):
    folder, _ = keep(models, make_info(), make_weights())
    (folder / "weights.safetensors").write_bytes(b"")
    _, aside = keep(models, make_info(), make_weights())
    assert aside == "flames-old-1"
    assert read_model(folder)[1]["w"][0, 0] == 1.0


def test_a_process_that_is_killed_while_it_writes_leaves_the_earlier_model(models, monkeypatch):
    folder, _ = keep(models, make_info(1), make_weights(1.0), provisional=True)

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model_files, "write_text", kill)
        with pytest.raises(KeyboardInterrupt):
            keep(models, make_info(2), make_weights(2.0), provisional=True)
    assert read_model(folder)[1]["w"][0, 0] == 1.0
    keep(models, make_info(2), make_weights(2.0), provisional=True)
    assert read_model(folder)[1]["w"][0, 0] == 2.0
    assert not [path for path in models.iterdir() if path.name.endswith(".tmp")]


def test_two_processes_do_not_write_one_folder(models):
    models.mkdir()
    with locked(models / "flames"), pytest.raises(Exception, match="another process writes"):
        keep(models, make_info(), make_weights())


def test_the_best_so_far_goes_with_the_end_of_its_own_run_only(models):
    name = f"flames{BEST_SO_FAR}"
    keep(models, make_info(1), make_weights(), name, provisional=True)
    remove_best_so_far(models, "flames", OTHER)
    assert names(models) == [name]
    remove_best_so_far(models, "flames", ONE)
    assert names(models) == []
    remove_best_so_far(models, "flames", ONE)
