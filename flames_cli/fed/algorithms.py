"""The known algorithms: each is a choice of local update, model groups and blend."""

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.plugins import Registry

_BUILT_IN: dict[str, str | Algorithm] = {
    "flames": Algorithm(
        local_update="plain",
        groups="modality",
        blend="flames",
        summary="one model per modality, personalised for each client (FLAMES)",
    ),
    "flames-adaptive": Algorithm(
        local_update="plain",
        groups="modality",
        blend="adaptive",
        summary="FLAMES; each client chooses its blend by its validation patients",
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
    "fedgs-unscaled": Algorithm(
        local_update="fedgs-unscaled",
        groups="all",
        blend="mean",
        weight="steps",
        summary="fedgs without its scaling factor: the comparison that isolates it",
    ),
    "flames-fedgs": Algorithm(
        local_update="fedgs",
        groups="modality",
        blend="flames",
        summary="FLAMES with the local update of FedGS: both papers combined",
    ),
    "fedprox": Algorithm(
        local_update="fedprox",
        groups="all",
        blend="mean",
        summary="FedAvg; a penalty keeps clients near the global model (FedProx)",
    ),
    "fedbn": Algorithm(
        local_update="plain",
        groups="all",
        blend="fedbn",
        summary="FedAvg; every client has its own BatchNorm (FedBN)",
    ),
    "fedadam": Algorithm(
        local_update="plain",
        groups="all",
        blend="mean",
        server="adam",
        summary="FedAvg; the server makes steps of Adam (FedAdam)",
    ),
    "fednova": Algorithm(
        local_update="plain",
        groups="all",
        blend="fednova",
        summary="FedAvg; updates are divided by their number of steps (FedNova)",
    ),
    "scaffold": Algorithm(
        local_update="scaffold",
        groups="all",
        blend="mean",
        weight="uniform",
        summary="control variates correct the drift of clients (SCAFFOLD)",
    ),
    "local": Algorithm(
        local_update="plain",
        groups="none",
        blend="mean",
        summary="each client trains alone: the lower bound",
    ),
    "centralised": Algorithm(
        local_update="plain",
        groups="modality",
        blend="mean",
        pooled=True,
        summary="one pooled data set per modality: the upper bound",
    ),
}


def _check_algorithm(found: object) -> str:
    return "" if isinstance(found, Algorithm) else f"it is {type(found).__name__}, expected an Algorithm"


ALGORITHMS: Registry[Algorithm] = Registry("strategies", _BUILT_IN, check=_check_algorithm)
"""Algorithm of each strategy."""


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm called `name`.

    Raises:
        FlamesError: the name is unknown; the message lists the known ones.
    """
    return ALGORITHMS.look_up(name)
