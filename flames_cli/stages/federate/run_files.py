"""Files of a run: its folder, and what is saved after every round."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.best_round import score_rounds
from flames_cli.core.federated.privacy import KEY_BYTES
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.events import Noted, OnEvent
from flames_cli.fed.federation import EarlierRounds, Save, SaveEvaluations, SaveFinal
from flames_cli.fed.joined import SaveClients
from flames_cli.fed.messages import Profile
from flames_cli.fed.plan import Plan
from flames_cli.fed.server_delivery import Delivery
from flames_cli.fed.server_final_pass import FinalPass
from flames_cli.stages.federate.modality_files import has_rounds
from flames_cli.stages.federate.planning import Initial, encoder_weights_of
from flames_cli.stages.rounds import choose_round, read_run_rounds, reason_for_last_only, rounds_to_keep
from flames_cli.store.checkpoint import (
    DamagedCheckpoint,
    list_rounds,
    load_state,
    save_state,
    save_statistics,
    set_aside,
)
from flames_cli.store.checkpoint_files import LastFiles
from flames_cli.store.clients import JoinedClient, KeptModel, read_clients, write_clients
from flames_cli.store.files.aside import set_aside as aside_folder
from flames_cli.store.files.atomic import (
    REMOVED,
    finite,
    remove_leftovers,
    replacing_folder,
    write_json,
    write_private,
)
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.runs import RunFolder, append_round, read_rounds, write_config
from flames_cli.store.schema import CLIENT_TESTS, FINAL_MODELS, stamp
from flames_cli.store.spool import FOLDER, Job, Spool
from flames_cli.store.weights import read_safetensors, write_safetensors

INITIAL_SHA256 = "initial_sha256"
"""Key among a run's facts: the SHA-256 of the file with the initial model, if there is such a file."""

STARTS = "starts"
"""Key among a run's facts: model, file and SHA-256 of the initial weights of each model with its own."""

Facts = Mapping[str, Any]
"""Facts: entries of a run's config.toml besides its options."""


def write_new_run(
    run: RunFolder, config: FederateConfig, options: dict[str, Any], plan: Plan, facts: Facts
) -> str:
    """Make the folder of a new run, completely or not at all.

    It contains the initial model unless that is drawn by seed alone: a client may join in any round. An
    existing run is renamed with `fresh`, unless it has not done a round.

    Returns:
        The new name of the existing run; empty if there is none.

    Raises:
        NotWritten: the folder cannot be written.
    """
    with replacing_folder(run.path) as folder:
        new = RunFolder(folder)
        facts = {**facts, **_write_initial(new, config, plan)}
        write_config(new.config, {"federate": options, "run": dict(facts)})
        aside = aside_folder(run.path) if config.fresh and is_worth_keeping(run) else None
    remove_leftovers(run.path.parent, f"{run.name}{REMOVED}*")
    return aside.name if aside else ""


def _write_initial(new: RunFolder, config: FederateConfig, plan: Plan) -> Facts:
    """Write the initial weights that are not drawn by seed alone, and return their facts."""
    facts: dict[str, Any] = {}
    if encoder_weights_of(config) != "none" or config.start_from is not None:
        write_safetensors(new.initial, plan.initial)
        facts[INITIAL_SHA256] = hash_file(new.initial)
    written: dict[int, str] = {}  # clients without a model of their own start from the same one
    for name, weights in plan.starts.items():
        file = written.setdefault(id(weights), f"{len(written) + 1}.safetensors")
        path = new.starts / file
        if not path.exists():
            write_safetensors(path, weights)
        facts.setdefault(STARTS, []).append({"model": name, "file": file, "sha256": hash_file(path)})
    return facts


def is_worth_keeping(run: RunFolder) -> bool:
    """Return whether a folder is more than a run that was stopped in its first round."""
    done = list_rounds(run.checkpoints) or len(read_rounds(run.rounds)) > 1 or has_rounds(run)
    return bool(done) or not run.config.exists()


