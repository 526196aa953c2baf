"""The ClientApp: a hospital's side. It reads its own shard; only weights, counts and means leave it."""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flames_cli.errors import FlamesError
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.evaluation_report import pack_evaluation
from flames_cli.fed.events import OnEvent, StepDone, ignore
from flames_cli.fed.messages import pack_profile, pack_report, unpack_task
from flames_cli.fed.node import Declined, NodeSettings, read_profile, settings_of


def make_client_app(on_event: OnEvent = ignore) -> ClientApp:
    """The ClientApp of one node; what it is stands in its node's configuration (`NodeSettings`).

    Training is imported when it is asked for: on a real node every message starts a process of its own, and
    torch takes seconds to load.
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
    def test(message: Message, context: Context) -> Message:
        return _answer(context, lambda settings: _test(message, settings, cache))

    return app


def _answer(context: Context, work: Callable[[NodeSettings], Message]) -> Message:
    """What `work` gives. Where it fails, a private node tells the server no more than that.

    An error's words may name a file or a patient. Flower writes the error and its cause into the node's log.
    """
    settings = settings_of(context)
    try:
        return work(settings)
    except Declined:
        raise
    except Exception as error:
        if settings.private:
            raise FlamesError("it failed; its own log says why") from error
        raise


def _train(message: Message, settings: NodeSettings, cache: DatasetCache, on_event: OnEvent) -> Message:
    from flames_cli.fed.training import train_client

    task, profile = unpack_task(message), read_profile(settings)

    def on_step(step: int, steps: int) -> None:
        on_event(StepDone(profile.client, task.request.round, step, steps))

    report, keep = train_client(task, settings, profile, cache, on_step)
    reply = pack_report(report, message)
    # Not before: a report that cannot be packed is none, and the next round must start from what was.
    keep()
    return reply


def _test(message: Message, settings: NodeSettings, cache: DatasetCache) -> Message:
    from flames_cli.fed.client_evaluation import evaluate_client

    tests = cache.load(settings, "test")
    return pack_evaluation(
        evaluate_client(unpack_task(message), settings, read_profile(settings), tests), message
    )
