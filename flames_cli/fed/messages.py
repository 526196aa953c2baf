"""Messages between server and nodes: profiles, models and reports, packed into Flower messages and back."""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, fields
from functools import partial
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from flames_cli.arrays import Weights
from flames_cli.core.federated.choice import Choice, Prior
from flames_cli.core.federated.coding import Coded
from flames_cli.core.federated.reports import OpenedSum, Report
from flames_cli.core.federated.secure_blend import WEIGHINGS
from flames_cli.core.federated.summed_preferences import N_PARTS
from flames_cli.core.federated.wire import check_wire
from flames_cli.core.imaging.preparation import NOT_KNOWN, Preparation
from flames_cli.errors import FlamesError
from flames_cli.fed.choice_records import CHOICE, pack_choice, pack_prior, unpack_choice, unpack_prior
from flames_cli.fed.numbers import read_integer, read_number
from flames_cli.fed.records import Packed, add_arrays, config_of, pack_coded, record_of, unpack_weights
from flames_cli.fed.sanitise import sanitise
from flames_cli.learn.train_options import NAME_LISTS, TrainOptions, rejection_reason
from flames_cli.plugins.packages import NO_PACKAGES, parse_packages
from flames_cli.store.clients import parse_preparation, preparation_text
from flames_cli.store.files.parse import parse_json
from flames_cli.store.schema import SHARD

PROTOCOL = 12
"""Version of these messages; a node with another version is rejected."""

REPORTED = {
    *("n_examples", "n_steps", "train_loss", "best_epoch"),
    *("received_val_loss", "received_val_dice", "trained_val_loss", "trained_val_dice"),
    *("received_val_dice_small", "n_val", "n_val_patients", "n_val_small"),
}
"""Names of the numbers that a report may contain in addition to its weights."""

ARRAYS, TRAIN, REPORT, METRICS = "arrays", "train", "report", "metrics"
CONTROL, STYLE, SERVER_MODEL, BLEND = "control", "style", "server_model", "blend"
SUM = "sum"
"""Names of further records with arrays: control variates (SCAFFOLD), a client's renderer, a server model,
FLAMES' blend."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A client's description of itself when it joins."""

    client: str
    modality: str
    organ: str
    n_train: int
    n_val: int
    size: int
    channels: int = 1
    preparation: Preparation = NOT_KNOWN
    """Rules by which its images were prepared."""
    format: int = SHARD.version
    """Version of the format of its shard."""
    protocol: int = PROTOCOL
    plugins: str = NO_PACKAGES
    """Packages whose plug-ins its owner allows, as JSON: name → version, or "" if that version is not
    installed."""
    secure_only: bool = False
    """True: its owner takes part only in runs with secure aggregation."""


PREPARATION, PLUGINS = "preparation", "plugins"
"""Names of the fields of a profile that travel as JSON."""

LIFETIME_S = 7 * 24 * 3600.0
"""Time in seconds after which Flower discards a request or its reply. Flower's own is 12 hours, which a round
of a large model on a CPU may take longer than; `--round-timeout` is the limit of a round."""

LONGEST_NAME = 200
"""Largest number of characters in the name of a client, a modality or an organ."""

LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("round", "rounds", "last_accepted_round"), (0, 99_999)),
    **dict.fromkeys(("clip", "epsilon"), (0, 1e9)),
    "delta": (0, 1),
}
"""Smallest and largest value that a server may ask for (`TrainOptions` has its own limits): far
above any use, and still a limit on how long a request can keep a node busy."""
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Pattern of a run's name, which becomes the name of a folder."""
TRAIN_OPTIONS = tuple(entry.name for entry in fields(TrainOptions))
LARGEST_OPTION = 4096
"""Largest absolute value of a model's option."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """A server's request to a client in one round, without the weights."""

    round: int
    seed: int
    client: str
    training: TrainOptions
    """Options of local training; `lr` is the learning rate of this client."""
    model: str
    model_options: str
    """Options of the model, as JSON."""
    initial_seed: int = 0
    """Seed of the initial values of those weights that the server never sends."""
    rule: str = "plain"
    """Local update rule (`fed.plugin_rules`)."""
    share: str = "all"
    """Entries that clients share: all, or content (the style of a disentangled model stays at the client)."""
    report_style: bool = False
    """True: the client also reports its renderer, for the style augmentation of other clients."""
    wire_dtype: str = "fp32"
    """Type in which floats travel, in both directions (`core.federated.wire`)."""
    last_accepted_round: int = 0
    """Round of the client's last accepted report; client state of later rounds is not used."""
    run: str = ""
    """Token of the run, which names the client's folder of client state."""
    clip: float = 0.0
    """Largest L2 norm of the client's update, for privacy; 0: no limit."""
    run_name: str = ""
    """Name of the run, which becomes the name of the model's folder at the site."""
    strategy: str = ""
    """Name of the strategy."""
    rounds: int = 0
    """Number of the run's last round; 0: not stated."""
    epsilon: float = 0.0
    """Differential privacy spent for the models that are sent, at `delta`; 0: none."""
    delta: float = 0.0
    report_statistics: bool = False
    """True: after the last round the client reports BatchNorm's statistics of the final models."""
    secure: str = ""
    """Rule by which clients weigh in secure sums (`secure_blend.WEIGHINGS`); empty: a run without them."""

    @property
    def style_stays(self) -> bool:
        """True if clients share only the content entries of a disentangled model, and store its style."""
        return self.share == "content"


@dataclass(frozen=True, slots=True)
class SumNote:
    """Facts with which a client makes its own model from a sum, whose words travel as the task's weights: the
    sum of its last accepted round (`secure_blend.personalise`)."""

    round: int
    session: str
    """Identifier of the session of the sum, whose key reads it."""
    total: float
    """T, the sum of the clients' factors."""
    clients: int
    """Number of clients in the sum."""
    preferences: tuple[float, ...] = ()
    """Sums of the clients' results with candidates, if they choose (`summed_preferences`); else empty."""

    @classmethod
    def of(cls, opened: OpenedSum) -> "SumNote":
        """Return the facts about a sum that the server has stored."""
        return cls(opened.round, opened.session, opened.total, len(opened.clients), opened.preferences)


@dataclass(frozen=True, slots=True)
class TrainTask:
    """A request with the weights that the server sends to a client in one round."""

    request: TrainRequest
    weights: Weights
    """Shared entries of the model from which the client starts."""
    control: Weights | None = None
    """The server's control variate (SCAFFOLD)."""
    style: Weights | None = None
    """Renderer of another client."""
    server: Weights | None = None
    """After the last round: the model of the client's group, if it is not the client's own model."""
    blend: Weights | None = None
    """FLAMES' blend, if the client chooses its model among candidates; `weights` are then its own."""
    prior: Prior | None = None
    """Knowledge before the choice, if the client chooses."""
    sum: SumNote | None = None
    """If the client makes its own model: `weights` are the words of a secure sum, and not a model."""


def pack_profile(profile: Profile, query: Message) -> Message:
    """Return a client's reply to `query`."""
    entries = {**asdict(profile), PREPARATION: preparation_text(profile.preparation)}
    return Message(RecordDict({REPORT: ConfigRecord(entries)}), reply_to=query)


def unpack_profile(reply: Message) -> Profile:
    """Return the profile in `reply`.

    Raises:
        KeyError, TypeError, ValueError: the reply does not contain a valid profile.
    """
    entries = config_of(reply, REPORT)
    # A node of an earlier release states none; it is rejected by its protocol, with a reason that helps.
    text = entries.pop(PREPARATION, preparation_text(NOT_KNOWN))
    profile = Profile(**entries, preparation=parse_preparation(str(text)))
    parse_packages(str(profile.plugins))
    for entry in fields(Profile):
        if entry.name in (PREPARATION, PLUGINS):
            continue
        value = getattr(profile, entry.name)
        _check_type(entry, value)
        if isinstance(value, str) and not (0 < len(value) <= LONGEST_NAME and value.isprintable()):
            raise ValueError(f"{entry.name} is not a name of 1 to {LONGEST_NAME} printable letters")
    return profile


def _check_type(entry: Field[Any], value: object) -> None:
    if type(value) is not entry.type and not (entry.type is float and type(value) is int):
        expected = getattr(entry.type, "__name__", entry.type)
        raise TypeError(f"{entry.name} is {type(value).__name__}, expected {expected}")