def describe_aside(run: str, aside: str) -> str:
    """Return a note about an earlier run that has another name now."""
    return f"the earlier run '{run}' is called '{aside}' now, and can still be evaluated and continued"


def read_initial(run: RunFolder, facts: Facts) -> Initial | None:
    """Return the initial weights that `write_new_run` stored; None if they are drawn by seed.

    Raises:
        FlamesError: they are missing or damaged.
    """
    expected = facts.get(INITIAL_SHA256)
    every = _read_stored(run.initial, expected) if expected or run.initial.is_file() else None
    by_file: dict[str, Weights] = {}
    by_model: dict[str, Weights] = {}
    for one in facts.get(STARTS, ()):
        if one["file"] not in by_file:
            by_file[one["file"]] = _read_stored(run.starts / one["file"], one["sha256"])
        by_model[one["model"]] = by_file[one["file"]]
    return None if every is None and not by_model else Initial(every, by_model)


def _read_stored(path: Path, expected: str | None) -> Weights:
    if expected and not (path.is_file() and hash_file(path) == expected):
        raise FlamesError(
            f"{path} is missing or damaged (its checksum differs): clients that join later start from "
            "it; copy it back from a backup, or pass --fresh to start again"
        )
    return read_safetensors(path)


def ensure_noise_secret(run: RunFolder, plan: Plan) -> bytes:
    """Return the secret from which the server draws a run's noise, made if it is missing; empty if it draws
    none: without privacy, or if the clients add the noise.

    A lost secret costs no privacy: a repeated round only gets other noise.

    Raises:
        FlamesError: the secret is damaged, or the folder cannot be written.
    """
    if not plan.algorithm.privacy or plan.secure:
        return b""
    if not run.noise_secret.exists():
        write_private(run.noise_secret, secrets.token_bytes(KEY_BYTES))
    secret = run.noise_secret.read_bytes()
    if len(secret) != KEY_BYTES:
        raise FlamesError(
            f"{run.noise_secret} has {len(secret)} bytes, expected {KEY_BYTES}; delete it, and a new one "
            "is made"
        )
    return secret


def open_spool(run: RunFolder) -> Spool:
    """Return the place of the clients' models while this process does the rounds of `run`."""
    return Spool(run.path / FOLDER)


def make_round_saver(run: RunFolder, config: FederateConfig, spool: Spool) -> Save:
    """Return save(state, record), which writes a line and a checkpoint in `run`'s folder, and deletes the
    checkpoints that are neither among the newest nor the best.

    The thread of `spool` writes the checkpoint while the next round goes on; at most one is not complete. An
    error of it is raised by the next call, or by the spool.
    """
    lines, only_last, last = read_rounds(run.rounds), reason_for_last_only(config), LastFiles()
    writing: Job | None = None

    def save(state: State, record: dict[str, Any]) -> None:
        nonlocal writing
        if writing:
            spool.wait(writing)
        # In this order: a line without its checkpoint is deleted and its round repeated; a checkpoint without
        # its line is not repeated.
        append_round(run.rounds, record)
        lines.append(finite(record))
        best = rounds_to_keep(lines, list_rounds(run.checkpoints), only_last)
        writing = spool.submit(partial(save_state, run.checkpoints, state, config.keep_rounds, best, last))
        if config.dp_noise is not None:
            # The clients see this round's model next, and the privacy account is part of the checkpoint.
            spool.wait()

    return save


