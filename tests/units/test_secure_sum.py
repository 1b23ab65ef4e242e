"""A secure sum that goes well, drop-outs of every kind, and the order of its steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consortium.errors import SecureSumError
from consortium.privacy.secure_sum import LocalRules, SumSpec, decode_signed, encode_signed, minimum_threshold
from tests.units.secure_sum_party import Party, make_signers, make_spec


@pytest.mark.parametrize("word_bits", [32, 128])
@pytest.mark.parametrize("n", [3, 4, 7])
def test_total_is_the_plain_sum(n: int, word_bits: int) -> None:
    party = Party(n, word_bits=word_bits)
    party.reveal(range(n))
    assert list(decode_signed(party.server.total(), word_bits)) == party.plain_sum(range(n))


def test_any_threshold_of_the_survivors_can_finish() -> None:
    party = Party(4)
    votes = party.vote([0, 1, 2, 3])
    for i in (0, 2, 3):
        party.server.add_reveal(party.nodes[i].reveal([votes[0], votes[3], votes[1]]))
    assert party.server.missing("reveals") == (party.spec.roster[1],)
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum(range(4))


def test_vectors_longer_than_a_chunk_of_keystream_add_up() -> None:
    length = 65_536 + 65_536 + 17
    party = Party(3, length=length)
    shares = party.shares()
    data = [np.arange(length, dtype=np.int64) * (i + 1) - 70_000 for i in range(3)]
    for i in range(3):
        party.server.add_masked(*party.nodes[i].mask(shares, encode_signed(data[i], 32)))
    for i in range(3):
        party.server.add_vote(party.nodes[i].vote(party.server.survivors()))
    for i in range(3):
        party.server.add_reveal(party.nodes[i].reveal(party.server.votes()))
    np.testing.assert_array_equal(decode_signed(party.server.total(), 32), sum(data))


def test_masking_leaves_the_caller_s_vector_as_it_was() -> None:
    party = Party(3)
    shares, vector = party.shares(), party.vector(0)
    before = vector.copy()
    party.nodes[0].mask(shares, vector)
    np.testing.assert_array_equal(vector, before)


def test_node_killed_before_submitting_does_not_count() -> None:
    party = Party(4)
    party.reveal([0, 1, 3])
    assert party.server.survivors() == tuple(party.spec.roster[i] for i in (0, 1, 3))
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum([0, 1, 3])


def test_node_that_masked_but_whose_vector_was_lost_does_not_count() -> None:
    party = Party(4)
    shares = party.shares()
    sent = [party.nodes[i].mask(shares, party.vector(i)) for i in range(4)]
    for frame, vector in sent[:3]:
        party.server.add_masked(frame, vector)
    survivors = party.server.survivors()
    with pytest.raises(SecureSumError, match="not among the survivors"):
        party.nodes[3].vote(survivors)
    for i in range(3):
        party.server.add_vote(party.nodes[i].vote(survivors))
    for i in range(3):
        party.server.add_reveal(party.nodes[i].reveal(party.server.votes()))
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum([0, 1, 2])


def test_node_killed_after_submitting_counts() -> None:
    party = Party(4)
    party.reveal([0, 1, 3], masking=[0, 1, 2, 3])
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum(range(4))


def test_nodes_killed_before_and_after_submitting_in_one_sum() -> None:
    party = Party(7)
    party.reveal([0, 1, 3, 4, 5], masking=[0, 1, 2, 3, 4, 5])
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum(range(6))


def test_roster_of_three_that_loses_one_before_submitting_aborts() -> None:
    party = Party(3)
    party.mask([0, 1])
    with pytest.raises(SecureSumError, match="Only 2 masked vectors"):
        party.server.survivors()


def test_roster_of_three_that_loses_one_after_submitting_stays_masked() -> None:
    party = Party(3)
    party.mask([0, 1, 2])
    for i in (0, 1):
        party.server.add_vote(party.nodes[i].vote(party.server.survivors()))
    with pytest.raises(SecureSumError, match="2 votes; the threshold is 3"):
        party.server.votes()
    with pytest.raises(SecureSumError, match="2 votes; the threshold is 3"):
        party.server.total()


def test_total_needs_the_shares_of_a_threshold() -> None:
    party = Party(4)
    votes = party.vote([0, 1, 2, 3])
    for i in (0, 1):
        party.server.add_reveal(party.nodes[i].reveal(votes))
    with pytest.raises(SecureSumError, match="2 reveals; the threshold is 3"):
        party.server.total()


def test_set_up_needs_the_whole_roster() -> None:
    party = Party(4)
    frames = [node.advertise() for node in party.nodes]
    for frame in frames[:3]:
        party.server.add_advert(frame)
    with pytest.raises(SecureSumError, match="1 of 4 members sent no adverts") as refused:
        party.server.adverts()
    assert refused.value.where == party.spec.roster[3].hex()
    with pytest.raises(SecureSumError, match="1 of 4 members sent no advert"):
        party.nodes[0].share(frames[:3])
    party.server.add_advert(frames[3])
    adverts = party.server.adverts()
    shares = [node.share(adverts) for node in party.nodes]
    for frame in shares[:3]:
        party.server.add_shares(frame)
    with pytest.raises(SecureSumError, match="1 of 4 members sent no shares"):
        party.server.shares()
    with pytest.raises(SecureSumError, match="1 of 4 members sent no shares"):
        party.nodes[0].mask(shares[:3], party.vector(0))


def test_accessors_name_who_is_missing_in_every_step() -> None:
    party = Party(4)
    roster = party.spec.roster
    assert party.server.missing("adverts") == roster
    party.mask([0, 1, 3])
    assert party.server.missing("adverts") == party.server.missing("shares") == ()
    assert party.server.missing("masked") == (roster[2],)
    survivors = party.server.survivors()
    party.server.add_vote(party.nodes[1].vote(survivors))
    assert party.server.missing("masked") == (roster[2],)
    assert party.server.missing("votes") == (roster[0], roster[3])
    assert party.server.missing("reveals") == (roster[0], roster[1], roster[3])


def test_same_frame_again_changes_nothing() -> None:
    party = Party(4)
    sent = party.mask(range(4))
    for frame, vector in sent:
        party.server.add_masked(frame, vector)
    for _ in range(2):
        for i in range(4):
            party.server.add_vote(party.nodes[i].vote(party.server.survivors()))
    for i in range(4):
        frame = party.nodes[i].reveal(party.server.votes())
        party.server.add_reveal(frame)
        party.server.add_reveal(frame)
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum(range(4))


def test_steps_of_a_node_happen_once_and_in_order() -> None:
    """Fails without `_require`: masking twice would put one keystream under two vectors."""
    party = Party(3)
    node, vector = party.nodes[0], party.vector(0)
    for call in (lambda: node.share([]), lambda: node.mask([], vector), lambda: node.vote([]), lambda: node.reveal([])):
        with pytest.raises(SecureSumError, match="this one has started"):
            call()
    party.vote(range(3))
    with pytest.raises(SecureSumError, match="has voted"):
        node.advertise()
    with pytest.raises(SecureSumError, match="has voted"):
        node.share(party.server.adverts())
    with pytest.raises(SecureSumError, match="has voted"):
        node.mask(party.server.shares(), vector)
    node.reveal(party.server.votes())
    with pytest.raises(SecureSumError, match="has revealed"):
        node.reveal(party.server.votes())


def test_vector_is_masked_once() -> None:
    """Fails without `_require` in `mask`."""
    party = Party(3)
    party.mask([0])
    with pytest.raises(SecureSumError, match="this one has masked"):
        party.nodes[0].mask(party.server.shares(), party.vector(0))


def test_steps_of_the_coordinator_need_the_one_before() -> None:
    party = Party(4)
    vote_of_another = Party(4).vote(range(4))[0]
    adverts = [node.advertise() for node in party.nodes]
    shares = [node.share(adverts) for node in party.nodes]
    with pytest.raises(SecureSumError, match="other adverts"):
        party.server.add_shares(shares[0])
    with pytest.raises(SecureSumError, match="not complete"):
        party.server.add_vote(vote_of_another)
    for frame in adverts:
        party.server.add_advert(frame)
    party.server.adverts()
    for frame in shares:
        party.server.add_shares(frame)
    party.server.shares()
    masked = [party.nodes[i].mask(shares, party.vector(i)) for i in range(4)]
    vote = party.nodes[0].vote(party.spec.roster)
    with pytest.raises(SecureSumError, match="not closed"):
        party.server.add_vote(vote)
    for frame, vector in masked:
        party.server.add_masked(frame, vector)
    with pytest.raises(SecureSumError, match="0 votes"):
        party.server.total()


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(3, np.uint32),
        np.zeros(4, np.int32),
        np.zeros(4, np.uint64),
        np.zeros((4, 2), np.uint64),
        np.zeros((4, 1), np.uint32),
    ],
)
def test_vector_of_another_shape_or_word_is_refused(vector: np.ndarray) -> None:
    party = Party(3)
    shares = party.shares()
    with pytest.raises(SecureSumError, match="must be a uint32 array"):
        party.nodes[0].mask(shares, vector)
    frame, _ = party.nodes[0].mask(shares, party.vector(0))
    with pytest.raises(SecureSumError, match="must be a uint32 array"):
        party.server.add_masked(frame, vector)


def test_minimum_threshold_is_more_than_two_thirds() -> None:
    assert [minimum_threshold(n) for n in (3, 4, 5, 6, 7, 9, 10, 100)] == [3, 3, 4, 5, 5, 7, 7, 67]
    for n in range(3, 101):
        t = minimum_threshold(n)
        assert 3 * t > 2 * n >= 3 * (t - 1)
        assert t <= n


SPEC = make_spec(make_signers(4))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("consortium", b"short"),
        ("job", "text"),
        ("request", b""),
        ("input_model", bytes(33)),
        ("round", -1),
        ("round", 1 << 53),
        ("round", True),
        ("length", 0),
        ("length", (1 << 27) + 1),
        ("length", 4.0),
        ("word_bits", 64),
        ("threshold", 2),
        ("threshold", 5),
        ("roster", SPEC.roster[:2]),
        ("roster", SPEC.roster[::-1]),
        ("roster", (SPEC.roster[0], *SPEC.roster[:3])),
        ("roster", (*SPEC.roster[:3], b"short")),
        ("roster", tuple(i.to_bytes(32) for i in range(101))),
    ],
)
def test_spec_out_of_bounds_is_refused(field: str, value: object) -> None:
    with pytest.raises(SecureSumError) as refused:
        replace(SPEC, **{field: value})
    assert refused.value.where == field


def test_two_thirds_exactly_is_no_threshold() -> None:
    """Fails without the floor `3 * t > 2 * n`: with t = 4 of 6, two quorums may share no honest node but one liar."""
    with pytest.raises(SecureSumError, match="more than two thirds"):
        make_spec(make_signers(6), threshold=4)


def test_spec_survives_json_and_refuses_what_it_did_not_write() -> None:
    document = SPEC.to_json()
    assert SumSpec.from_json(document) == SPEC
    bad = [
        [],
        {**document, "extra": 1},
        {key: value for key, value in document.items() if key != "job"},
        {**document, "roster": "ab"},
        {**document, "roster": [1, 2, 3]},
        {**document, "job": document["job"].upper().replace("6A", "6a", 1)},
        {**document, "job": " " * 64},
        {**document, "word_bits": [32]},
        {**document, "round": "1"},
    ]
    for value in bad:
        with pytest.raises(SecureSumError):
            SumSpec.from_json(value)


@pytest.mark.parametrize("field", ["consortium", "job", "round", "request", "input_model", "length", "word_bits"])
def test_every_field_of_the_spec_names_another_session(field: str) -> None:
    other = {"round": 2, "length": 5, "word_bits": 128}.get(field, b"x" * 32)
    assert replace(SPEC, **{field: other}).session != SPEC.session


def test_roster_and_threshold_name_another_session() -> None:
    assert replace(SPEC, roster=SPEC.roster[:3]).session != SPEC.session
    assert replace(SPEC, threshold=4).session != SPEC.session


def test_local_rules_ask_for_three_at_least() -> None:
    with pytest.raises(SecureSumError, match="at least 3"):
        LocalRules(frozenset(SPEC.roster), 2)


def test_node_outside_the_roster_or_without_keys_cannot_take_part() -> None:
    party = Party(4)
    outsider = make_signers(5)
    stranger = next(signer for signer in outsider if signer.key_id not in party.spec.roster)
    from consortium.privacy.secure_sum import Participant

    with pytest.raises(SecureSumError, match="not on the roster"):
        Participant(party.spec, stranger, party.public_keys, party.rules, bytes)
    with pytest.raises(SecureSumError, match="no known public key"):
        Participant(party.spec, party.signers[0], {}, party.rules, bytes)
    with pytest.raises(SecureSumError, match="own id"):
        party.node(0, rules=LocalRules(frozenset(party.spec.roster[1:]), 3))


def test_random_source_that_returns_too_little_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="random source"):
        Party(3, random=lambda n: bytes(n - 1)).nodes[0].advertise()