def validation_fault(numbers: Mapping[str, float], profile: Profile) -> str:
    """Return which number of a client's validation is impossible with the images of `profile`; else ""."""
    n_val = numbers.get("n_val", 0)
    if not 0 <= n_val <= profile.n_val:
        return f"it reports {n_val:g} validation images, it joined with {profile.n_val}"
    for name, what in (("n_val_patients", "patients"), ("n_val_small", "small lesions")):
        if not 0 <= (value := numbers.get(name, 0)) <= n_val:
            return f"it reports {value:g} {what} of {n_val:g} validation images"
    for name, value in numbers.items():
        if "val_dice" in name and not 0 <= value <= 1:  # also true of NaN
            return f"it reports a validation Dice of {value:g}, expected 0 to 1"
    return ""


def make_query(node_id: int) -> Message:
    """Return the message that asks a node for its profile."""
    return Message(RecordDict(), node_id, MessageType.QUERY)


def pack_task(
    task: TrainTask,
    node_id: int,
    kind: str = MessageType.TRAIN,
    weights: Packed | None = None,
) -> Message:
    """Return the message that asks a node to train a model, or to do something else (`kind`) with it.

    Args:
        task: request and weights.
        node_id: node that receives the message.
        kind: one of Flower's message types.
        weights: the task's weights, if they are packed already.
    """
    content = RecordDict({TRAIN: ConfigRecord(flatten_request(task.request))})
    parts = {
        ARRAYS: weights or task.weights,
        CONTROL: task.control,
        STYLE: task.style,
        SERVER_MODEL: task.server,
        BLEND: task.blend,
    }
    if task.prior:
        content[CHOICE] = pack_prior(task.prior)
    if task.sum:
        content[SUM] = ConfigRecord({**asdict(task.sum), "preferences": list(task.sum.preferences)})
    add_arrays(content, task.request.wire_dtype, parts)
    return Message(content, node_id, kind, ttl=LIFETIME_S, group_id=str(task.request.round))


def unpack_task(message: Message) -> TrainTask:
    """Return the request in `message` with its weights.

    Raises:
        KeyError, TypeError, ValueError: the message does not contain a valid request.
        FlamesError: the wire type is unknown, or a value is outside its limits.
    """
    request = _unflatten_request(config_of(message, TRAIN))
    check_wire(str(request.wire_dtype))
    _check_request(request)
    return TrainTask(
        request=request,
        weights=unpack_weights(message, ARRAYS),
        control=_find_arrays(message, CONTROL),
        style=_find_arrays(message, STYLE),
        server=_find_arrays(message, SERVER_MODEL),
        blend=_find_arrays(message, BLEND),
        prior=unpack_prior(message),
        sum=_unpack_sum(message),
    )


def _unpack_sum(message: Message) -> SumNote | None:
    if SUM not in message.content:
        return None
    found = config_of(message, SUM)
    round_, clients = read_integer(found["round"], "round"), read_integer(found["clients"], "clients")
    total = read_number(found["total"], "total")
    results = found["preferences"]
    if not isinstance(results, list) or len(results) not in (0, N_PARTS):
        raise ValueError(f"it names sums of results that are not {N_PARTS} numbers")
    preferences = tuple(read_number(value, "preferences") for value in results)
    if round_ < 1 or clients < 2 or not 0 < total < clients + 0.5:  # each factor is at most 1
        raise ValueError(
            f"it names a sum of {clients} clients with the total {total:g}, expected 2 or more, and at most "
            "1 for each"
        )
    return SumNote(round_, str(found["session"]), total, clients, preferences)


def flatten_request(request: TrainRequest) -> dict[str, Any]:
    """Return the entries of `request` as they travel: one table, training options included.

    An option without a value (None) does not travel; names travel as one text with commas.
    """
    entries = asdict(request)
    entries |= entries.pop("training")
    entries |= {name: ",".join(entries[name]) for name in NAME_LISTS}
    return {name: value for name, value in entries.items() if value is not None}


