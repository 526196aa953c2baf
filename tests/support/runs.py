"""Folders of runs as `flames federate` writes them, without training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flames_cli.stages.federate.resuming import options_as_run
from flames_cli.store.runs import SEEDS, RunFolder, run_folder, write_config
from flames_cli.store.schema import FINAL_MODELS, stamp
from tests.support.stages import federate_config


def write_run(
    workspace: Path,
    name: str,
    rounds: int,
    asked: int | None = None,
    dice: Sequence[float] | None = None,
    seconds: float = 1.0,
    seeds: Sequence[int] = (),
    **options: Any,
) -> RunFolder:
    """Write a run with empty checkpoints of all rounds.

    `dice` has the validation Dice of the models of each round, from 1; the last one is that of the final
    models, and the initial models have 0.
    """
    run = run_folder(workspace, name)
    config = federate_config(workspace, rounds=asked or max(rounds, 1), run=name, **options)
    facts = {"device": "cpu", "partition_sha256": "0" * 64, **({SEEDS: list(seeds)} if seeds else {})}
    run.path.mkdir(parents=True)
    write_config(run.config, {"federate": options_as_run(config), "run": facts})
    values = [0.0, *(dice or [0.5] * rounds)]
    lines = [
        {
            "round": number,
            "seconds": seconds,
            "clients": [_client("received_val_dice", values[number - 1])],
            "rejected": {},
        }
        for number in range(1, rounds + 1)
    ]
    if lines:
        run.rounds.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        final = {**stamp(FINAL_MODELS), "round": rounds, "clients": [_client("val_dice", values[rounds])]}
        best = max(range(1, rounds + 1), key=lambda number: values[number])
        earlier = [{"round": best, "clients": [_client("val_dice", values[best])]}] if best < rounds else []
        final |= {"missing": {}, "earlier": earlier}
        run.final_models.write_text(json.dumps(final), encoding="utf-8")
    for number in range(1, rounds + 1):
        (run.checkpoints / f"round-{number:05d}").mkdir(parents=True)
    return run


def _client(name: str, dice: float) -> dict[str, Any]:
    return {"client": "a", "modality": "MRI", name: dice, "n_val": 8.0, "n_val_patients": 4.0}
