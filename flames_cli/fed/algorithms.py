"""Every algorithm is one entry: what is reported, who shares, how reports become models."""

from flames_cli.core.aggregation import Algorithm
from flames_cli.errors import FlamesError

ALGORITHMS: dict[str, Algorithm] = {
    "flames": Algorithm(
        "plain", "modality", "flames", summary="one model per modality, personalised for each client (FLAMES)"
    ),
    "fedavg": Algorithm("plain", "all", "mean", summary="one global model, mean by examples (the baseline)"),
    "fedavg-modality": Algorithm("plain", "modality", "mean", summary="FedAvg within each modality"),
    "local": Algorithm("plain", "none", "mean", summary="every client alone: the lower bound"),
    "centralised": Algorithm(
        "plain", "modality", "mean", pooled=True, summary="one pooled data set per modality: the upper bound"
    ),
}


def get_algorithm(name: str) -> Algorithm:
    """The algorithm called `name`; unknown names list the known ones."""
    if name not in ALGORITHMS:
        raise FlamesError(f"strategy '{name}' is not known; choose one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]
