"""What is kept of every round."""

import secrets
from collections.abc import Mapping
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.privacy import KEY_BYTES
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.plan import Plan
from flames_cli.fed.server import Save, SaveEvaluations
from flames_cli.stages.federate.planning import encoder_weights_of
from flames_cli.store.checkpoint import save_state
from flames_cli.store.files.atomic import (
    REMOVED,
    remove_leftovers,
    replacing_folder,
    write_json,
    write_private,
)
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.runs import RunFolder, append_round, write_config
from flames_cli.store.schema import CLIENT_TESTS, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors

INITIAL_SHA256 = "initial_sha256"
"""Among a run's facts: of the file with what every model starts from, where there is one."""

Facts = Mapping[str, Any]
"""What a run's config.toml says beside its options."""


def write_new_run(
    run: RunFolder, config: FederateConfig, options: dict[str, Any], plan: Plan, facts: Facts
) -> None:
    """Make the folder of a new run in place of what is there: all of it at once, or nothing.

    It holds what every model starts from, unless that is drawn by seed alone: a client may join in any round.

    Raises:
        NotWritten: the folder cannot be written.
    """
    with replacing_folder(run.path) as folder:
        new = RunFolder(folder)
        if encoder_weights_of(config) != "none":
            write_safetensors(new.initial, plan.initial)
            facts = {**facts, INITIAL_SHA256: hash_file(new.initial)}
        write_config(new.config, {"federate": options, "run": dict(facts)})
    remove_leftovers(run.path.parent, f"{run.name}{REMOVED}*")


def read_initial(run: RunFolder, facts: Facts) -> Weights | None:
    """What `write_new_run` kept; None where that is drawn by seed.

    Raises:
        FlamesError: it is missing or damaged.
    """
    there, expected = run.initial.is_file(), facts.get(INITIAL_SHA256)
    if expected and not (there and hash_file(run.initial) == expected):
        raise FlamesError(
            f"{run.initial} is missing or damaged (its checksum differs): clients that join later start from "
            "it; copy it back from a backup, or pass --fresh to start anew"
        )
    return read_safetensors(run.initial) if there else None


def ensure_noise_secret(run: RunFolder, algorithm: Algorithm) -> bytes:
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


def make_round_saver(run: RunFolder, keep_rounds: int) -> Save:
    """save(state, record): a line and a checkpoint in `run`'s folder."""

    def save(state: State, record: dict[str, Any]) -> None:
        # In this order: a line without its checkpoint is dropped and done again, the reverse is not.
        append_round(run.rounds, record)
        save_state(run.checkpoints, state, keep_rounds)

    return save


def make_evaluation_saver(run: RunFolder) -> SaveEvaluations:
    """Return save_evaluations(round, reports, missing), which writes client-tests.json in `run`'s folder."""

    def save(round_: int, reports: list[EvaluationReport], silent: dict[str, str]) -> None:
        content = {
            **stamp(CLIENT_TESTS),
            "round": round_,
            "clients": [report.as_json() for report in reports],
            "silent": silent,
        }
        write_json(run.client_tests, content)

    return save
