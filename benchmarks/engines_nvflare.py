"""NVFlare's simulator in `engines.py`: clients that add a constant, and NVFlare's FedAvg.

    PYTHON benchmarks/engines_nvflare.py FOLDER CLIENTS MEGABYTES ROUNDS

It runs with a Python that has NVFlare and numpy, and needs nothing else of this repository. It prints the
times at which the model was loaded and at which each round ended, as JSON.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

ENTRIES = 120
CLIENT = """
import numpy as np
import nvflare.client as flare

flare.init()
while flare.is_running():
    received = flare.receive()
    changed = {name: array + np.float32(0.25) for name, array in received.params.items()}
    flare.send(flare.FLModel(params=changed, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
"""

SERVER = """
import time
import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg


class Timed(FedAvg):
    # NVFlare's FedAvg, which writes the time at the start and after each round.
    def __init__(self, entries, values, times, num_clients, num_rounds):
        super().__init__(num_clients=num_clients, num_rounds=num_rounds)
        self.entries, self.values, self.times = entries, values, times

    def load_model(self):
        self.mark()
        return FLModel(params={f"entry{i}": np.ones(self.values, np.float32) for i in range(self.entries)})

    def save_model(self, model):
        self.mark()

    def mark(self):
        with open(self.times, "a") as file:
            file.write(f"{time.time()}\\n")
"""
"""NVFlare loads its classes by name, so they are in files of their own."""


def main() -> None:
    """Run the federation and print its times."""
    from nvflare.job_config.api import FedJob
    from nvflare.job_config.script_runner import FrameworkType, ScriptRunner

    folder, clients, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    times, script = folder / "times.txt", folder / "nvflare_client.py"
    script.write_text(CLIENT, encoding="utf-8")
    (folder / "nvflare_server.py").write_text(SERVER, encoding="utf-8")
    sys.path.insert(0, str(folder))
    timed = import_module("nvflare_server").Timed
    values = round(float(sys.argv[3]) * 1e6 / 4 / ENTRIES)
    job = FedJob(name="constant")
    job.to_server(timed(ENTRIES, values, str(times), num_clients=clients, num_rounds=rounds))
    for number in range(clients):
        job.to(ScriptRunner(script=str(script), framework=FrameworkType.NUMPY), f"site-{number + 1}")
    sys.stdout.flush()
    job.simulator_run(str(folder / "work"), threads=clients)
    print(json.dumps([float(line) for line in times.read_text().split()]))


if __name__ == "__main__":
    main()
