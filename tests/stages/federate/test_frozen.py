"""`federate --freeze encoder`: no strategy, and nothing on the way, changes the encoder."""

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.weights import write_safetensors
from tests.support.stages import SMALL_MODEL, federate_config

pytestmark = pytest.mark.federated


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of weights whose statistics are not those of an untrained model."""
    weights = to_weights(build_model("unet", seed=3, in_channels=1, **SMALL_MODEL))
    rng = np.random.default_rng(0)
    for name, array in weights.items():
        if "running" in name:
            array[:] = rng.uniform(0.5, 2.0, array.shape)
    path = tmp_path_factory.mktemp("file") / "trained.safetensors"
    write_safetensors(path, weights)
    return path, weights


def run(root, path, **options):
    return federate(federate_config(root, **{"start_from": str(path), "freeze": "encoder", **options}))


SOME = {
    "flames": {},
    "fedadam": {"wire_dtype": "fp16"},
    "scaffold": {"optimiser": "sgd"},
    "flames-adaptive": {"wire_dtype": "int8", "ema": 0.5},
    "fedavg": {"server_momentum": 0.5, "wire_dtype": "bf16"},
    "fedbn": {"aggregation": "mean"},
}


@pytest.mark.parametrize("strategy", SOME)
def test_the_encoder_has_the_same_bits_in_every_model(strategy, tiny, trained):
    path, weights = trained
    made = run(tiny(), path, strategy=strategy, **SOME[strategy])
    state = load_state(made.folder / "checkpoints")
    kept = build_model("unet", seed=0, **SMALL_MODEL).encoder_entries()
    models = [*state.server.values(), *(state.final_server_model(group, "MRI") for group in state.server)]
    groups = {client: last.group for client, last in state.clients.items()}
    models += [state.final_model_for(client, group, "MRI") for client, group in groups.items()]
    for model in models:
        assert all(model[name].tobytes() == weights[name].tobytes() for name in kept)
        assert not np.array_equal(model["head.weight"], weights["head.weight"])
    assert made.records[-1]["rejected"] == {}


def test_noise_is_added_to_what_is_trained_only(tiny, trained):
    pytest.importorskip("dp_accounting")
    path, weights = trained
    made = run(tiny(), path, strategy="fedavg", dp_noise=1.0, dp_clip=1.0, wire_dtype="fp16")
    model = load_state(made.folder / "checkpoints").server["all"]
    kept = build_model("unet", seed=0, **SMALL_MODEL).encoder_entries()
    assert all(model[name].tobytes() == weights[name].tobytes() for name in kept)
    assert not np.array_equal(model["decoders.0.1.running_mean"], weights["decoders.0.1.running_mean"])


def test_reports_do_not_have_the_frozen_entries(tiny, trained):
    path, weights = trained
    model = build_model("unet", seed=0, **SMALL_MODEL)
    sizes = {name: array.nbytes for name, array in weights.items()}
    frozen = sum(sizes[name] for name in model.encoder_entries())
    with_it, without = (
        run(tiny(), path, rounds=1, strategy="fedavg", freeze=freeze).records[0]["bytes_up"]
        for freeze in ("none", "encoder")
    )
    clients = 3
    # Entries begin at multiples of 64 bytes, and an entry without data has no such place.
    assert with_it - without >= clients * frozen
    assert without < clients * (sum(sizes.values()) - frozen) + clients * 64 * len(sizes) + 30_000


def test_an_untrained_encoder_is_not_frozen(tiny):
    with pytest.raises(FlamesError, match="weights that are drawn by seed, which would never be trained"):
        federate(federate_config(tiny(), freeze="encoder"))
