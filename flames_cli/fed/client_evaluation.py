"""A client's side of the final test: its model on its own test set, scored where the data are."""

from flames_cli.core.scores.metrics import case_metrics
from flames_cli.core.scores.summaries import METRICS, summarise_cases
from flames_cli.fed.client_state import client_state_folder
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.messages import Profile, TrainTask
from flames_cli.fed.node import Declined, NodeSettings
from flames_cli.fed.training import receive_model
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.segment import Segmenter
from flames_cli.store.client_state import load_client_state
from flames_cli.store.files.parse import parse_json

LEAST_CASES = 5
"""The mean of fewer says too much of each of them."""


def evaluate_client(
    task: TrainTask, settings: NodeSettings, profile: Profile, tests: ShardDataset
) -> EvaluationReport:
    """The model of `task` on `tests`.

    Raises:
        Declined: there are no test cases, or so few that their mean would tell of each, where the node's
            owner does not let single cases be told.
    """
    least = 1 if settings.per_case else LEAST_CASES
    if len(tests) < least:
        raise Declined(f"its test set is smaller than the {least} cases that it tells a mean of")
    request = task.request
    options = parse_json(request.model_options)
    weights = task.weights
    if request.share == "content":
        folder = client_state_folder(settings, request.run, profile.client)
        state = load_client_state(folder, request.last_accepted_round + 1)
        weights = to_weights(receive_model(task, state))
    segmenter = Segmenter(request.model, options, settings.device, settings.precision, request.batch_size)
    cases = [
        case_metrics(predicted, tests.example(index)[1])
        for index, predicted in enumerate(segmenter.masks(weights, tests))
    ]
    told = {name: sorted(case[name] for case in cases) for name in METRICS} if settings.per_case else {}
    return EvaluationReport(profile.client, profile.modality, len(cases), summarise_cases(cases), told)
