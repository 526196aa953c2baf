"""Description of a client's own model, for the folder at its site."""

from flames_cli.fed.messages import Profile, TrainRequest
from flames_cli.learn.hardware import find_versions
from flames_cli.learn.models import plugin_of
from flames_cli.learn.predict import Validation
from flames_cli.plugins import used
from flames_cli.store.files.parse import parse_json
from flames_cli.store.models import Architecture, ModelInfo, TrainedOn, Training, describe_input


def describe_model(
    request: TrainRequest,
    profile: Profile,
    why: str,
    validation: Validation | None,
    round_: int | None = None,
) -> ModelInfo:
    """Return the description of a model of this client; it names no other client.

    With differential privacy it has no numbers of images: the account does not cover them, and the folder may
    be given to others.
    """
    private = bool(request.clip)
    own = TrainedOn(profile.client, profile.modality, profile.organ, 0, profile.n_train)
    return ModelInfo(
        name=request.run_name,
        architecture=Architecture(
            request.model,
            request.training.norm,
            parse_json(request.model_options),
            plugin_of(request.model),
        ),
        input=describe_input(
            profile.modality,
            tuple(profile.organ.split(", ")),
            profile.size,
            profile.channels,
            [profile.preparation],
        ),
        training=Training(
            kind="client",
            run=request.run_name,
            client=profile.client,
            strategy=request.strategy,
            round=request.round if round_ is None else round_,
            rounds=request.rounds,
            why=why,
            seed=request.seed,
            clients=() if private else (own,),
            token=request.run,
            plugins=_plugins(request) or None,
        ),
        validation=_numbers(validation),
        privacy={"epsilon": request.epsilon, "delta": request.delta} if private else {},
        versions=find_versions(),
    )


def _plugins(request: TrainRequest) -> tuple[str, ...]:
    """Return the plug-ins of this site that took part, with package and version.

    A strategy whose parts all work at the server need not be installed here.
    """
    training = request.training
    names = [("models", request.model), ("strategies", request.strategy), ("losses", training.loss)]
    names += [("augmentations", name) for name in training.augmentations]
    return tuple(one.fact for one in used(names))


def _numbers(validation: Validation | None) -> dict[str, float]:
    if validation is None:
        return {}
    images, patients = float(validation.n_cases), float(validation.n_patients)
    return {"dice": validation.dice, "images": images, "patients": patients}