def make_client_saver(run: RunFolder, plan: Plan) -> SaveClients:
    """Return save_clients(profiles), which adds clients to clients.json; those of earlier calls stay there.

    With differential privacy, which does not cover the numbers of images, these are not stored.
    """
    private = plan.algorithm.privacy is not None

    def save(profiles: Sequence[Profile]) -> None:
        try:
            before = read_clients(run.joined_clients)
        except FlamesError:
            aside_folder(run.joined_clients)  # the clients state its content again
            before = []
        kept = {one.client: one.kept for one in before}
        new = (replace(_joined(one, private), kept=kept.get(one.client)) for one in profiles)
        clients = {one.client: one for one in (*before, *new)}
        if (after := sorted(clients.values(), key=lambda one: one.client)) != before:
            write_clients(run.joined_clients, after)

    return save


def _joined(profile: Profile, private: bool) -> JoinedClient:
    return JoinedClient(
        client=profile.client,
        modality=profile.modality,
        organ=profile.organ,
        size=profile.size,
        channels=profile.channels,
        n_train=None if private else profile.n_train,
        n_val=None if private else profile.n_val,
        preparation=profile.preparation,
    )


def make_delivery(run: RunFolder, config: FederateConfig) -> Delivery:
    """Return the record, in clients.json, of which clients have their model."""

    def save(client: str, model: KeptModel) -> None:
        known = read_clients(run.joined_clients)
        write_clients(
            run.joined_clients, [replace(one, kept=model) if one.client == client else one for one in known]
        )

    def explain(state: State) -> str:
        chosen = choose_round(read_run_rounds(run, config), None)
        return chosen.why if chosen.round == state.round else "its first model is newer than the best round"

    return Delivery(lambda: find_kept(run), save, explain)


def find_kept(run: RunFolder) -> dict[str, KeptModel]:
    """Return the models that the clients have stored at their sites, by client."""
    with suppress(FlamesError):  # a damaged list costs that the models are sent again
        return {one.client: one.kept for one in read_clients(run.joined_clients) if one.kept}
    return {}


def has_missing_models(run: RunFolder, config: FederateConfig, last: State) -> bool:
    """Return whether a client of a finished run does not have its model of the chosen round."""
    chosen, kept = choose_round(read_run_rounds(run, config), None), find_kept(run)
    return any(
        name not in kept or kept[name].round not in (chosen.round, last.round) for name in last.clients
    )


def make_final_saver(run: RunFolder, plan: Plan) -> SaveFinal | None:
    """Return save_final(result, earlier), which writes final-models.json, and the statistics to the last
    checkpoint; None if the server may see only private sums: the pass has nothing but scores then."""
    if plan.secure and plan.algorithm.privacy:
        return None

    def save(result: FinalPass, earlier: list[dict[str, Any]]) -> None:
        # The statistics come last: while the checkpoint has none, all passes are made again.
        content = {**stamp(FINAL_MODELS), **result.as_json(), "earlier": earlier}
        write_json(run.final_models, finite(content))
        save_statistics(run.checkpoints, result.state)

    return save


def make_earlier_rounds(run: RunFolder, config: FederateConfig) -> EarlierRounds:
    """Return the access to the best earlier rounds in `run`'s folder."""

    def find_best(last: FinalPass, on_event: OnEvent) -> Iterator[State]:
        if reason_for_last_only(config):
            return
        scores, done = score_rounds(read_rounds(run.rounds), [finite(last.as_json())]), {last.state.round}
        while open_ := [one for one in scores.best_rounds(list_rounds(run.checkpoints)) if one not in done]:
            done.add(open_[0])
            try:
                state = load_state(run.checkpoints, open_[0], mapped=True)
            except DamagedCheckpoint as error:
                aside = set_aside(error.round_folder).name
                on_event(
                    Noted(
                        f"the checkpoint of {error.round_folder.name} is damaged ({error.what}) and is "
                        f"set aside as {aside}; the best round is chosen among the others"
                    )
                )
            else:
                yield state

    def choose(last: State) -> State:
        chosen = choose_round(read_run_rounds(run, config), None)
        return last if chosen.round == last.round else load_state(run.checkpoints, chosen.round, mapped=True)

    return EarlierRounds(find_best, partial(save_statistics, run.checkpoints), choose)


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