def _unflatten_request(entries: Mapping[str, Any]) -> TrainRequest:
    options = {name: entries[name] for name in TRAIN_OPTIONS if name in entries}
    rest = {name: value for name, value in entries.items() if name not in options}
    for name in NAME_LISTS:
        if isinstance(text := options.get(name), str):
            options[name] = tuple(text.split(",")) if text else ()
    return TrainRequest(training=TrainOptions(**options), **rest)


def _check_request(request: TrainRequest) -> None:
    for entry in fields(TrainRequest):
        _check_type(entry, getattr(request, entry.name))
    if reason := rejection_reason(request.training):
        raise FlamesError(f"the server asks for {reason}")
    for name, (low, high) in LIMITS.items():
        if not low <= (value := getattr(request, name)) <= high:
            raise FlamesError(f"the server asks for {name} {value}, expected {low:g} to {high:g}")
    if request.secure not in ("", *WEIGHINGS):
        raise FlamesError(
            f"the server weighs clients by {sanitise(request.secure[:80])!r}, expected one of "
            f"{', '.join(WEIGHINGS)}; install the same version everywhere"
        )
    if request.run_name and not _RUN_NAME.fullmatch(request.run_name):
        raise FlamesError(
            f"the server names the run {sanitise(request.run_name[:80])!r}, expected at most 64 letters, "
            "digits, '.', '_' and '-', beginning with a letter or a digit"
        )
    if not (len(request.strategy) <= LONGEST_NAME and request.strategy.isprintable()):
        raise FlamesError(f"the server's strategy is not a name of at most {LONGEST_NAME} printable letters")
    options = parse_json(request.model_options)
    # Only numbers are accepted: a text could name a file of the node.
    if not isinstance(options, dict) or not all(
        isinstance(value, int | float) and abs(value) <= LARGEST_OPTION for value in options.values()
    ):
        raise FlamesError(
            f"the server asks for model options that are not numbers up to {LARGEST_OPTION}; "
            "install the same version everywhere"
        )


def _find_arrays(message: Message, name: str) -> Weights | None:
    return unpack_weights(message, name) if name in message.content else None


def pack_report(report: Report, request: Message, coded: Coded | None = None) -> Message:
    """Return a client's reply to a training request; floats travel in the same type as in the request.

    `coded` are the report's weights as they travel; None: they travel as values.

    Raises:
        FlamesError: a value is outside the range of the wire type.
    """
    asked = config_of(request, TRAIN)
    identity = ConfigRecord(
        {"client": report.client, "modality": report.modality, "round": int(asked["round"])}
    )
    metrics = MetricRecord({"n_examples": report.n_examples, "n_steps": report.n_steps, **report.metrics})
    content = RecordDict({REPORT: identity, METRICS: metrics})
    if report.choice:
        content[CHOICE] = pack_choice(report.choice)
    wire = str(asked["wire_dtype"])
    weights = pack_coded(coded) if coded else report.weights
    add_arrays(content, wire, {ARRAYS: weights, CONTROL: report.control, STYLE: report.style})
    return Message(content, reply_to=request)


StartOf = Callable[[Choice | None], Weights]
"""start_of(choice) returns the server's weights of the model with which a client began, if it made this
choice."""


def unpack_report(reply: Message, start_of: StartOf | None = None) -> Report:
    """Return the report in `reply`; without `start_of`, only a report of values can be read.

    Raises:
        KeyError, TypeError, ValueError, FlamesError: the reply does not contain a valid report.
    """
    identity = config_of(reply, REPORT)
    metrics = {
        name: read_number(value, name) for name, value in record_of(reply, METRICS, MetricRecord).items()
    }
    if unknown := metrics.keys() - REPORTED:
        raise ValueError(f"it contains {min(unknown)!r}, which is not a number of a report")
    n_examples, n_steps = int(metrics.pop("n_examples")), int(metrics.pop("n_steps"))
    choice = unpack_choice(reply)
    return Report(
        client=str(identity["client"]),
        modality=str(identity["modality"]),
        weights=unpack_weights(reply, ARRAYS, partial(start_of, choice) if start_of else None),
        n_examples=n_examples,
        n_steps=n_steps,
        metrics=metrics,
        control=_find_arrays(reply, CONTROL),
        style=_find_arrays(reply, STYLE),
        round=read_integer(identity["round"], "round"),
        choice=choice,
    )
