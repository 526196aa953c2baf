"""The client's side of the pass after the last round: statistics and validation of the final models."""

from collections.abc import Set

from flames_cli.arrays import Weights
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.final_report import FinalReport
from flames_cli.fed.messages import Profile, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.training import offer_of, receive_final_model
from flames_cli.learn.candidates import choose_model
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.learn.final_models import examine_models
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.train_options import LocalRound


def report_on_final_models(
    task: TrainTask, settings: NodeSettings, profile: Profile, cache: DatasetCache
) -> FinalReport:
    """Return what the client finds about its own final model and its group's server model.

    Statistics leave the client only if the request asks for them; those of entries that stay at the client
    never do.

    Raises:
        FlamesError: the shard, the device or the client state cannot be used.
    """
    request = task.request
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device, request.model)
    train, val = cache.load(settings, "train"), cache.load(settings, "val")
    local = LocalRound(request.seed, request.round, request.client, request.training, offer=offer_of(task))
    with receive_final_model(task, settings, profile.client) as model:
        received = to_weights(model)
        choice, own = choose_model(model, received, train, val, local, device, precision)
        found = examine_models(
            model=model,
            own=own,
            server=None if task.server is None else {**received, **task.server},
            train=train,
            val=val,
            local=local,
            device=device,
            precision=precision,
            estimate=request.report_statistics,
        )
    shared = task.weights.keys()
    return FinalReport(
        client=profile.client,
        modality=profile.modality,
        round=request.round,
        n_examples=len(train),
        own=_select(found.own, shared),
        server=_select(found.server, shared),
        validation=found.validation.numbers() if found.validation else {},
        choice=choice,
    )


def _select(statistics: Weights, shared: Set[str]) -> Weights:
    return {name: array for name, array in statistics.items() if name in shared}
