"""The known algorithms, one entry each: local update rule, model groups, blend."""

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError

ALGORITHMS: dict[str, Algorithm] = {
    "flames": Algorithm(
        local_update="plain",
        groups="modality",
        blend="flames",
        summary="one model per modality, personalised for each client (FLAMES)",
    ),
    "fedavg": Algorithm(
        local_update="plain",
        groups="all",
        blend="mean",
        summary="one global model, mean by examples (the baseline)",
    ),
    "fedavg-modality": Algorithm(
        local_update="plain",
        groups="modality",
        blend="mean",
        summary="FedAvg within each modality",
    ),
    "fedgs": Algorithm(
        local_update="fedgs",
        groups="all",
        blend="mean",
        weight="steps",
        summary="one global model; steps on small lesions count more (FedGS)",
    ),
    "flames-fedgs": Algorithm(
        local_update="fedgs",
        groups="modality",
        blend="flames",
        summary="FLAMES over FedGS' reports: both papers at once",
    ),
    "fedprox": Algorithm(
        local_update="fedprox",
        groups="all",
        blend="mean",
        summary="FedAvg, clients held near the global model (FedProx)",
    ),
    "fedbn": Algorithm(
        local_update="plain",
        groups="all",
        blend="fedbn",
        summary="FedAvg, every client with its own BatchNorm (FedBN)",
    ),
    "fedadam": Algorithm(
        local_update="plain",
        groups="all",
        blend="mean",
        server="adam",
        summary="FedAvg, the server steps by Adam (FedAdam)",
    ),
    "fednova": Algorithm(
        local_update="plain",
        groups="all",
        blend="fednova",
        summary="FedAvg, updates normalised by number of steps (FedNova)",
    ),
    "scaffold": Algorithm(
        local_update="scaffold",
        groups="all",
        blend="mean",
        weight="uniform",
        summary="control variates against clients' drift (SCAFFOLD)",
    ),
    "local": Algorithm(
        local_update="plain",
        groups="none",
        blend="mean",
        summary="every client alone: the lower bound",
    ),
    "centralised": Algorithm(
        local_update="plain",
        groups="modality",
        blend="mean",
        pooled=True,
        summary="one pooled data set per modality: the upper bound",
    ),
}


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm called `name`.

    Raises:
        FlamesError: the name is unknown; the message lists the known ones.
    """
    if name not in ALGORITHMS:
        raise FlamesError(f"strategy '{name}' is not known; choose one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]
