"""First lines of a report: the question, the data, the results, and the cost, in plain sentences."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from flames_cli.core.patient_units import join_units
from flames_cli.core.words import count, duration, epsilon_spent, size
from flames_cli.stages.compare.tables import Scores
from flames_cli.stages.report.cost import total_bytes
from flames_cli.stages.report.gathering import Gathered, Results, RunRecord
from flames_cli.stages.report.score_grid import interval_text
from flames_cli.stages.run_plugins import plugin_facts
from flames_cli.store.runs import MACHINES

MOST_MODELS = 4
"""Largest number of server models, and of other runs, that are named in one sentence."""


def summarise_run(gathered: Gathered) -> list[str]:
    """Return the lines: what was trained, on which data, both results, and the cost."""
    lines = [_question(gathered), _data(gathered)]
    if gathered.results:
        lines += [*_client_result(gathered, gathered.results), *_server_result(gathered.results)]
    elif gathered.tests and not gathered.private:
        lines.append(_site_result(gathered))
    else:
        lines.append("There are no test results in this report; the section on test results says why.")
    return [*lines, _cost(gathered)]


def _question(gathered: Gathered) -> str:
    first = gathered.first
    clients = Counter(_modalities(gathered))
    parts = ", ".join(f"{n} of {modality}" for modality, n in clients.items())
    several = f"{count(len(gathered.runs), 'run')} of " if gathered.is_family else ""
    words = (
        f"{several}strategy {first.config.strategy} ({first.algorithm.summary}), model "
        f"{first.config.model}, {_rounds(first)}{_plugins(first)}"
    )
    whom = f" on {count(sum(clients.values()), 'client')}" if clients else ""
    detail = f" ({parts})" if parts and not gathered.private else ""
    against = f", compared with {', '.join(gathered.results.runs[1:])}" if gathered.results else ""
    against = against if gathered.results and len(gathered.results.runs) > 1 else ""
    return f"Trained: {words}{whom}{detail}{against}."


def _plugins(run: RunRecord) -> str:
    """Return the plug-ins of a run with package and version; empty if it used none."""
    found = plugin_facts(run.facts)
    return f", with the plug-in{'s' if len(found) > 1 else ''} {', '.join(found)}," if found else ""


def _rounds(run: RunRecord) -> str:
    asked = run.config.rounds
    if run.is_finished:
        return count(run.rounds_done, "round")
    return f"{run.rounds_done} of {count(asked, 'round')} done so far"


def _modalities(gathered: Gathered) -> list[str]:
    """Return the modality of each client."""
    if gathered.partition:
        return [client.modality for client in gathered.partition.content.clients]
    return list(gathered.first.modalities.values()) or [one.modality for one in gathered.joined]


def _data(gathered: Gathered) -> str:
    if gathered.private:
        return "Data: the run has differential privacy, so this report has no numbers of single clients."
    if gathered.partition is None:
        images = [one.n_train for one in gathered.joined if one.n_train is not None]
        known = f" They train on {sum(images):,} images." if images else ""
        return f"Data: the images are at the clients' sites.{known}"
    clients = gathered.partition.content.clients
    named = [client for client in clients if client.patient_unit != "image"]
    patients = sum(len(people) for client in named for people in client.patients.values())
    images = [sum(client.images[name] for client in clients) for name in ("train", "val", "test")]
    of = f" of {patients:,} patients" if named and len(named) == len(clients) else ""
    unknown = f" (with {patients:,} named patients)" if named and not of else ""
    server = sum(n for one in gathered.partition.content.server for n in one.images.values())
    return (
        f"Data: {sum(images):,} images{of}{unknown} at the clients, {images[0]:,} for training, "
        f"{images[1]:,} for validation and {images[2]:,} for tests; the server tests on {server:,} images of "
        "other patients."
    )


def _client_result(gathered: Gathered, results: Results) -> Iterator[str]:
    if gathered.private:
        return
    tables = results.comparison.tables
    scores = tables.of("dice", "clients")
    models = [one for one in scores if one.line.kind == "model" and one.means[0] and not one.line.unseen_site]
    spread = tables.spread("dice")
    fair = spread.runs[0] if spread else None
    if not models:
        return
    best = max(models, key=lambda one: one.means[0].mean if one.means[0] else 0.0)
    headline = next((one for one in scores if one.line.headline and one.means[0]), models[0])
    mean = headline.means[0]
    assert mean is not None
    assert best.means[0] is not None
    units = _units(results, "client_test")
    whole = f"mean Dice {interval_text(mean, 'dice')} over {mean.n_patients:,} {units}"
    extremes = (
        f"; best client {best.line.label} ({best.means[0].mean:.2f}), worst {fair.worst_client} "
        f"({fair.worst:.2f})"
        if fair and fair.n_clients > 1
        else ""
    )
    yield f"Clients' models on their own test patients: {whole}{extremes}{_against(headline, results.runs)}."


def _against(headline: Scores, runs: Sequence[str]) -> str:
    """Return the paired differences of the other runs to the run, in all patients."""
    parts = [
        f"{run} {made.mean:+z.3f}"
        + ("" if math.isnan(made.low) else f" [{made.low:+z.3f}, {made.high:+z.3f}]")
        for run, made in zip(runs[1:], headline.differences, strict=True)
        if made
    ]
    return f"; difference to it: {', '.join(parts[:MOST_MODELS])}" if parts else ""


def _server_result(results: Results) -> Iterator[str]:
    scores = results.comparison.tables.of("dice", "server")
    models = [one for one in scores if one.line.kind == "model" and one.means[0]]
    parts = [
        f"{one.line.label} {interval_text(mean, 'dice')} ({mean.n_patients:,})"
        for one in models[:MOST_MODELS]
        if (mean := one.means[0])
    ]
    more = f" and {len(models) - MOST_MODELS} more" if len(models) > MOST_MODELS else ""
    if parts:
        units = _units(results, "server_test")
        yield (
            f"Server models on patients that no client has, mean Dice (number of {units}): "
            f"{', '.join(parts)}{more}."
        )


def _units(results: Results, split: str) -> str:
    """Return the words for what counts as patients in a split."""
    return join_units(results.found[0].content.units.get(split, {}).values())


def _site_result(gathered: Gathered) -> str:
    assert gathered.tests is not None
    found = [
        (one["metrics"]["dice"]["mean"], one["client"])
        for one in gathered.tests["clients"]
        if one["metrics"]["dice"]["mean"] is not None
    ]
    if not found:
        return "No client has reported a test of its own."
    (worst, last), (best, name) = min(found), max(found)
    mean = sum(dice for dice, _ in found) / len(found)
    return (
        f"Clients at their own sites: mean Dice {mean:.2f} over {count(len(found), 'client')}; best client "
        f"{name} ({best:.2f}), worst {last} ({worst:.2f})."
    )


def _cost(gathered: Gathered) -> str:
    seconds = sum(float(line.get("seconds", 0)) for run in gathered.runs for line in run.lines)
    moved = sum(total_bytes(run, key) for run in gathered.runs for key in ("bytes_down", "bytes_up"))
    machines = gathered.first.facts.get(MACHINES, [{}])
    device = str(gathered.first.facts.get("device", ""))
    names = machines[-1].get("gpus") if device == "cuda" else [machines[-1].get("cpu")]
    where = ", ".join(filter(None, names or [])) or device
    privacy = ""
    lines = gathered.first.lines
    if lines and "epsilon" in lines[-1]:
        privacy = f"; privacy: {epsilon_spent(lines[-1])} for each client"
    on = f" on {where}" if where else ""
    return f"Cost: {duration(seconds)}{on}, {size(moved)} of weights sent and received{privacy}."
