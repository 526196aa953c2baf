"""Every algorithm is one entry: how clients train, who shares, how reports become models."""

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError

ALGORITHMS: dict[str, Algorithm] = {
    "flames": Algorithm(
        "plain", "modality", "flames", summary="one model per modality, personalised for each client (FLAMES)"
    ),
    "fedavg": Algorithm("plain", "all", "mean", summary="one global model, mean by examples (the baseline)"),
    "fedavg-modality": Algorithm("plain", "modality", "mean", summary="FedAvg within each modality"),
    "fedgs": Algorithm(
        "fedgs", "all", "mean", "steps", summary="one global model; steps on small lesions count more (FedGS)"
    ),
    "flames-fedgs": Algorithm(
        "fedgs", "modality", "flames", summary="FLAMES over FedGS' reports: both papers at once"
    ),
    "fedprox": Algorithm(
        "fedprox", "all", "mean", summary="FedAvg, clients held near the global model (FedProx)"
    ),
    "fedbn": Algorithm(
        "plain", "all", "fedbn", summary="FedAvg, every client with its own BatchNorm (FedBN)"
    ),
    "fedadam": Algorithm(
        "plain", "all", "mean", server="adam", summary="FedAvg, the server steps by Adam (FedAdam)"
    ),
    "fednova": Algorithm(
        "plain", "all", "fednova", summary="FedAvg, updates normalised by number of steps (FedNova)"
    ),
    "scaffold": Algorithm(
        "scaffold", "all", "mean", "uniform", summary="control variates against clients' drift (SCAFFOLD)"
    ),
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
