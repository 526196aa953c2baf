import numpy as np
from flwr.app import Context, RecordDict

from flames_cli.fed.memory import read_memory, recall, remember, write_memory


def context():
    return Context(1, 2, {}, RecordDict(), run_config={})


def test_nothing_is_remembered_at_first():
    assert recall(context(), "control") is None
    assert read_memory(context()) == {}


def test_the_last_of_a_kind_is_remembered():
    own = context()
    remember(own, "style", {"w": np.zeros(2, np.float32)})
    remember(own, "style", {"w": np.array([1, 2], np.float32)})
    found = recall(own, "style")
    np.testing.assert_array_equal(found["w"], [1, 2])
    assert found["w"].dtype == np.float32


def test_memory_survives_being_read_and_written():
    own, other = context(), context()
    remember(own, "style", {"w": np.ones(2)})
    remember(own, "control", {"count": np.array(3)})
    write_memory(other, read_memory(own))
    assert read_memory(other).keys() == {"style", "control"}
    assert recall(other, "control")["count"].shape == ()
