"""What is kept of every round."""

import secrets
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.algorithm import Algorithm
from flames_cli.core.privacy import KEY_BYTES
from flames_cli.core.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.reported_tests import TestReport
from flames_cli.fed.server import Save, SaveTests
from flames_cli.stages.federating.planning import encoder_weights_of
from flames_cli.store.atomic import write_json, write_private
from flames_cli.store.checkpoint import save_state
from flames_cli.store.runs import RunFolder, append_round
from flames_cli.store.schema import CLIENT_TESTS, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors


def keep_initial(run: RunFolder, config: FederateConfig, initial: Weights) -> None:
    """Keep what every model starts from, unless it is drawn by seed alone: a client may join in any round."""
    if encoder_weights_of(config) != "none":
        write_safetensors(run.initial, initial)


def read_initial(run: RunFolder) -> Weights | None:
    """What `keep_initial` kept; None where that is drawn by seed."""
    return read_safetensors(run.initial) if run.initial.is_file() else None


def noise_secret(run: RunFolder, algorithm: Algorithm) -> bytes:
    """The secret that the run's noise is drawn from, made where there is none yet; none without privacy.

    One that was lost costs no privacy: only that a round done again would be blurred otherwise.

    Raises:
        FlamesError: the secret is damaged, or the folder cannot be written.
    """
    if not algorithm.privacy:
        return b""
    if not run.noise_secret.exists():
        write_private(run.noise_secret, secrets.token_bytes(KEY_BYTES))
    secret = run.noise_secret.read_bytes()
    if len(secret) != KEY_BYTES:
        raise FlamesError(
            f"{run.noise_secret} has {len(secret)} bytes, expected {KEY_BYTES}; remove it, another is made"
        )
    return secret


def keeper(run: RunFolder, keep_rounds: int) -> Save:
    """save(state, record): a line and a checkpoint in `run`'s folder."""

    def save(state: State, record: dict[str, Any]) -> None:
        # In this order: a line without its checkpoint is dropped and done again, the reverse is not.
        append_round(run.rounds, record)
        save_state(run.checkpoints, state, keep_rounds)

    return save


def keeper_of_tests(run: RunFolder) -> SaveTests:
    """save_tests(round, reports, silent): what the clients tell of their own test sets, in `run`'s folder."""

    def save(round_: int, reports: list[TestReport], silent: dict[str, str]) -> None:
        content = {
            **stamp(CLIENT_TESTS),
            "round": round_,
            "clients": [report.as_json() for report in reports],
            "silent": silent,
        }
        write_json(run.client_tests, content)

    return save
