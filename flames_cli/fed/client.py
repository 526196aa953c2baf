"""The ClientApp: the hospital's side. It reads its own shard and sends only weights, counts and means."""

from collections.abc import Callable
from functools import partial

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import client_state_folder
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.evaluation_report import pack_evaluation
from flames_cli.fed.events import Noted, OnEvent, StepDone, ignore
from flames_cli.fed.final_model import ACTION as KEEP
from flames_cli.fed.final_model import pack_stored, unpack_final_model
from flames_cli.fed.final_report import ACTION, pack_final
from flames_cli.fed.messages import TrainRequest, pack_profile, pack_report, unpack_task
from flames_cli.fed.node import Declined, NodeSettings, client_name, read_profile, settings_of
from flames_cli.fed.node_log import NodeLog, say
from flames_cli.fed.secure.asked import check_asked
from flames_cli.fed.secure.client import (
    ClientSession,
    answer_keys,
    check_noise,
    mask_report,
    own_part,
)
from flames_cli.fed.secure.final_vector import mask_final
from flames_cli.fed.secure.messages import KEYS, SHARES, UNMASK, Part, has_part, read_part
from flames_cli.fed.secure.node import check_plain, identity_of, say_members, say_opened
from flames_cli.fed.secure.own_final import save_final_entries, with_final_model
from flames_cli.fed.secure.own_model import with_own_weights
from flames_cli.secagg import Declined as DeclinedSum
from flames_cli.store.secure_sessions import SecureFiles


def make_client_app(on_event: OnEvent = ignore) -> ClientApp:
    """Return the ClientApp of a node; the node's configuration (`NodeSettings`) describes the client.

    Training is imported on its first use: torch takes seconds to load, and a node's profile needs none of it.
    """
    app = ClientApp()
    cache = DatasetCache()

    @app.query()
    def describe(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: pack_profile(read_profile(settings), message))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _train(message, settings, cache, on_event))

    @app.query(KEYS)
    def keys(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _open_session(message, settings))

    @app.query(SHARES)
    def shares(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _give_shares(message, settings))

    @app.query(UNMASK)
    def unmask(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _open_sum(message, settings))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _evaluate(message, settings, cache))

    @app.evaluate(ACTION)
    def examine(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _examine(message, settings, cache))

    @app.evaluate(KEEP)
    def keep(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _keep(message, settings, cache))

    return app


def _answer(context: Context, work: Callable[[NodeSettings], Message]) -> Message:
    """Return the result of `work`. If it fails, a private node reports only the failure to the server.

    The message of an error could name a file or a patient. Flower writes the error and its cause into the
    node's log.
    """
    settings = settings_of(context)
    try:
        return work(settings)
    except (Declined, DeclinedSum):
        raise
    except Exception as error:
        if settings.private:
            raise FlamesError("the client failed; the reason is in the node's own log") from error
        raise


def _files(settings: NodeSettings, run: str) -> SecureFiles:
    return SecureFiles(client_state_folder(settings, run, client_name(settings)))


def _open_session(message: Message, settings: NodeSettings) -> Message:
    return answer_keys(
        message, partial(_files, settings), read_profile(settings).client, identity_of(settings)
    )


def _load_session(message: Message, settings: NodeSettings) -> tuple[ClientSession, Part]:
    part = read_part(message)
    return ClientSession.load(_files(settings, part.run), part.session), part


def _give_shares(message: Message, settings: NodeSettings) -> Message:
    session, part = _load_session(message, settings)
    reply = session.answer_shares(part, message)
    say_members(settings, session)
    return reply


def _open_sum(message: Message, settings: NodeSettings) -> Message:
    session, part = _load_session(message, settings)
    reply = session.answer_unmask(part, message)
    say_opened(settings, session, part.names)
    return reply


def _begin_sum(
    message: Message, settings: NodeSettings, purpose: str, request: TrainRequest
) -> ClientSession | None:
    """Return the session of a request for a masked vector; None in a run without secure aggregation.

    Raises:
        Declined: the request is for a plain report, in a run with secure aggregation.
    """
    if not has_part(message):
        check_plain(settings, request, "its weights or statistics")
        return None
    session, part = _load_session(message, settings)
    check_asked(session.terms, message)
    session.begin(part, purpose, request.round)
    return session


def _train(message: Message, settings: NodeSettings, cache: DatasetCache, on_event: OnEvent) -> Message:
    from flames_cli.fed.training import Watch, train_client

    task, profile = unpack_task(message), read_profile(settings)
    log = NodeLog(settings, message, task.request)
    log.begin_training(profile)

    def on_step(step: int, steps: int) -> None:
        on_event(StepDone(profile.client, task.request.round, step, steps))

    def on_note(note: str) -> None:
        say(settings, note)
        on_event(Noted(f"client {profile.client}: {note}"))

    session = _begin_sum(message, settings, "round", task.request)
    if session:
        check_noise(session.terms, task.request.clip)
        log.describe_noise(session.terms.noise, session.terms.clip)
    stored = partial(own_part, session) if session else None
    own = with_own_weights(task, settings, profile.client)
    watch = Watch(on_step, on_note)
    report, coded, save_state = train_client(own, settings, profile, cache, watch, stored)
    reply = (
        mask_report(session, report, profile, message, task.weights)
        if session
        else pack_report(report, message, coded)
    )
    # The state is saved only after packing: without a report, the next round must start from the old state.
    save_state()
    log.end_training(report, reply)
    return reply


def _evaluate(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.client_evaluation import evaluate_client

    task, profile = unpack_task(message), read_profile(settings)
    check_plain(settings, task.request, "its scores")
    cases = cache.load(settings, "test")
    log = NodeLog(settings, message, task.request)
    # The request is that of the next round, whose training would begin with this model.
    after = task.request.round - 1
    own = with_final_model(task, settings, profile.client, after)
    report = evaluate_client(own, settings, profile, cases)
    log.end_evaluation(report)
    return pack_evaluation(report, message)


def _examine(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.final_pass import report_on_final_models
    from flames_cli.fed.training import begun_with

    task = unpack_task(message)
    log = NodeLog(settings, message, task.request)
    profile = read_profile(settings)
    session = _begin_sum(message, settings, "final", task.request)
    own = with_own_weights(task, settings, profile.client)
    report = report_on_final_models(own, settings, profile, cache)
    if session:
        chosen = begun_with(own, report.choice) if report.choice else {}
        save_final_entries(settings, task.request, profile.client, {**chosen, **report.own})
        reply = mask_final(session, report, profile, message)
    else:
        reply = pack_final(report, message)
    log.end_examination(report, reply)
    return reply


def _keep(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.kept_models import keep_final_model

    profile = read_profile(settings)
    return pack_stored(keep_final_model(unpack_final_model(message), settings, profile, cache), message)
