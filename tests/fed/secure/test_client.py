"""The session of a client that gets several messages at the same time."""

import numpy as np
import pytest

from flames_cli.core.federated.sum_layout import SumLayout
from flames_cli.fed.node import Declined
from flames_cli.fed.secure.client import ClientSession
from flames_cli.fed.secure.terms import SumTerms
from flames_cli.secagg import Dealt, Participant, Session
from flames_cli.store.secure_sessions import SecureFiles

NAMES = ("a", "b", "c")
WEIGHTS = {"w": np.arange(3, dtype=np.float32)}
LAYOUT = SumLayout.of(WEIGHTS, False, 0)


@pytest.fixture
def loaded(tmp_path):
    """Return a function that loads the session of client a, which has the shares of b and c."""
    session = Session.new(SumTerms("00112233445566ff").to_text(), 1, "MRI")
    all_ = {name: Participant.create(session, name) for name in NAMES}
    adverts = [one.advert for one in all_.values()]
    dealings = {name: one.share(adverts) for name, one in all_.items()}
    all_["a"].receive(Dealt({name: dealings[name].sealed["a"] for name in "bc"}))
    files = SecureFiles(tmp_path / "a")
    files.save_session(all_["a"].to_bytes())
    return lambda: ClientSession.load(files, session.id.hex())


def test_two_requests_at_the_same_time_do_not_get_two_vectors_under_the_same_masks(loaded):
    first, second = loaded(), loaded()
    first.mask(LAYOUT, WEIGHTS, 1.0, ())
    with pytest.raises(Declined, match="answered another message of this session at the same time"):
        second.mask(LAYOUT, {"w": WEIGHTS["w"] + 1}, 1.0, ())


def test_a_new_session_ends_a_request_that_is_still_training(loaded):
    training = loaded()
    training.files.save_session(b"another session")
    with pytest.raises(Declined, match="answered another message"):
        training.mask(LAYOUT, WEIGHTS, 1.0, ())
