"""The tracker `wandb`: Weights & Biases, offline in the folder `wandb` of the run unless the user chose
otherwise by W&B's own variables."""

import json
import os
from pathlib import Path
from typing import Any

from flames_cli.store.files.atomic import write_json
from flames_cli.trackers.base import PROJECT, Figures, Status, TrackedRun

for _name, _value in {
    # Nothing is sent anywhere unless the user says so.
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}.items():
    os.environ.setdefault(_name, _value)

import wandb  # noqa: E402 - W&B reads the variables on import

FOLDER = "wandb"
ENDS: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 130}


class WandbTracker:
    """A run of Weights & Biases; the runs of a family are a group.

    An offline run cannot be read back, so the last round is in a file of ours, written after W&B has it.
    """

    def __init__(self) -> None:
        self._run: Any = None
        self._state = Path()
        self._last = {"round": 0, "final": 0}

    def start(self, run: TrackedRun) -> int:
        """Begin or continue the run of this identity; never ask for a key."""
        if os.environ["WANDB_MODE"] in ("online", "shared") and not wandb.login(prompt=False):
            raise RuntimeError("no API key; run `wandb login`, or unset WANDB_MODE to track offline")
        (run.folder / FOLDER).mkdir(exist_ok=True)
        self._state = run.folder / FOLDER / "flames.json"
        if self._state.is_file():
            self._last |= json.loads(self._state.read_text(encoding="utf-8"))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
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
        return int(self._last["round"])

    def round(self, number: int, figures: Figures) -> None:
        """Log all figures as one step."""
        self._run.log(dict(figures), step=number, commit=True)
        self._note("round", number)

    def final(self, number: int, figures: Figures) -> None:
        """Set the figures in the summary of the run."""
        self._run.summary.update(dict(figures))
        self._note("final", number)

    def finish(self, status: Status) -> None:
        """End the run; online, this waits until everything is sent."""
        self._run.finish(exit_code=ENDS[status])

    def _note(self, what: str, number: int) -> None:
        self._last[what] = number
        write_json(self._state, self._last)
