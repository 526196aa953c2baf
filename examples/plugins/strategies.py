"""Two strategies with parts of their own: FedDyn, and sharpness-aware clients with heads of their own.

flames federate --plugin examples/plugins/strategies.py --strategy feddyn --optimiser sgd --lr 0.05
flames federate --plugin examples/plugins/strategies.py --strategy sharp-heads
"""

import numpy as np
import torch

from flames_cli import Algorithm, Blend, Entries, LocalUpdate, Report

ALPHA = 0.1
"""Weight of FedDyn's regulariser."""

RADIUS = 0.05
"""Distance at which SAM takes the gradient."""

Arrays = dict[str, np.ndarray]


class DynamicUpdate(LocalUpdate):
    """FedDyn's client (Acar et al. 2021); its state is the gradient of its own loss, by parameter.

    It minimises L(w) − ⟨g, w⟩ + α/2·‖w − w0‖², with g of its last round, and then g ← g − α·(w − w0).
    """

    keeps_state = True

    def __init__(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        super().__init__(model, optimiser)
        self.start = {name: one.detach().clone() for name, one in model.named_parameters()}
        self.own = {name: torch.zeros_like(one) for name, one in self.start.items()}

    def load_state(self, state: Arrays) -> None:
        """Take g of the last round."""
        self.own = {name: torch.from_numpy(state[name]).to(one) for name, one in self.own.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Make one step on the regularised loss."""
        for name, one in self.model.named_parameters():
            if one.grad is not None:
                one.grad += ALPHA * (one - self.start[name]) - self.own[name]
        self.optimiser.step()

    def state(self) -> Arrays:
        """Return g for the next round."""
        moved = {name: one.detach() - self.start[name] for name, one in self.model.named_parameters()}
        return {name: (self.own[name] - ALPHA * moved[name]).cpu().numpy() for name in moved}


class DynamicBlend(Blend):
    """FedDyn's server; its state h is −α times the mean of all moves so far, over all clients."""

    def __init__(self, start: Arrays, entries: Entries, _weight: str) -> None:
        self.before, self.parameters = entries.shared_of(start), entries.trainable
        self.sum: Arrays = {}
        self.n = 0
        self.h: Arrays = {}

    def load_state(self, state: Arrays) -> None:
        """Take h of the group's last round."""
        self.h = state

    def add(self, report: Report) -> None:
        """Add a report to the sum; the memory does not grow with their number."""
        self.sum = {name: self.sum.get(name, np.float64(0)) + array for name, array in report.weights.items()}
        self.n += 1

    def server(self) -> Arrays:
        """Return the mean of the reports minus h/α; the mean alone for buffers."""
        mean = {name: array / self.n for name, array in self.sum.items()}
        share = ALPHA * self.n / self.n_clients
        self.h = {
            name: self.h.get(name, 0.0) - share * (mean[name] - self.before[name])
            for name in mean
            if name in self.parameters
        }
        return {name: mean[name] - self.h[name] / ALPHA if name in self.h else mean[name] for name in mean}

    def state(self) -> Arrays:
        """Return h."""
        return self.h


class SharpUpdate(LocalUpdate):
    """SAM (Foret et al. 2021): the gradient is taken where the loss of the batch is nearly the highest."""

    @torch.no_grad()
    def step(self) -> None:
        """Make one step with the gradient at a distance of RADIUS, in the direction of the gradient here."""
        every = [one for one in self.model.parameters() if one.grad is not None]
        norm = torch.stack([one.grad.norm() for one in every]).norm()
        moves = [one.grad * (RADIUS / (norm + 1e-12)) for one in every]
        torch._foreach_add_(every, moves)
        with torch.enable_grad():
            self.differentiate()
        torch._foreach_sub_(every, moves)
        self.optimiser.step()


class OwnHeads(Blend):
    """The mean by the number of images, while each client has its own last layer (FedPer)."""

    def __init__(self, start: Arrays, entries: Entries, _weight: str) -> None:
        self.head = list(entries.shared_of(start))[-2:]
        self.reports = {}

    def add(self, report: Report) -> None:
        """Store the report on the shelf: the memory may be too small for all."""
        self.reports[report.client] = report.n_examples, self.shelf.keep_report(report.weights)

    def server(self) -> Arrays:
        """Return the mean, summed in order of the clients' names."""
        total = sum(n for n, _ in self.reports.values())
        mean: Arrays = {}
        for _, (n, load) in sorted(self.reports.items()):
            share = np.float64(n / total)
            mean = {name: mean.get(name, 0.0) + share * array for name, array in load().items()}
        return mean

    def personal(self) -> dict[str, Arrays]:
        """Return each client's own last layer."""
        return {
            client: {name: array for name, array in load().items() if name in self.head}
            for client, (_, load) in self.reports.items()
        }


def by_data_set(client: str, _modality: str) -> str:
    """Return the name of the client without its number: its data set."""
    return f"of {client.partition('-')[0]}"


STRATEGIES = {
    "feddyn": Algorithm(
        local_update=DynamicUpdate,
        groups="all",
        blend=DynamicBlend,
        summary="one global model; each client corrects its own drift (FedDyn)",
    ),
    "sharp-heads": Algorithm(
        local_update=SharpUpdate,
        groups=by_data_set,
        blend=OwnHeads,
        summary="one model per data set; sharpness-aware clients with their own last layer",
    ),
}
