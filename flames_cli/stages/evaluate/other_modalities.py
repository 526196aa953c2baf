"""The choice of server models and of modalities on which they are tested, `--model MRI --on CT`."""

from collections.abc import Iterable
from typing import NoReturn

from flames_cli.config import EvaluateConfig
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.loading import Loaded
from flames_cli.stages.server_models import list_server_models


def check_choice(config: EvaluateConfig, loaded: Loaded) -> EvaluateConfig:
    """Return the configuration with modalities and model in their own spelling.

    Raises:
        FlamesError: the server has no test set of such a modality, a run has no such server model, or other
            options contradict the choice.
    """
    if not config.on:
        if config.model and not config.weights:
            raise FlamesError(
                f"--model {config.model} chooses the model for --on, which is missing; pass --on MODALITY "
                "too, or --weights FILE to evaluate a file of that architecture"
            )
        return config
    if config.client_test or config.cross_site:
        option = "--client-test" if config.client_test else "--cross-site"
        raise FlamesError(f"--on tests server models, and {option} those of clients; pass one of the two")
    tested = [
        server.modality
        for run in loaded.runs
        for server in run.partition.content.server
        if any(server.images.values())
    ]
    on = tuple(_find(name, tested) or _reject_modality(name, tested) for name in config.on)
    model = config.model
    for run in loaded.runs if model else ():
        listed = list_server_models(run.partition.content.clients, run.algorithm, run.state)
        known = [name for one in listed for name in (one.modality, one.label)]
        model = _find(model or "", known) or _reject_model(model or "", run.folder.name, known)
    return config.model_copy(update={"on": tuple(dict.fromkeys(on)), "model": model})


def _find(name: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that equals `name`, in any case."""
    return next((one for one in known if one.lower() == name.lower()), None)


def _reject_modality(name: str, known: Iterable[str]) -> NoReturn:
    raise FlamesError(
        f"--on names '{name}', expected a modality of the server's test sets: {_listed(known)}; correct it"
    )


def _reject_model(name: str, run: str, known: Iterable[str]) -> NoReturn:
    raise FlamesError(
        f"--model names '{name}', expected a server model of run '{run}': {_listed(known)}; correct it"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "there is none"
