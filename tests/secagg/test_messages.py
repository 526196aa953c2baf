import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.secagg import Advert, Dealing, Dealt, Declined, Opening, SealedShares, Session

names = st.text('aZ0-é€😀"\\\n\0', max_size=9)
digests = st.binary(min_size=32, max_size=32)
sealed = st.dictionaries(
    names, st.builds(SealedShares, st.binary(max_size=200), digests, digests), max_size=5
)
shares = st.dictionaries(names, st.binary(min_size=33, max_size=33), max_size=5)

MESSAGES = {
    "advert": st.builds(Advert, names, digests, digests, st.sampled_from([b"", b"s" * 64])),
    "dealing": st.builds(Dealing, digests, sealed, st.tuples(digests, digests)),
    "dealt": st.builds(Dealt, sealed),
    "opening": st.builds(Opening, shares, shares),
    "session": st.builds(
        Session,
        st.binary(min_size=16, max_size=16),
        names,
        st.integers(0, 2**62),
        names,
        st.sampled_from([32, 64]),
    ),
}


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_a_message_comes_out_of_its_bytes_as_it_went_in(kind, data):
    message = data.draw(MESSAGES[kind])
    assert type(message).from_bytes(message.to_bytes()) == message


GOOD = {
    Advert: Advert("a", bytes(32), bytes(32)),
    Dealing: Dealing(bytes(32), {"b": SealedShares(b"box", bytes(32), bytes(32))}, (bytes(32), bytes(32))),
    Dealt: Dealt({"b": SealedShares(b"box", bytes(32), bytes(32))}),
    Opening: Opening({"a": bytes(33)}, {"b": bytes(33)}),
    Session: Session(bytes(16), "run", 1, "ct", 64),
}
BAD = [
    None,
    1,
    -1,
    True,
    1.5,
    "",
    "zz",
    "00",
    "\ud800",
    [],
    ["a"],
    {},
    {"a": 1},
    {"a": "00"},
    {"a": ["00"]},
    {"\ud800": "00"},
]


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_a_message_with_any_wrong_field_is_declined(kind):
    fields = json.loads(GOOD[kind].to_bytes())
    for name, right in fields.items():
        others = {**fields}
        del others[name]
        wrong = [others, *({**fields, name: value} for value in BAD if value != right)]
        for one in wrong:
            data = json.dumps(one).encode()
            try:
                read = kind.from_bytes(data)
            except Declined:
                continue
            # Some other values are right too: names are any text, tables may be empty
            assert json.loads(read.to_bytes()) == one


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":NaN}'], ids=range(6)
)
def test_what_is_no_message_is_declined(kind, data):
    with pytest.raises(Declined, match="cannot be read"):
        kind.from_bytes(data)


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_a_message_that_was_cut_is_declined(kind):
    data = GOOD[kind].to_bytes()
    for end in range(len(data)):
        with pytest.raises(Declined):
            kind.from_bytes(data[:end])
