"""Reading of a client's report at the server: it must fit what was asked and what the client joined with."""

from dataclasses import dataclass
from functools import partial

from flames_cli.core.federated.reports import Report
from flames_cli.fed.choice_records import patients_reason
from flames_cli.fed.exchange import Reply
from flames_cli.fed.messages import Profile, StartOf, unpack_report, validation_fault
from flames_cli.fed.sanitise import sanitise


@dataclass(frozen=True, slots=True)
class Asked:
    """Round and limits that a client's reply must fit, and the model with which it began."""

    round: int
    most_steps: int
    """Largest number of steps that the client's images make."""
    start_of: StartOf


def read_report(reply: Reply, profile: Profile, asked: Asked) -> tuple[Report | None, str]:
    """Return (the report, ""), or (None, the reason why there is none)."""
    report, reason = reply.read(partial(unpack_report, start_of=asked.start_of), "report")
    if report is None:
        return None, reason
    if report.round != asked.round:
        return None, f"it reports on round {report.round}, expected round {asked.round}"
    if report.n_examples > profile.n_train:
        return None, f"it reports {report.n_examples} examples, it joined with {profile.n_train}"
    if not 0 <= report.n_steps <= asked.most_steps:
        return None, f"it reports {report.n_steps} steps, its images make at most {asked.most_steps}"
    if impossible := patients_reason(report.choice, profile.n_val) or validation_fault(
        report.metrics, profile
    ):
        return None, impossible
    if (report.client, report.modality) != (profile.client, profile.modality):
        stated = sanitise(f"'{report.client}' ({report.modality})")
        return None, f"it reports as {stated}, it joined as '{profile.client}' ({profile.modality})"
    return report, ""
