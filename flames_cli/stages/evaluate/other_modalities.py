"""The choice of server models and of modalities on which they are tested, `--model MRI --on CT`."""

from collections.abc import Iterable

from flames_cli.config import EvaluateConfig
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.loading import Loaded
from flames_cli.stages.evaluate.models_under_test import list_server_models


def check_choice(config: EvaluateConfig, loaded: Loaded) -> EvaluateConfig:
    """Return the configuration with modalities and model in their own spelling.

    Raises:
        FlamesError: the server has no test set of such a modality, a run has no such server model, or other
            options contradict the choice.
    """
    if not config.on:
        if config.model:
            raise FlamesError(
                f"--model {config.model} chooses the model for --on, which is missing; pass --on MODALITY too"
            )
        return config
    if config.client_test:
        raise FlamesError("--on tests server models, and --client-test those of clients; pass one of the two")
    tested = [
        server.modality
        for run in loaded.runs
        for server in run.partition.content.server
        if any(server.images.values())
    ]
    on = tuple(_find("--on", "a modality of the server's test sets", name, tested) for name in config.on)
    model = config.model
    for run in loaded.runs if model else ():
        listed = list_server_models(run.partition.content, run.algorithm, run.state)
        known = [name for one in listed for name in (one.modality, one.label)]
        model = _find("--model", f"a server model of run '{run.folder.name}'", model or "", known)
    return config.model_copy(update={"on": tuple(dict.fromkeys(on)), "model": model})


def _find(option: str, expected: str, name: str, known: Iterable[str]) -> str:
    """Return the one of `known` that equals `name`, in any case."""
    listed = list(dict.fromkeys(known))
    if found := next((one for one in listed if one.lower() == name.lower()), None):
        return found
    raise FlamesError(
        f"{option} names '{name}', expected {expected}: {', '.join(listed) or 'there is none'}; correct it"
    )
