"""The versions of one modality's models: each is made of a buffer of reports, while other clients train."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from flwr.app import Message

from flames_cli.core.federated.aggregation import RoundSettings
from flames_cli.core.federated.buffer import Buffer
from flames_cli.core.federated.progress import Progress, Training
from flames_cli.core.federated.reports import State
from flames_cli.core.federated.shelf import ClientModels
from flames_cli.core.federated.update_norms import NormLimit
from flames_cli.errors import FlamesError
from flames_cli.fed.asynchronous.record import VersionRecord
from flames_cli.fed.asynchronous.sent import LOST, Arrival, Sent, Trainings
from flames_cli.fed.events import ClientAsked, ReportReceived, ReportRejected, RoundDone
from flames_cli.fed.exchange import Reply
from flames_cli.fed.messages import Profile, TrainTask, pack_task
from flames_cli.fed.modality_run import ModalityRun
from flames_cli.fed.plan import with_model_groups
from flames_cli.fed.records import message_bytes
from flames_cli.fed.report_reading import Asked, read_report
from flames_cli.fed.roster import Clients
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.waiting import GO_ON, Work

NoteJoined = Callable[[], None]
"""Function that notes the clients that have joined."""


class Versions:
    """Makes the versions of one modality's models.

    A client without work gets the newest model. A client whose report was rejected waits for the next
    version, since the same model would probably give the same report.
    """

    def __init__(self, run: ModalityRun, state: State, note_joined: NoteJoined) -> None:
        """Prepare the work after `state`, the modality's last version."""
        self._run = run
        self._federation = run.federation
        self._plan = run.federation.plan
        self._state = state
        self._note_joined = note_joined
        self._clock = run.federation.clock
        ahead = None if self._clock is None else run.federation.participation.in_flight or 1
        self._on_the_way = Trainings(run.grid, run.roster, ahead, run.federation.pace)
        self._arrived: deque[Arrival] = deque()
        progress = state.progress or Progress()
        self._seconds = progress.seconds
        self._since = time.monotonic() - progress.seconds
        self._trainings = dict(progress.trainings)
        self._failed: dict[str, str] = {}

    def make_all(self) -> Work[State]:
        """Make all remaining versions, and return the last one.

        Raises:
            FlamesError: no client is left that could report, or too few clients were present in time.
        """
        if self._state.round >= self._plan.rounds:
            return self._state
        clients = yield from self._run.roster.wait_for_clients(self._state.round + 1, self._run.modality)
        self._note_joined()
        self._state = with_model_groups(self._state, self._plan, self._run.known())
        self._continue_trainings(clients)
        while self._state.round < self._plan.rounds:
            yield from self._make_version()
        yield from self._on_the_way.abandon()
        return self._state

    def _continue_trainings(self, clients: Clients) -> None:
        """Begin the trainings of a resumed simulation again that were on the way."""
        progress = self._state.progress
        if progress is None or self._clock is None:
            return
        starts = ClientModels.of(progress.starts)
        for node, profile in clients:
            if training := progress.on_the_way.get(profile.client):
                self._on_the_way.begin(Sent(node, profile, training, starts.load_of(training.start)))

    def _make_version(self) -> Work[None]:
        """Collect reports until the buffer is full, and make the next version."""
        buffer, record = self._open_buffer(), VersionRecord(self._state.round + 1)
        self._failed = {}
        while not buffer.is_full:
            if not self._arrived:
                yield from self._hand_out(buffer)
                for sent in self._on_the_way.due():
                    self._push(sent)
                self._arrived.extend((yield from self._on_the_way.next()))
            else:
                self._take(*self._arrived.popleft(), buffer, record)
                yield GO_ON
        self._flush(buffer, record)

    def _open_buffer(self) -> Buffer:
        """Return an empty buffer, no larger than the number of the modality's clients."""
        plan, round_, known = self._plan, self._state.round + 1, self._run.known()
        rates = {one.client: plan.lr_of(one, round_) for one in known}
        settings = RoundSettings(NormLimit(plan.max_update_norm, rates), shelf=self._federation.shelf)
        return Buffer(self._state, plan.algorithm, plan.known_entries, settings, len(known))

    def _hand_out(self, buffer: Buffer) -> Work[None]:
        """Let every client without work train the newest model.

        In a simulation, reports that arrive at the same virtual time come first: clients that are equally
        fast then all get the model that is made of all their reports.
        """
        if any(one.training.ends <= self._seconds for one in self._on_the_way) and self._clock:
            return
        idle = self._idle(self._run.roster.present())
        if not self._on_the_way and not idle:
            if self._failed:
                raise self._no_report_left(buffer, self._failed)
            round_ = self._state.round + 1
            idle = self._idle((yield from self._run.roster.wait_for_clients(round_, self._run.modality)))
        self._note_joined()
        for node, profile in idle:
            self._begin(node, profile, buffer)

    def _idle(self, present: Clients) -> Clients:
        return [
            (node, profile)
            for node, profile in present
            if profile.modality == self._run.modality
            and profile.client not in self._on_the_way
            and profile.client not in self._failed
        ]

    def _begin(self, node: int, profile: Profile, buffer: Buffer) -> None:
        plan, client = self._plan, profile.client
        number = self._trainings[client] = self._trainings.get(client, 0) + 1
        start, load = buffer.model_of(client, plan.model_group_of(profile))
        ends = 0.0
        if self._clock:
            steps = plan.steps_a_round(client, profile.modality, profile.n_train)
            ends = self._seconds + self._clock.duration(client, number, steps)
        training = Training(number, self._state.round, start, ends)
        self._on_the_way.begin(Sent(node, profile, training, load))

    def _push(self, sent: Sent) -> None:
        message = self._pack(sent)
        sent.n_bytes = message_bytes(message)
        self._federation.on_event(ClientAsked(sent.client, self._state.round + 1))
        self._on_the_way.push(sent, message)

    def _pack(self, sent: Sent) -> Message:
        """Return the request of a training; its round is the number of the training, which decides the seed
        of its images' order, and its learning rate that of the version that follows its start."""
        last = self._state.clients.get(sent.client)
        request = self._plan.request(
            sent.training.began + 1, sent.profile, last_accepted_round=last.round if last else 0
        )
        task = TrainTask(replace(request, round=sent.training.number), sent.start())
        return pack_task(task, sent.node)

    def _take(self, sent: Sent, reply: Reply, buffer: Buffer, record: VersionRecord) -> None:
        """Put the report of a reply into the buffer, or note why there is none that can be used."""
        plan, profile, client = self._plan, sent.profile, sent.client
        if self._clock:
            self._seconds = sent.training.ends
        most_steps = plan.steps_a_round(client, profile.modality, profile.n_train)
        asked = Asked(sent.training.number, most_steps, lambda _: sent.start())
        record.note_arrival(sent)
        # Counted here, since the number of messages that are sent ahead depends on the engine.
        record.bytes_down += sent.n_bytes
        report, reason = read_report(reply, profile, asked)
        if report is not None and reply.message is not None:
            record.bytes_up += message_bytes(reply.message)
            metrics = {**report.metrics, "n_examples": report.n_examples, "n_steps": report.n_steps}
            self._federation.on_event(ReportReceived(client, self._state.round + 1, metrics))
            reason = sanitise(buffer.add(report, sent.training, sent.start) or "")
            if not reason:
                record.note_report(sent, report)
                return
        record.failed[client] = reason
        self._federation.on_event(ReportRejected(client, self._state.round + 1, reason))
        if reason != LOST:
            self._failed[client] = reason

    def _flush(self, buffer: Buffer, record: VersionRecord) -> None:
        """Make the next version of the buffer, and save it."""
        sizes = Counter(client.group for client in self._state.clients.values())
        result = buffer.flush(sizes)
        late = {client: sanitise(reason) for client, reason in result.rejected.items()}
        for client, reason in late.items():
            self._federation.on_event(ReportRejected(client, record.round, reason))
        rejected = {**record.failed, **late}
        if not result.accepted:
            raise self._no_report_left(buffer, rejected)
        if not self._clock:
            self._seconds = time.monotonic() - self._since
        state = with_model_groups(result.state, self._plan, self._run.known())
        self._state = replace(state, progress=self._progress(state.progress or Progress()))
        line = record.as_json(result, rejected, self._seconds)
        self._federation.save(self._state, line)
        self._federation.on_event(RoundDone(line))

    def _progress(self, made: Progress) -> Progress:
        """Return the progress after a version; the trainings of real nodes are not part of it, since a server
        that starts again asks all nodes again."""
        sent = list(self._on_the_way) if self._clock else []
        return Progress(
            seconds=self._seconds,
            trainings=dict(self._trainings),
            on_the_way={one.client: one.training for one in sent},
            starts=ClientModels({one.training.start: one.start for one in sent}),
            newest=made.newest,
        )

    def _no_report_left(self, buffer: Buffer, rejected: Mapping[str, str]) -> FlamesError:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in rejected.items())
        return FlamesError(
            f"round {self._state.round + 1} got {len(buffer.arrivals)} reports, and no client is left that "
            f"could send a good one ({reasons}); fix the cause, then run the same command again to continue"
        )
