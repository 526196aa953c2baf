"""The known algorithms: each is a choice of local update, model groups and blend."""

from dataclasses import replace

from flames_cli.core.federated.algorithm import BLENDS, GROUPS, LOCAL_UPDATES, Algorithm
from flames_cli.plugins import Origin, Registry

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


def algorithm_fault(found: object) -> str:
    """Return what is wrong with the strategy of a plug-in; "" if it can be used."""
    if not isinstance(found, Algorithm):
        return f"it is a {type(found).__name__}, expected an Algorithm"
    update, groups, blend = found.local_update, found.groups, found.blend
    if isinstance(update, type):
        from flames_cli.learn.local_updates import LocalUpdate  # imports torch, as the plug-in did

        if not issubclass(update, LocalUpdate):
            return f"its local_update {update.__name__} is no subclass of LocalUpdate"
    elif update not in LOCAL_UPDATES:
        return f"its local_update is {update!r}, expected a class or one of {', '.join(LOCAL_UPDATES)}"
    if isinstance(blend, type):
        from flames_cli.core.federated.blend import Blend

        if not issubclass(blend, Blend):
            return f"its blend {blend.__name__} is no subclass of Blend"
    elif blend not in BLENDS:
        return f"its blend is {blend!r}, expected a class or one of {', '.join(BLENDS)}"
    if not callable(groups) and groups not in GROUPS:
        return f"its groups are {groups!r}, expected a function or one of {', '.join(GROUPS)}"
    return ""


def _name_origin(found: Algorithm, origin: Origin) -> Algorithm:
    """Return the algorithm with its plug-in, which messages about its parts name."""
    return replace(found, plugin=f"strategy '{origin.name}' of {origin}")


ALGORITHMS: Registry[Algorithm] = Registry("strategies", _BUILT_IN, check=algorithm_fault, adapt=_name_origin)
"""Algorithm of each strategy."""


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm called `name`.

    Raises:
        FlamesError: the name is unknown, and the message lists the known ones; or its plug-in cannot be used.
    """
    return ALGORITHMS.look_up(name)
