"""Rounds with secure aggregation: their models are those of plain rounds, within a bound that follows from
the fixed point and float32."""

import numpy as np
import pytest

from tests.support.federation import make_profile, run_federation
from tests.support.secure import run_secure

CLIENTS = {
    "m1": ("MRI", 30),
    "m2": ("MRI", 10),
    "m3": ("MRI", 4),
    "u1": ("US", 5),
    "u2": ("US", 20),
    "u3": ("US", 7),
    "u4": ("US", 1),
}
PROFILES = [make_profile(client, modality, n) for client, (modality, n) in CLIENTS.items()]


@pytest.mark.parametrize("algorithm", ["flames", "fedavg-modality", "fedavg", "fedgs", "fedadam", "fedprox"])
def test_first(algorithm, tmp_path):
    found = run_secure(PROFILES, tmp_path, algorithm, rounds=3)
    plain = run_federation(PROFILES, algorithm, rounds=3)
    for group, model in plain.state.server.items():
        for name, array in model.items():
            print(group, name, np.abs(found.state.server[group][name] - array).max())
    print(found.records[-1])
