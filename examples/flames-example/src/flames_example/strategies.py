"""A strategy that helps the clients with the largest loss: q-FedAvg's weights within each modality.

Li et al. 2020, "Fair resource allocation in federated learning", weigh client i by its loss to the power q.
Large weights of a client with few images make rounds jump, so that clients also limit their gradients.
"""

import math

import numpy as np
import torch

from flames_cli import Algorithm, Blend, Entries, LocalUpdate, Report

Q = 1.0
"""Power of the loss: 0 is FedAvg, and the larger, the more the worst client counts."""

LARGEST_NORM = 1.0
"""Largest L2 norm of a client's gradient in one step."""


class ClippedSteps(LocalUpdate):
    """The client's part: the optimiser's own step with a gradient of limited length."""

    def step(self) -> None:
        """Make one step with the current gradients."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        super().step()


class FairBlend(Blend):
    """The server's part: the mean of the reports, each weighted by images · lossᵠ, as running sums."""

    def __init__(self, start: dict[str, np.ndarray], entries: Entries, weight: str) -> None:
        self._like = entries.shared_of(start)
        self._sums = {name: np.zeros(array.shape, np.float64) for name, array in self._like.items()}
        self._total = 0.0

    def rejection_reason(self, report: Report) -> str | None:
        """Return why the report cannot be weighted; None if it can."""
        loss = report.metrics.get("train_loss", math.nan)
        return None if loss > 0 and math.isfinite(loss) else f"its training loss is {loss}, expected above 0"

    def add(self, report: Report) -> None:
        """Add a report; the memory that is needed does not grow with their number."""
        weight = report.n_examples * report.metrics["train_loss"] ** Q
        for name, sums in self._sums.items():
            sums += weight * report.weights[name]
        self._total += weight

    def server(self) -> dict[str, np.ndarray]:
        """Return the group's new model, each entry in its own dtype."""
        return {
            name: _cast(self._sums[name] / self._total, array.dtype) for name, array in self._like.items()
        }


def _cast(mean: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return (np.rint(mean) if dtype.kind in "iu" else mean).astype(dtype)


FAIR = Algorithm(
    local_update=ClippedSteps,
    groups="modality",
    blend=FairBlend,
    summary="clients with a large loss count more, within each modality (q-FedAvg)",
)
