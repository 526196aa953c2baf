"""The blend of FLAMES: personalised models and a server model (FLAMES, section 4)."""

from collections.abc import Mapping, Sequence

from flames_cli.arrays import Weights
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.flames_sums import FlamesSums
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.running_sum import plain_mean
from flames_cli.core.federated.shelf import ClientModels, Load, Shelf, StoredModels


def blend_flames(
    arrays: Sequence[Weights], n_examples: Sequence[int], alpha: float | None = None
) -> tuple[list[Weights], Weights]:
    """Return (personalised models, server model) of the clients of one modality.

    personalisedᵢ = α·wᵢ + (1−α)·Σ_{j≠i} cᵢⱼ·wⱼ with cᵢⱼ = (1/nⱼ) / Σ_{l≠i} (1/n_l); the server model is the
    plain mean. The sums S = Σ wₖ/nₖ and T = Σ 1/nₖ make each model O(1): Σ_{j≠i} wⱼ/nⱼ = S − wᵢ/nᵢ.

    Args:
        arrays: weights of the K clients.
        n_examples: number of training images of each client, above 0.
        alpha: a client's own share, in [0, 1]; None: `flames_alpha(K)`. If K = 1, it is always 1.

    Raises:
        ValueError: there is nothing to blend, the entries differ, a number of images is not above 0, or
            alpha is outside [0, 1].
    """
    sums = FlamesSums(arrays, n_examples, alpha)
    server = plain_mean(arrays)
    return [sums.personalise(entry, n) for entry, n in zip(arrays, n_examples, strict=True)], server


class FlamesBlend(Blend):
    """A personalised model for each client; stores every report, since each becomes a model."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._reports: dict[str, tuple[int, Load]] = {}
        self._blended: tuple[ClientModels, Weights] | None = None

    def add(self, report: Report) -> None:
        """Store the report."""
        self._reports[report.client] = report.n_examples, self._shelf.keep_report(report.weights)

    def server(self) -> Weights:
        """Return the plain mean."""
        return self._blend()[1]

    def personal(self) -> Mapping[str, Weights]:
        """Return each client's blend of its own weights and those of the others."""
        return self._blend()[0]

    def _blend(self) -> tuple[ClientModels, Weights]:
        if self._blended is None:
            # Sorted by name, so that the order of arrival does not change how sums are rounded.
            reports = dict(sorted(self._reports.items()))
            self._reports.clear()
            models = StoredModels([load for _, load in reports.values()])
            server, personal = plain_mean(models), dict[str, Load]()
            sums = FlamesSums(models, [n for n, _ in reports.values()])
            del models
            for client in list(reports):  # freed one by one: not all reports and all models exist together
                n, load = reports.pop(client)
                personal[client] = self._shelf.keep_model(sums.personalise(load(), n))
                del load
            self._blended = ClientModels(personal), server
        return self._blended
