"""Secure aggregation (`--secure-aggregation`): options that it excludes, and clients that it needs."""

from collections import Counter
from collections.abc import Iterable

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.participation import Participation, size_of_draw
from flames_cli.fed.secure.asked import different_trainings
from flames_cli.secagg.session import FEWEST

_CHOICE = "choose fp32, fp16 or bf16 with --secure-aggregation"


def takes_sums(algorithm: Algorithm) -> bool:
    """Return whether the server of a strategy needs only sums over the clients of each model."""
    return not _reason_against(algorithm)


def _reason_against(algorithm: Algorithm) -> str:
    """Return what a strategy needs besides sums; empty if it needs nothing else."""
    if algorithm.plugin:
        return "is of a plug-in, whose server may need each client's weights"
    if algorithm.pooled:
        return "has one client for each model, with the images of all"
    if algorithm.alone:
        return "has one client for each model, so that there is nothing to sum"
    if algorithm.clients_correct_gradients:
        return "needs each client's control variate"
    return {
        "fedbn": "stores each client's own BatchNorm at the server",
        "fednova": "divides each client's update by its own number of steps",
    }.get(str(algorithm.blend), "")


def check_options(config: FederateConfig, algorithm: Algorithm) -> None:
    """Check that no option needs the weights of a single client.

    Raises:
        FlamesError: one does; the message says why.
    """
    if not config.secure_aggregation:
        return
    if reason := _reason_against(algorithm):
        able = ", ".join(name for name in ALGORITHMS.builtin if takes_sums(ALGORITHMS[name]))
        raise FlamesError(
            f"strategy {config.strategy} {reason}, and --secure-aggregation shows the server only sums over "
            f"several clients; use {able}, or leave --secure-aggregation out"
        )
    if not ENGINES[config.engine].has_server:
        raise FlamesError(
            f"--engine {config.engine} has no server from which --secure-aggregation could hide weights; "
            "leave --secure-aggregation out, or choose inline, ray or superlink"
        )
    if config.aggregation != "mean":
        raise FlamesError(
            f"--aggregation {config.aggregation} compares the weights of single clients, and the server of "
            "--secure-aggregation sees only their sum; leave one of them out"
        )
    if config.max_update_norm:
        raise FlamesError(
            f"--max-update-norm {config.max_update_norm:g} measures the update of each client, which "
            "--secure-aggregation hides; leave one of them out"
        )
    if config.wire_dtype == "int8":
        raise FlamesError(
            "--wire-dtype int8 scales each client's report by its own largest value, so that masked reports "
            f"could not be summed; {_CHOICE}"
        )
    if config.style_from is not None:
        raise FlamesError(
            "--style-from sends the weights of single clients' decoders, which --secure-aggregation hides; "
            "leave one of them out"
        )
    _check_numbers(config)


def _check_numbers(config: FederateConfig) -> None:
    stated = {"": config.min_clients, **config.min_clients_by_modality}
    for modality, number in stated.items():
        if number is not None and number < FEWEST:
            raise FlamesError(
                f"got --min-clients {f'{modality}=' if modality else ''}{number} with --secure-aggregation, "
                f"whose sums need {FEWEST} clients or more, since two could subtract their own part; "
                f"pass {FEWEST} or more, or leave --min-clients out"
            )


def fewest_clients(config: FederateConfig, algorithm: Algorithm) -> int:
    """Return the smallest number of clients of each modality with which a round starts."""
    usual = FEWEST if config.secure_aggregation and not algorithm.has_one_model else 1
    return usual if config.min_clients is None else config.min_clients


def check_clients(config: FederateConfig, algorithm: Algorithm, clients: Iterable[tuple[str, str]]) -> None:
    """Check that every model has enough clients, of which `clients` has all names and modalities.

    Raises:
        FlamesError: a model has too few clients or different trainings, or `--fraction` draws too few.
    """
    if not config.secure_aggregation:
        return
    known = list(clients)
    for group, names in _by_group(algorithm, known).items():
        if len(names) < FEWEST:
            raise FlamesError(
                f"model {group} has {_count(len(names))} ({', '.join(names)}), and --secure-aggregation "
                f"needs {FEWEST} or more, since a sum of fewer shows each client the weights of the "
                "others; partition into more clients, leave --clients or this modality out, or leave "
                "--secure-aggregation out"
            )
    modalities = dict(known)
    for group, names in _by_group(algorithm, known).items():
        trainings = {_own_training(config, (modalities[name], name)) for name in names}
        if len(trainings) > 1:
            raise different_trainings(group, len(trainings))
    participation = Participation(fewest_clients(config, algorithm), config.min_clients_by_modality)
    present = Counter(modality for _, modality in known)
    drawn = sum(size_of_draw(config.fraction, n, participation.need_of(m)) for m, n in present.items())
    if algorithm.has_one_model and drawn < FEWEST:
        raise FlamesError(
            f"--fraction {config.fraction:g} draws {_count(drawn)} of {len(known)}, and --secure-aggregation "
            f"needs {FEWEST} or more in each round; pass a larger --fraction"
        )


def _own_training(config: FederateConfig, names: tuple[str, str]) -> tuple[float, ...]:
    """Return the options that a client has by its modality, or by its own name, which takes precedence."""
    training = config.training
    values = (training.lr, config.lr_by_modality), (training.local_epochs, config.local_epochs_by_modality)
    return tuple(next((own[name] for name in reversed(names) if name in own), usual) for usual, own in values)


def _by_group(algorithm: Algorithm, clients: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, modality in clients:
        found.setdefault(algorithm.model_group_of(name, modality), []).append(name)
    return found


def _count(number: int) -> str:
    return f"{number} client{'' if number == 1 else 's'}"
