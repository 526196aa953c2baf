"""The tracker `wandb`: Weights & Biases, offline in the folder `wandb` of the run unless the user chose
otherwise by W&B's own variables."""

import os
from pathlib import Path
from typing import Any

from flames_cli.trackers.base import PROJECT, Figures, Status, TrackedRun

for _name, _value in {
    # Nothing is sent anywhere unless the user says so.
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}.items():
    os.environ.setdefault(_name, _value)

import wandb  # noqa: E402 - W&B reads the variables on import

from flames_cli.trackers.wandb_files import last_round  # noqa: E402 - it imports W&B

FOLDER = "wandb"
ENDS: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 130}


class WandbTracker:
    """A run of Weights & Biases; the runs of a family are a group."""

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, run: TrackedRun) -> int:
        """Begin or continue the run of this identity; never ask for a key."""
        if os.environ["WANDB_MODE"] in ("online", "shared") and not wandb.login(prompt=False):
            raise RuntimeError("no API key; run `wandb login`, or unset WANDB_MODE to track offline")
        folder = Path(os.environ.get("WANDB_DIR") or run.folder)
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        files = sorted(folder.glob(f"{FOLDER}/offline-run-*/run-{run.identity}.wandb"))
        last = max(map(last_round, files), default=0)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=str(folder),
            id=run.identity,
            resume="allow",
            name=run.name,
            group=run.family or None,
            config=dict(run.parameters),
            allow_val_change=True,
            # Only what is tracked: no output, code, packages, command line, or facts about the machine.
            settings=wandb.Settings(
                console="off",
                disable_git=True,
                host="flames",
                save_code=False,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        # Online, W&B knows the first step that it does not have.
        return max(last, int(self._run.starting_step) - 1)

    def round(self, number: int, figures: Figures) -> None:
        """Log all figures as one step."""
        self._run.log(dict(figures), step=number, commit=True)

    def final(self, number: int, figures: Figures) -> None:
        """Set the figures in the summary of the run, which has one value for each name."""
        self._run.summary.update({**figures, "round": number})

    def finish(self, status: Status) -> None:
        """End the run; online, this waits until everything is sent."""
        self._run.finish(exit_code=ENDS[status])
        wandb.teardown()  # its process writes the rest of the file
