"""The inline engine: a Grid in this process that calls the ClientApp itself, one node after another.

It is deterministic, easy to debug and starts without delay; clients use the device one after another
(`several_devices` spreads them over several).
"""

from collections.abc import Iterable, Mapping
from typing import NoReturn

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.fed.node import NodeConfig
from flames_cli.flower.task_identity import send_messages_as

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 2
FAILED = 1
"""Flower's error code for an error with a free text as its reason."""


class InlineGrid(Grid):
    """Grid that stores pushed messages; pulling runs the client of the next one."""

    def __init__(self, app: ClientApp, contexts: Mapping[int, Context]) -> None:
        self._app = app
        self._contexts = contexts
        self.fault: Exception | None = None
        """The last exception that was not a FlamesError: a bug in the program."""
        self._waiting: dict[str, Message] = {}
        self._sent = 0

    def set_run(self, run: object) -> None:
        """Do nothing: there is only one run."""

    @property
    def run(self) -> NoReturn:
        """Raise FlamesError: there is no SuperLink that could have a run."""
        raise FlamesError("the inline engine has no SuperLink run")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node (Flower's deprecated way; `Message(...)` does the same)."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> list[int]:
        """Return the numbers of all nodes, sorted."""
        return sorted(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Store messages, and return their numbers."""
        numbers = []
        for message in messages:
            self._sent += 1
            number = str(self._sent)
            # The constructor does not set the number: the sender does, as in Flower's own grids.
            message.metadata.__dict__["_message_id"] = number
            self._waiting[number] = message
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Run the client of the first stored message among `message_ids`, and return its reply."""
        wanted = set(message_ids)
        number = next((number for number in self._waiting if number in wanted), None)
        return [] if number is None else [self._run_client(self._waiting.pop(number))]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Run the client of every message, and return all replies; `timeout` has no effect."""
        numbers = self.push_messages(messages)
        return [reply for _ in numbers for reply in self.pull_messages(numbers)]

    def _run_client(self, message: Message) -> Message:
        try:
            return self._app(message, self._contexts[message.metadata.dst_node_id])
        except NotWritten:
            raise  # all clients share this disk: if one cannot store its state, none can
        except FlamesError as error:
            return Message(Error(FAILED, str(error)), reply_to=message)
        except Exception as error:
            # A bug in one client must not end the round of the others, as on Flower's own engines.
            self.fault = error
            return Message(Error(FAILED, f"{type(error).__name__}: {error}"), reply_to=message)


def make_contexts(nodes: Mapping[int, NodeConfig]) -> dict[int, Context]:
    """Return a context with the configuration of each node."""
    return {
        node: Context(RUN_ID, node, dict(config), RecordDict(), run_config={})
        for node, config in nodes.items()
    }


def run_inline(server: ServerApp, client: ClientApp, contexts: Mapping[int, Context]) -> None:
    """Run `server` with `client` on the nodes with these contexts.

    Raises:
        FlamesError: the server's error; its cause is the last exception of a client, which --debug shows.
    """
    run_on(InlineGrid(client, contexts), server)


def run_on(grid: InlineGrid, server: ServerApp) -> None:
    """Run `server` on `grid`; errors as `run_inline`."""
    send_messages_as(RUN_ID, SERVER_NODE)
    context = Context(RUN_ID, SERVER_NODE, {}, RecordDict(), run_config={})
    try:
        server(grid, context)
    except FlamesError as error:
        raise error from grid.fault
