import json
from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.progress import NewestReport, Progress, Training
from flames_cli.core.federated.reports import State
from flames_cli.store.checkpoint import SEAL, DamagedCheckpoint, load_state, save_state
from tests.support.asserts import assert_same


def weights(value):
    return {"w": np.full((2, 3), value, np.float32)}


STATE = State(
    4,
    {"MRI": weights(1)},
    progress=Progress(
        seconds=12.5,
        trainings={"brain-1": 3, "brain-2": 1},
        on_the_way={"brain-2": Training(1, 0, "client brain-2", 40.25)},
        starts={"client brain-2": weights(7)},
        newest={"brain-1": NewestReport(11, 3, lambda: weights(8))},
    ),
)


def test_the_progress_comes_back_as_it_was_saved(tmp_path):
    save_state(tmp_path, STATE, 1)
    found = load_state(tmp_path).progress
    assert (found.seconds, found.trainings, found.on_the_way) == (
        12.5,
        STATE.progress.trainings,
        STATE.progress.on_the_way,
    )
    assert_same(found.starts["client brain-2"], weights(7))
    newest = found.newest["brain-1"]
    assert (newest.n_examples, newest.began) == (11, 3)
    assert_same(newest.load(), weights(8))


def test_a_checkpoint_of_rounds_in_step_has_none(tmp_path):
    folder = save_state(tmp_path, replace(STATE, progress=None), 1)
    assert load_state(tmp_path).progress is None
    assert "progress" not in json.loads((folder / "state.json").read_text())


@pytest.mark.parametrize("key", ["seconds", "trainings", "on_the_way", "starts", "newest"])
def test_a_damaged_entry_is_reported(key, tmp_path):
    folder = save_state(tmp_path, STATE, 1)
    index = json.loads((folder / "state.json").read_text())
    del index[SEAL]
    index["progress"][key] = {} if key == "starts" else "x"
    (folder / "state.json").write_text(json.dumps(index))
    with pytest.raises(DamagedCheckpoint):
        load_state(tmp_path)


def test_damaged_weights_are_noticed_by_their_checksum(tmp_path):
    folder = save_state(tmp_path, STATE, 1)
    file = folder / "start-client brain-2.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match="checksum"):
        load_state(tmp_path)
