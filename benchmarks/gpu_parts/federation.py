"""FedAvg and FLAMES over one model on the device: rounds in turns, blended by `core` as a server does."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import fmean

import torch

from flames_cli.core.federated.aggregation import apply_round
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import Entries, Report, RoundResult, State
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.predict import validate
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from gpu_parts.shards import Client, Hospitals


@dataclass(slots=True)
class Arm:
    """One strategy: its models, and what its rounds took."""

    name: str
    algorithm: Algorithm
    state: State
    training_s: list[float] = field(default_factory=list)
    blending_s: list[float] = field(default_factory=list)
    val_dice: list[float] = field(default_factory=list)
    """Mean over the clients after their local epoch, by round."""
    blending: "Future[tuple[RoundResult, float]] | None" = None

    def settle(self) -> None:
        """Wait for the blending of the last round, and take its models.

        Raises:
            ValueError: a report was rejected.
        """
        if self.blending is None:
            return
        result, seconds = self.blending.result()
        if result.rejected:
            raise ValueError(f"{self.name}, round {result.state.round}: rejected {result.rejected}")
        self.state, self.blending = result.state, None
        self.blending_s.append(seconds)


@dataclass(slots=True)
class Federation:
    """Both strategies with one model on the device, which they take in turns."""

    hospitals: Hospitals
    model: SegmentationModel
    entries: Entries
    device: torch.device
    precision: Precision
    batch_size: int
    lr: float
    pool: ThreadPoolExecutor
    arms: list[Arm]

    def play_round(self) -> float:
        """Do one round of each strategy; return its seconds.

        One strategy's reports are blended on the CPU while the device trains for the other.
        """
        started = time.perf_counter()
        for arm in self.arms:
            arm.settle()
            begun = time.perf_counter()
            reports, scores = zip(*(self._train(arm, one) for one in self.hospitals.clients), strict=True)
            arm.training_s.append(time.perf_counter() - begun)
            known = [score for score in scores if score is not None]
            arm.val_dice.append(fmean(known) if known else float("nan"))
            arm.blending = self.pool.submit(_blend, arm.state, list(reports), arm.algorithm, self.entries)
        return time.perf_counter() - started

    def settle(self) -> None:
        """Wait for all blending."""
        for arm in self.arms:
            arm.settle()

    def _train(self, arm: Arm, client: Client) -> tuple[Report, float | None]:
        """Train a client's model for its local epoch; return its report and its validation Dice."""
        self._receive(arm, client.name, client.modality)
        options = TrainOptions(batch_size=self.batch_size, lr=self.lr)
        local = LocalRound(seed=0, round=arm.state.round + 1, client=client.name, options=options)
        result = train_epochs(self.model, client.train, client.val, local, self.device, self.precision)
        report = Report(client.name, client.modality, result.weights, result.n_examples, result.n_steps)
        return report, result.trained.dice if result.trained else None

    def _receive(self, arm: Arm, client: str, modality: str) -> None:
        group = arm.algorithm.model_group_of(client, modality)
        load_weights(self.model, arm.state.model_for(client, group))

    def test(self, arm: Arm) -> dict[str, dict[str, float]]:
        """Return the mean test Dice by client, of its own model, and by modality, of the server's."""
        clients = {}
        for client in self.hospitals.clients:
            self._receive(arm, client.name, client.modality)
            clients[client.name] = self._score(client.test)
        server = {}
        for unseen in self.hospitals.unseen:
            self._receive(arm, "", unseen.modality)
            server[unseen.modality] = self._score(unseen.cases)
        return {"clients": clients, "server": server}

    def _score(self, cases: ShardDataset) -> float:
        if not len(cases):
            return float("nan")
        return validate(self.model, cases, self.batch_size, self.device, self.precision, dice_focal_loss).dice


def _blend(
    state: State, reports: list[Report], algorithm: Algorithm, entries: Entries
) -> tuple[RoundResult, float]:
    started = time.perf_counter()
    return apply_round(state, reports, algorithm, entries), time.perf_counter() - started
