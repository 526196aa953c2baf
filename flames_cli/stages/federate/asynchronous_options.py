"""Rounds without waiting (`--asynchronous`): options that it excludes, its buffer and its virtual clock."""

from collections.abc import Collection

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.buffering import Buffering
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.virtual_clock import VirtualClock

ONLY_ASYNCHRONOUS = ("buffer", "staleness", "slow", "jitter")
"""Options that have a meaning only together with `--asynchronous`."""


def goes_on_without_waiting(algorithm: Algorithm) -> bool:
    """Return whether a strategy has an asynchronous version."""
    return not _reason_against(algorithm)


def _reason_against(algorithm: Algorithm) -> str:
    """Return why a strategy has no asynchronous version; empty if it has one."""
    if algorithm.alone:
        return "has one client for each model, which waits for nobody"
    if algorithm.clients_choose:
        return "compares how often and in which rounds clients chose, which needs rounds in step"
    if algorithm.clients_correct_gradients:
        return "corrects gradients by the mean of the control variates of one round"
    if algorithm.has_client_state:
        return "stores state at its clients, which cannot go back over several trainings"
    if algorithm.blend == "fedbn":
        return "lets every client have its own BatchNorm, which has no stale version"
    if algorithm.blend == "fednova":
        return "divides updates by their number of steps, which does not fit differences of several versions"
    if algorithm.blend not in ("mean", "flames"):
        return "blends by a class of a plug-in, which is made for rounds in step"
    if algorithm.groups != "modality":
        return "trains one model over several modalities"
    return ""


def check_asynchronous(config: FederateConfig, algorithm: Algorithm) -> None:
    """Check that no option needs rounds in step.

    Raises:
        FlamesError: one does, and the message says why; or an option has a meaning only with
            `--asynchronous`.
    """
    if not config.asynchronous:
        for name in ONLY_ASYNCHRONOUS:
            if getattr(config, name) != FederateConfig.model_fields[name].default:
                raise FlamesError(
                    f"--{name} is an option of rounds without waiting; pass --asynchronous too, or leave it "
                    "out"
                )
        return
    if reason := _reason_against(algorithm):
        able = ", ".join(name for name in ALGORITHMS.builtin if goes_on_without_waiting(ALGORITHMS[name]))
        raise FlamesError(
            f"strategy {config.strategy} {reason}, so it cannot be --asynchronous; use {able}, or leave "
            "--asynchronous out"
        )
    if excluded := _excluded(config):
        option, reason = excluded[0]
        raise FlamesError(f"{option} does not go with --asynchronous: {reason}; leave one of them out")


def _excluded(config: FederateConfig) -> list[tuple[str, str]]:
    """Return the options of this run that need rounds in step, with the reason."""
    engine = ENGINES[config.engine]
    found = [
        (
            not engine.has_server,
            f"--engine {config.engine}",
            "it has no server that could have a buffer",
        ),
        (
            config.secure_aggregation,
            "--secure-aggregation",
            "a stale report would have to be taken out of a sum alone, which reveals it",
        ),
        (
            config.dp_noise is not None,
            "--dp-noise",
            "its account is of rounds in which each client counts once, and a fast client counts more often",
        ),
        (
            config.aggregation != "mean",
            f"--aggregation {config.aggregation}",
            "it compares reports on the same model, and stale reports are on earlier ones",
        ),
        (config.style_from is not None, "--style-from", "styles are exchanged between rounds in step"),
        (
            config.style_stays,
            "--share content",
            "a client stores its style for its last trainings only, and a server may go back over more",
        ),
        (
            config.wire_dtype == "int8",
            "--wire-dtype int8",
            "a client stores what its reports left out for its last trainings only, and a server may go back "
            "over more",
        ),
        (config.fraction < 1, f"--fraction {config.fraction:g}", "no round draws its clients"),
        (
            config.round_timeout is not None,
            f"--round-timeout {config.round_timeout or 0:g}",
            "nobody waits for a slow client",
        ),
        (engine.clients_hold_their_data and bool(config.slow), "--slow", "real nodes have their own speed"),
    ]
    return [(option, reason) for is_set, option, reason in found if is_set]


def check_slow(config: FederateConfig, clients: Collection[str]) -> None:
    """Raise FlamesError if `--slow` names none of the `clients`."""
    if unknown := [name for name in config.slow if name not in clients]:
        raise FlamesError(
            f"--slow names '{unknown[0]}', expected a client, one of {', '.join(clients)}; correct the name"
        )


def buffering_of(config: FederateConfig) -> Buffering | None:
    """Return the buffer of an asynchronous run; None if its rounds are in step."""
    return Buffering(config.buffer, config.staleness) if config.asynchronous else None


def clock_of(config: FederateConfig) -> VirtualClock | None:
    """Return the virtual clock of an asynchronous simulation; None for another run."""
    if not config.asynchronous or ENGINES[config.engine].clients_hold_their_data:
        return None
    return VirtualClock(config.seed, config.slow, config.jitter)
