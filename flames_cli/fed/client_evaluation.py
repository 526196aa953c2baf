"""The client's side of the final evaluation: the client's model on its own test set, at the client."""

from flames_cli.core.scores.metrics import case_metrics
from flames_cli.core.scores.summaries import REPORTED_METRICS, summarise_cases
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.messages import Profile, TrainTask
from flames_cli.fed.node import Declined, NodeSettings
from flames_cli.fed.training import receive_final_model
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.segment import Segmenter
from flames_cli.store.files.parse import parse_json

LEAST_CASES = 5
"""Smallest number of cases whose mean is reported: a mean of fewer reveals too much about each case."""


def evaluate_client(
    task: TrainTask, settings: NodeSettings, profile: Profile, cases: ShardDataset
) -> EvaluationReport:
    """Evaluate the model of `task` on the test cases `cases`.

    Raises:
        Declined: there are no test cases; or there are fewer than LEAST_CASES, and the node's owner has not
            allowed to report single cases.
    """
    least = 1 if settings.per_case else LEAST_CASES
    if len(cases) < least:
        raise Declined(
            f"its test set has fewer than {least} cases, and it reports no mean of fewer; add test cases, or "
            "start the node with --per-case"
        )
    request = task.request
    weights = task.weights
    if request.style_stays:
        with receive_final_model(task, settings, profile.client) as model:
            weights = to_weights(model)
    segmenter = Segmenter(
        model=request.model,
        options=parse_json(request.model_options),
        device=settings.device,
        precision=settings.precision,
        batch_size=request.training.batch_size,
        norm=request.training.norm,
    )
    scores = [
        case_metrics(predicted, cases.example(index)[1])
        for index, predicted in enumerate(segmenter.masks(weights, cases))
    ]
    single = (
        {name: sorted(case[name] for case in scores) for name in REPORTED_METRICS}
        if settings.per_case
        else {}
    )
    return EvaluationReport(
        client=profile.client,
        modality=profile.modality,
        n=len(scores),
        metrics=summarise_cases(scores, REPORTED_METRICS),
        cases=single,
    )
