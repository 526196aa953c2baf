import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.inline import InlineGrid, make_contexts, run_inline

pytestmark = pytest.mark.usefixtures("identity")


@pytest.fixture
def ran():
    """The numbers that the client was given, as it is given them."""
    return []


@pytest.fixture
def grid(ran):
    """Three nodes whose client gives a number back; 13 is beyond it."""
    return InlineGrid(
        echo_app(ran), make_contexts({5: {"client": "e"}, 3: {"client": "c"}, 4: {"client": "d"}})
    )


def echo_app(ran):
    app = ClientApp()

    @app.train()
    def train(message, context):
        number = message.content.config_records["c"]["number"]
        ran.append(number)
        if number == 13:
            raise FlamesError("no shard here")
        if number == 14:
            raise ZeroDivisionError("by nothing")
        answer = {"number": number, "client": context.node_config["client"], "node": context.node_id}
        return Message(RecordDict({"c": ConfigRecord(answer)}), reply_to=message)

    return app


def ask(number, node=3):
    return Message(RecordDict({"c": ConfigRecord({"number": number})}), node, MessageType.TRAIN)


def answers(replies):
    return [reply.content.config_records["c"]["number"] for reply in replies]


def test_nodes_are_given_in_order(grid):
    assert grid.get_node_ids() == [3, 4, 5]


def test_each_message_gets_a_number_of_its_own(grid):
    numbers = grid.push_messages([ask(1), ask(2)]) + grid.push_messages([ask(3)])
    assert len(set(numbers)) == 3
    assert all(isinstance(number, str) for number in numbers)


def test_a_message_runs_only_when_it_is_pulled(grid, ran):
    numbers = grid.push_messages([ask(1), ask(2)])
    assert ran == []
    assert answers(grid.pull_messages(numbers)) == [1]
    assert ran == [1]


def test_one_pull_runs_one_message(grid, ran):
    numbers = grid.push_messages([ask(1), ask(2), ask(3)])
    assert [answers(grid.pull_messages(numbers)) for _ in range(4)] == [[1], [2], [3], []]
    assert ran == [1, 2, 3]


def test_only_what_was_asked_for_is_run(grid, ran):
    first, second = grid.push_messages([ask(1), ask(2)])
    assert answers(grid.pull_messages([second])) == [2]
    assert grid.pull_messages([second]) == []
    assert grid.pull_messages(["none"]) == []
    assert answers(grid.pull_messages([first])) == [1]
    assert ran == [2, 1]


def test_a_reply_names_its_message_and_its_node(grid):
    numbers = grid.push_messages([ask(1, node=4)])
    (reply,) = grid.pull_messages(numbers)
    assert reply.metadata.reply_to_message_id == numbers[0]
    assert reply.metadata.src_node_id == 4


def test_each_node_has_its_own_configuration(grid):
    replies = grid.send_and_receive([ask(1, node) for node in (3, 4, 5)])
    found = [reply.content.config_records["c"] for reply in replies]
    assert [(record["node"], record["client"]) for record in found] == [(3, "c"), (4, "d"), (5, "e")]


@pytest.mark.parametrize(("number", "reason"), [(13, "no shard here"), (14, "ZeroDivisionError: by nothing")])
def test_a_client_that_fails_becomes_an_error_reply(number, reason, grid):
    failed, good = grid.send_and_receive([ask(number), ask(1)])
    assert failed.has_error()
    assert failed.error.reason == reason
    assert failed.metadata.src_node_id == 3
    assert answers([good]) == [1]


def test_a_message_to_nobody_becomes_an_error_reply(grid, ran):
    (reply,) = grid.send_and_receive([ask(1, node=99)])
    assert "99" in reply.error.reason
    assert ran == []


def test_an_interrupted_client_ends_the_run(identity):
    app = ClientApp()

    @app.train()
    def train(message, context):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineGrid(app, make_contexts({2: {}})).send_and_receive([ask(1, node=2)])


def test_messages_can_be_made_in_the_old_way(grid, ran):
    made = grid.create_message(ask(7).content, MessageType.TRAIN, 3, "round 1")
    assert made.metadata.group_id == "round 1"
    assert answers(grid.send_and_receive([made])) == [7]


def test_there_is_no_superlink_run(grid):
    with pytest.raises(FlamesError, match="no SuperLink"):
        _ = grid.run


def test_running_inline_gives_the_server_its_grid(ran):
    server, found = ServerApp(), []

    @server.main()
    def main(grid, context: Context):
        found.extend(answers(grid.send_and_receive([ask(1, node) for node in grid.get_node_ids()])))

    run_inline(server, echo_app(ran), make_contexts({2: {"client": "a"}, 3: {"client": "b"}}))
    assert found == ran == [1, 1]


def test_an_error_of_the_server_is_not_swallowed(ran):
    server = ServerApp()

    @server.main()
    def main(grid, context: Context):
        raise FlamesError("no client joined")

    with pytest.raises(FlamesError, match="no client joined"):
        run_inline(server, echo_app(ran), make_contexts({}))


def test_a_fault_of_a_client_is_the_cause_of_what_the_server_raises(ran):
    server = ServerApp()

    @server.main()
    def main(grid, context):
        grid.send_and_receive([ask(14)])
        raise FlamesError("nobody reported")

    with pytest.raises(FlamesError, match="nobody reported") as raised:
        run_inline(server, echo_app(ran), make_contexts({3: {"client": "c"}}))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
