"""Plain sentences in a node's log, for the person who runs the node: at most 70 characters, after a time."""

import sys
import time
from collections.abc import Mapping

from flwr.app import Message

from flames_cli.core.federated.reports import Report
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.final_report import FinalReport
from flames_cli.fed.messages import Profile, TrainRequest
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.records import message_bytes

PREFIX = "FLAMES: "
"""Beginning of each such line in the log; `flames deploy node` shows the rest."""


def say(settings: NodeSettings, *sentences: str) -> None:
    """Write sentences to the log of a real node; simulated nodes write nothing."""
    if settings.private:
        sys.stderr.write("".join(f"{PREFIX}{sentence}\n" for sentence in sentences))
        sys.stderr.flush()


class NodeLog:
    """Log of the answer to one message: it measures the time and counts the bytes."""

    def __init__(self, settings: NodeSettings, message: Message, request: TrainRequest) -> None:
        self._settings = settings
        self._message = message
        self._request = request
        self._began = time.monotonic()

    def begin_training(self, profile: Profile) -> None:
        """Log that a round begins."""
        if self._request.round == 1:
            say(
                self._settings,
                f"run {self._request.run_name} begins: {_rounds(self._request.rounds)}, strategy "
                f"{self._request.strategy}",
                *(["  secure aggregation: the server reads only sums"] if self._request.secure else []),
            )
        say(
            self._settings,
            f"{self._round} (run {self._request.run_name}): training on {_images(profile.n_train)}",
        )

    def describe_noise(self, noise: float, clip: float) -> None:
        """Log the noise that this node adds; nothing without noise."""
        if noise and self._request.round == 1:
            say(
                self._settings,
                f"  noise {noise:g}, clip {clip:g}: this node adds its share of the noise",
            )

    def end_training(self, report: Report, reply: Message) -> None:
        """Log the result of a round, and what comes next."""
        is_last = self._request.round == self._request.rounds
        after = "the server makes the final models" if is_last else "waiting for the other hospitals"
        say(
            self._settings,
            f"{self._round}: {_images(report.n_examples)} in {self._seconds}, loss "
            f"{report.metrics['train_loss']:.4f}",
            f"  {_dice(report.metrics)}",
            f"  {self._bytes(reply)}",
            *(["  masked: the server can read only the sum with others"] if self._request.secure else []),
            f"  next: {after}",
        )

    def end_examination(self, report: FinalReport, reply: Message) -> None:
        """Log the pass over the images after the last round."""
        dice = report.validation.get("val_dice")
        found = "no validation patients" if dice is None else f"validation Dice {dice:.3f}"
        say(
            self._settings,
            f"model after round {self._request.round}: {found} ({self._seconds})",
            f"  {self._bytes(reply)}",
        )

    def end_evaluation(self, report: EvaluationReport) -> None:
        """Log the test after the last round."""
        round_ = self._request.round - 1  # the request has the round that would follow
        say(
            self._settings,
            f"model after round {round_}: tested on {_images(report.n)} ({self._seconds})",
        )

    @property
    def _round(self) -> str:
        of = f" of {self._request.rounds}" if self._request.rounds else ""
        return f"round {self._request.round}{of}"

    @property
    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"

    def _bytes(self, reply: Message) -> str:
        down, up = message_bytes(self._message), message_bytes(reply)
        return f"weights: {_size(down)} received, {_size(up)} sent"


def _dice(metrics: Mapping[str, float]) -> str:
    received, trained = metrics.get("received_val_dice"), metrics.get("trained_val_dice")
    if received is None:
        return "no validation patients, so no Dice"
    after = "" if trained is None else f", {trained:.3f} after training"
    return f"validation Dice: {received:.3f} as received{after}"


def _images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"


def hospitals(number: int) -> str:
    """Return a number of hospitals in words."""
    return f"{number} hospital{'' if number == 1 else 's'}"


def _rounds(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"
