"""The ClientApp: the hospital's side. It reads its own shard and sends only weights, counts and means."""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flames_cli.errors import FlamesError
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.evaluation_report import pack_evaluation
from flames_cli.fed.events import Noted, OnEvent, StepDone, ignore
from flames_cli.fed.final_model import ACTION as KEEP
from flames_cli.fed.final_model import pack_stored, unpack_final_model
from flames_cli.fed.final_report import ACTION, pack_final
from flames_cli.fed.messages import pack_profile, pack_report, unpack_task
from flames_cli.fed.node import Declined, NodeSettings, read_profile, settings_of
from flames_cli.fed.node_log import NodeLog, say


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
    except Declined:
        raise
    except Exception as error:
        if settings.private:
            raise FlamesError("the client failed; the reason is in the node's own log") from error
        raise


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

    report, coded, save_state = train_client(task, settings, profile, cache, Watch(on_step, on_note))
    reply = pack_report(report, message, coded)
    # The state is saved only after packing: without a report, the next round must start from the old state.
    save_state()
    log.end_training(report, reply)
    return reply


def _evaluate(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.client_evaluation import evaluate_client

    task, profile, cases = unpack_task(message), read_profile(settings), cache.load(settings, "test")
    log = NodeLog(settings, message, task.request)
    report = evaluate_client(task, settings, profile, cases)
    log.end_evaluation(report)
    return pack_evaluation(report, message)


def _examine(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.final_pass import report_on_final_models

    task = unpack_task(message)
    log = NodeLog(settings, message, task.request)
    report = report_on_final_models(task, settings, read_profile(settings), cache)
    reply = pack_final(report, message)
    log.end_examination(report, reply)
    return reply


def _keep(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.kept_models import keep_final_model

    profile = read_profile(settings)
    return pack_stored(keep_final_model(unpack_final_model(message), settings, profile, cache), message)
