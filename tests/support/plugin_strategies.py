"""Strategies of a plug-in file: FedDyn, and SAM with own groups and heads of the clients' own."""

import numpy as np
import torch

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blend import Blend
from flames_cli.learn.local_updates import LocalUpdate

ALPHA = 0.1


class DynamicUpdate(LocalUpdate):
    """FedDyn's client (Acar et al. 2021): its state is the gradient of its own loss, by parameter."""

    keeps_state = True

    def __init__(self, model, optimiser):
        super().__init__(model, optimiser)
        self.start = {name: one.detach().clone() for name, one in model.named_parameters()}
        self.own = {name: torch.zeros_like(one) for name, one in self.start.items()}

    def load_state(self, state):
        self.own = {name: torch.from_numpy(state[name]).to(one) for name, one in self.own.items()}

    @torch.no_grad()
    def step(self):
        for name, one in self.model.named_parameters():
            if one.grad is not None:
                one.grad += ALPHA * (one - self.start[name]) - self.own[name]
        self.optimiser.step()

    def state(self):
        moved = {name: one.detach() - self.start[name] for name, one in self.model.named_parameters()}
        return {name: (self.own[name] - ALPHA * moved[name]).cpu().numpy() for name in moved}


class DynamicBlend(Blend):
    """FedDyn's server: its state is the sum of all clients' moves."""

    def __init__(self, start, entries, weight):
        self.before, self.parameters = entries.shared_of(start), entries.trainable
        self.sum, self.n, self.h = None, 0, {}

    def load_state(self, state):
        self.h = state

    def add(self, report):
        new = {name: array.astype(np.float64) for name, array in report.weights.items()}
        self.sum = new if self.sum is None else {name: self.sum[name] + new[name] for name in new}
        self.n += 1

    def server(self):
        mean = {name: array / self.n for name, array in self.sum.items()}
        share = ALPHA * self.n / self.n_clients
        self.h = {
            name: self.h.get(name, 0) - share * (mean[name] - self.before[name]) for name in self.parameters
        }
        return {name: mean[name] - self.h[name] / ALPHA if name in self.h else mean[name] for name in mean}

    def state(self):
        return self.h


class SharpUpdate(LocalUpdate):
    """SAM (Foret et al. 2021): the gradient is taken where the loss of the batch is higher."""

    @torch.no_grad()
    def step(self):
        every = [one for one in self.model.parameters() if one.grad is not None]
        norm = torch.stack([one.grad.norm() for one in every]).norm()
        moves = [one.grad * (0.05 / (norm + 1e-12)) for one in every]
        torch._foreach_add_(every, moves)
        with torch.enable_grad():
            self.differentiate()
        torch._foreach_sub_(every, moves)
        self.optimiser.step()


class OwnHeads(Blend):
    """The mean by the algorithm's weight, while each client has its own last entries (as in FedPer)."""

    def __init__(self, start, entries, weight):
        self.head = list(entries.shared_of(start))[-2:]
        self.loads, self.weight = {}, weight

    def add(self, report):
        n = report.n_steps if self.weight == "steps" else report.n_examples
        self.loads[report.client] = n, self.shelf.keep_report(report.weights)

    def server(self):
        total = sum(n for n, _ in self.loads.values())
        models = [(n / total, load()) for _, (n, load) in sorted(self.loads.items())]
        return {
            name: sum(share * model[name].astype(np.float64) for share, model in models)
            for name in models[0][1]
        }

    def personal(self):
        return {
            client: {name: load()[name] for name in self.head} for client, (_, load) in self.loads.items()
        }


def by_data_set(client, modality):
    """Return the client's name without its number."""
    return f"of {client.partition('-')[0]}"


STRATEGIES = {
    "feddyn": Algorithm(local_update=DynamicUpdate, groups="all", blend=DynamicBlend, summary="FedDyn"),
    "sharp-heads": Algorithm(local_update=SharpUpdate, groups=by_data_set, blend=OwnHeads, summary="SAM"),
}
