"""Attacks on a secure sum by its coordinator or its members; each docstring names the check that stops it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from consortium.encoding import canonical, parse
from consortium.errors import SecureSumError
from consortium.keys import SigningKey, open_frame, pae, sign_frame
from consortium.privacy.secure_sum import Aggregator, LocalRules, Participant, decode_signed
from consortium.privacy.secure_sum import participant as participant_module
from consortium.privacy.secure_sum.messages import (
    Advert,
    Masked,
    Message,
    Reveal,
    Shares,
    Vote,
    open_message,
    sign_message,
)
from consortium.privacy.secure_sum.shamir import PRIME, SHARE_BYTES
from tests.units.secure_sum_party import Party


def signed(party: Party, i: int, message: Message) -> bytes:
    """What member i would send if it lied."""
    return sign_message(party.signers[i], party.spec, message)


def opened(party: Party, frame: bytes, kind: type) -> Message:
    return open_message(frame, party.spec, party.public_keys, kind)[1]


# --- the survivor set -------------------------------------------------------------------------------------------


def test_second_survivor_set_in_a_round_gets_no_vote() -> None:
    """Fails without the one-vote check in `Participant.vote`: two sets would give the sum of their difference."""
    party = Party(4)
    party.mask(range(4))
    roster = party.spec.roster
    first = party.nodes[0].vote(roster)
    with pytest.raises(SecureSumError, match="voted for another survivor set"):
        party.nodes[0].vote(roster[:3])
    assert party.nodes[0].vote(roster) == first


def test_votes_over_another_set_than_the_own_reveal_nothing() -> None:
    """Fails without the comparison of votes in `check_votes`."""
    party = Party(4)
    votes = party.vote(range(4))
    setup = opened(party, votes[0], Vote).setup
    others = [signed(party, i, Vote(setup, party.spec.roster[:3])) for i in range(3)]
    with pytest.raises(SecureSumError, match="another survivor set"):
        party.nodes[0].reveal(others)
    with pytest.raises(SecureSumError, match="another survivor set"):
        party.nodes[0].reveal([*votes[:2], others[2]])


def test_vote_of_another_set_up_of_the_session_reveals_nothing() -> None:
    """Fails without the set-up digest in votes: a vote from before a restart would count again."""
    party = Party(4)
    votes = party.vote(range(4))
    with pytest.raises(SecureSumError, match="another survivor set or set-up"):
        party.nodes[0].reveal([*votes[:2], signed(party, 2, Vote(bytes(32), party.spec.roster))])


def test_fewer_votes_than_the_threshold_reveal_nothing() -> None:
    """Fails without the count in `check_votes`."""
    party = Party(4)
    votes = party.vote(range(4))
    with pytest.raises(SecureSumError, match="2 votes; the threshold is 3"):
        party.nodes[0].reveal(votes[:2])


def test_one_vote_counts_once() -> None:
    """Fails without the set of voters in `check_votes`."""
    party = Party(4)
    votes = party.vote(range(4))
    with pytest.raises(SecureSumError, match="once each"):
        party.nodes[0].reveal([votes[0], votes[1], votes[1]])


def test_vote_of_a_dropped_member_does_not_count() -> None:
    """Fails without the check in `check_votes` and `Aggregator.add_vote` that only survivors vote."""
    party = Party(4)
    votes = party.vote([0, 1, 2])
    vote = signed(party, 3, opened(party, votes[0], Vote))
    with pytest.raises(SecureSumError, match="Only survivors vote"):
        party.nodes[0].reveal([votes[0], votes[1], vote])
    with pytest.raises(SecureSumError, match="not from a survivor"):
        party.server.add_vote(vote)


def test_survivor_named_twice_gets_no_vote() -> None:
    """Fails without the strict order in `check_survivors`."""
    party = Party(4)
    party.mask(range(4))
    first, second, third, _ = party.spec.roster
    for chosen in ((first, second, second), (first, first, second, third), (second, first, third)):
        with pytest.raises(SecureSumError, match="strictly sorted"):
            party.nodes[0].vote(chosen)


def test_survivor_set_below_the_threshold_or_beyond_the_roster_gets_no_vote() -> None:
    """Fails without the subset and threshold checks in `check_survivors`."""
    party = Party(4)
    party.mask(range(4))
    with pytest.raises(SecureSumError, match="the threshold is 3"):
        party.nodes[0].vote(party.spec.roster[:2])
    with pytest.raises(SecureSumError, match="not on the roster"):
        party.nodes[0].vote(tuple(sorted((*party.spec.roster[:3], bytes(32)))))


def test_survivor_set_without_the_voter_gets_no_vote() -> None:
    """Fails without the check in `Participant.vote` that the voter is a survivor."""
    party = Party(4)
    party.mask(range(4))
    with pytest.raises(SecureSumError, match="not among the survivors"):
        party.nodes[0].vote(party.spec.roster[1:])


def test_coordinator_refuses_votes_and_reveals_over_another_set() -> None:
    """Fails without the comparison in `Aggregator.add_vote` and `add_reveal`."""
    party = Party(4)
    votes = party.vote(range(4))
    with pytest.raises(SecureSumError, match="another survivor set"):
        party.server.add_vote(signed(party, 0, replace(opened(party, votes[0], Vote), survivors=party.spec.roster[:3])))
    reveal = opened(party, party.nodes[0].reveal(votes), Reveal)
    seeds, keys = dict(reveal.seed_shares), dict(reveal.key_shares)
    keys[party.spec.roster[3]] = seeds.pop(party.spec.roster[3])
    with pytest.raises(SecureSumError, match="another survivor set"):
        party.server.add_reveal(signed(party, 0, Reveal(reveal.setup, seeds, keys)))


def test_honest_reveal_never_holds_both_shares_of_one_member() -> None:
    party = Party(4)
    votes = party.vote([0, 1, 2])
    reveal = opened(party, party.nodes[0].reveal(votes), Reveal)
    assert set(reveal.seed_shares) == set(party.spec.roster[:3])
    assert set(reveal.key_shares) == {party.spec.roster[3]}


def test_member_both_alive_and_dead_in_a_reveal_is_refused() -> None:
    """Fails without the overlap check in `Reveal.from_json`: both shares together unmask one node."""
    party = Party(4)
    votes = party.vote([0, 1, 2])
    node = party.nodes[0]
    victim = party.spec.roster[1]
    both = node._pairs[victim].key
    reveal = opened(party, node.reveal(votes), Reveal)
    forged = signed(party, 0, Reveal(reveal.setup, reveal.seed_shares, {**reveal.key_shares, victim: both}))
    with pytest.raises(SecureSumError, match="both alive and dead") as refused:
        party.server.add_reveal(forged)
    assert refused.value.blamed == (party.spec.roster[0],)


def test_reveal_that_leaves_a_member_out_is_refused() -> None:
    """Fails without the completeness check in `Reveal.from_json`."""
    party = Party(4)
    votes = party.vote([0, 1, 2])
    reveal = opened(party, party.nodes[0].reveal(votes), Reveal)
    with pytest.raises(SecureSumError, match="one share for every roster member"):
        party.server.add_reveal(signed(party, 0, replace(reveal, key_shares={})))


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed_shares", []), ("key_shares", None), ("seed_shares", {"ab": "cd"}), ("setup", 7), ("extra", 1)],
)
def test_reveal_of_another_form_is_refused(field: str, value: object) -> None:
    party = Party(4)
    votes = party.vote([0, 1, 2])
    frame = open_frame(party.nodes[0].reveal(votes))
    body = parse(frame.payload) | {field: value}
    with pytest.raises(SecureSumError) as refused:
        party.server.add_reveal(sign_frame(party.signers[0], frame.payload_type, canonical(body)).data)
    assert refused.value.blamed == (party.spec.roster[0],)


# --- replay and substitution ------------------------------------------------------------------------------------


def test_frames_of_another_round_are_refused_in_every_step() -> None:
    """Fails without the session check in `open_message`."""
    old, new = Party(4, round=1), Party(4, round=2)
    old_adverts, new_adverts = old.adverts(), new.adverts()
    with pytest.raises(SecureSumError, match="belongs to another sum") as refused:
        new.nodes[0].share([*new_adverts[:3], old_adverts[3]])
    assert refused.value.blamed == (), "a replayed frame is not its signer's fault"
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        new.server.add_advert(old_adverts[0])
    old_shares = [node.share(old_adverts) for node in old.nodes]
    new_shares = [node.share(new_adverts) for node in new.nodes]
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        new.nodes[0].mask([*new_shares[:3], old_shares[3]], new.vector(0))
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        new.server.add_shares(old_shares[0])


def test_votes_reveals_and_vectors_of_another_round_are_refused() -> None:
    """Fails without the session check in `open_message`."""
    old, new = Party(4, round=1), Party(4, round=2)
    old_votes, new_votes = old.vote(range(4)), new.vote(range(4))
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        new.nodes[0].reveal([*new_votes[:2], old_votes[2]])
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        new.server.add_vote(old_votes[0])
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        new.server.add_reveal(old.nodes[0].reveal(old_votes))
    again = Party(4, round=3)
    again.shares()
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        again.server.add_masked(old.server.transcript().masked[0], old.server.transcript().vectors[0])


def test_swapped_input_model_is_refused() -> None:
    """Fails if the session does not bind the input model: nodes would answer on different models in one sum."""
    party, swapped = Party(4, input_model=b"m" * 32), Party(4, input_model=b"n" * 32)
    adverts = party.adverts()
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        party.nodes[0].share([*adverts[:3], swapped.nodes[3].advertise()])


def test_frame_of_one_step_does_not_pass_for_another() -> None:
    """Fails without the payload type check in `open_message`."""
    party = Party(4)
    adverts = party.adverts()
    payload = open_frame(adverts[1]).payload
    relabelled = sign_frame(party.signers[1], "application/vnd.consortium.secure-sum-vote.v1+json", payload).data
    with pytest.raises(SecureSumError, match="another kind"):
        party.nodes[0].share([adverts[0], relabelled, *adverts[2:]])


def test_own_advert_of_an_earlier_start_is_refused() -> None:
    """Fails without the comparison with the own advert in `Participant.share`: its seed commitment is a stale one."""
    party = Party(4)
    adverts = party.adverts()
    stale = party.node(0).advertise()
    with pytest.raises(SecureSumError, match="own advert is missing or was changed"):
        party.nodes[0].share([stale, *adverts[1:]])


def test_own_shares_of_an_earlier_start_are_refused() -> None:
    """Fails without the comparison with the own shares in `Participant.mask`."""
    party = Party(4)
    shares = party.shares()
    stale = signed(party, 0, opened(party, shares[1], Shares))
    with pytest.raises(SecureSumError, match="own shares are missing or were changed"):
        party.nodes[0].mask([stale, *shares[1:]], party.vector(0))


def test_nodes_that_saw_different_adverts_do_not_mask() -> None:
    """Fails without the digest of adverts in the shares: a coordinator could split the roster's view."""
    party = Party(4)
    adverts = party.adverts()
    other_view = [*adverts[:3], party.node(3).advertise()]
    shares = [
        party.nodes[0].share(adverts),
        party.nodes[1].share(other_view),
        *(n.share(adverts) for n in party.nodes[2:]),
    ]
    with pytest.raises(SecureSumError, match="dealt for other adverts"):
        party.nodes[0].mask(shares, party.vector(0))
    with pytest.raises(SecureSumError, match="dealt for other adverts"):
        party.server.add_shares(shares[1])


def test_vector_masked_after_another_set_up_is_refused() -> None:
    """Fails without the set-up digest in `Aggregator.add_masked`: its masks would not cancel."""
    party = Party(4)
    frame, vector = party.mask([0, 1, 2])[0]
    masked = opened(party, frame, Masked)
    with pytest.raises(SecureSumError, match="another set-up"):
        party.server.add_masked(signed(party, 3, replace(masked, setup=bytes(32))), vector)


def test_two_different_messages_of_one_step_blame_their_signer() -> None:
    """Fails without the comparison in `Aggregator._keep`."""
    party = Party(4)
    party.adverts()
    with pytest.raises(SecureSumError, match="two different messages") as refused:
        party.server.add_advert(party.node(2).advertise())
    assert refused.value.blamed == (party.spec.roster[2],)


def test_advert_sent_twice_does_not_stand_for_two_members() -> None:
    """Fails without the one-each check in `open_one_each`."""
    party = Party(4)
    adverts = party.adverts()
    with pytest.raises(SecureSumError, match="two messages of one kind"):
        party.nodes[0].share([adverts[0], adverts[0], *adverts[2:]])


def test_x25519_key_copied_from_another_member_is_refused() -> None:
    """Fails without the distinctness check in `open_adverts`: a copied key mirrors another's masks."""
    party = Party(4)
    adverts = party.adverts()
    victim, own = opened(party, adverts[0], Advert), opened(party, adverts[3], Advert)
    copied = signed(party, 3, replace(own, mask_key=victim.mask_key))
    with pytest.raises(SecureSumError, match="same X25519 key"):
        party.nodes[0].share([*adverts[:3], copied])


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_x25519_key_of_small_order_is_refused(point: bytes) -> None:
    """Fails without the all-zero check of RFC 7748 section 6.1: the pairwise secret would be public."""
    party = Party(4)
    adverts = party.adverts()
    weak = replace(opened(party, adverts[3], Advert), sealing_key=point)
    with pytest.raises(SecureSumError, match="small order"):
        party.nodes[0].share([*adverts[:3], signed(party, 3, weak)])


# --- signatures -------------------------------------------------------------------------------------------------


def test_unsigned_key_is_refused() -> None:
    """Fails without `frame.verify` in `open_message`: the coordinator would put its own keys in a member's name."""
    party = Party(4)
    adverts = party.adverts()
    honest = open_frame(adverts[3])
    coordinator = SigningKey(os.urandom(32))
    message = pae(honest.payload_type, honest.payload)
    in_its_name = b"\x01" + honest.key_id + coordinator.sign(message) + message
    unsigned = b"\x01" + honest.key_id + bytes(64) + message
    for forged in (in_its_name, unsigned):
        with pytest.raises(SecureSumError, match="does not verify"):
            party.nodes[0].share([*adverts[:3], forged])
        with pytest.raises(SecureSumError, match="does not verify"):
            party.server.add_advert(forged)


def test_frame_of_a_stranger_is_refused() -> None:
    """Fails without the roster check in `open_message`."""
    party = Party(4)
    adverts = party.adverts()
    stranger = SigningKey(os.urandom(32))
    frame = sign_message(stranger, party.spec, opened(party, adverts[3], Advert))
    with pytest.raises(SecureSumError, match="not on the roster"):
        party.nodes[0].share([*adverts[:3], frame])
    known = Aggregator(party.spec, {**party.public_keys, stranger.key_id: stranger.public_key})
    with pytest.raises(SecureSumError, match="not on the roster"):
        known.add_advert(frame)


# --- shams ------------------------------------------------------------------------------------------------------


def test_honest_node_among_three_members_its_steward_never_accepted_refuses() -> None:
    """Fails without `rules.check` of the roster: three shams would leave the sum of one honest node."""
    party = Party(4)
    with pytest.raises(SecureSumError, match="Only 1 members of the roster were accepted"):
        party.node(0, rules=LocalRules(frozenset(party.spec.roster[:1]), 3))
    with pytest.raises(SecureSumError, match="Only 2 members of the roster were accepted"):
        party.node(0, rules=LocalRules(frozenset(party.spec.roster[:2]), 3))


def test_survivor_set_that_drops_accepted_members_for_shams_gets_no_vote() -> None:
    """Fails without `rules.check` of the survivors."""
    party = Party(4)
    party.nodes[0] = party.node(0, rules=LocalRules(frozenset(party.spec.roster[:3]), 3))
    party.mask(range(4))
    with_sham = (party.spec.roster[0], party.spec.roster[1], party.spec.roster[3])
    with pytest.raises(SecureSumError, match="Only 2 members of the survivors were accepted"):
        party.nodes[0].vote(with_sham)


def test_higher_floor_of_a_node_holds_for_the_survivors() -> None:
    """Fails without `rules.check` of the survivors, where every member is accepted but the node asks for four."""
    party = Party(4)
    party.nodes[0] = party.node(0, rules=LocalRules(frozenset(party.spec.roster), 4))
    party.mask([0, 1, 2])
    with pytest.raises(SecureSumError, match="its policy asks for 4"):
        party.nodes[0].vote(party.server.survivors())


# --- vectors ----------------------------------------------------------------------------------------------------


def test_late_vector_is_refused() -> None:
    """Fails without the check in `Aggregator.add_masked` that the survivors are not yet named."""
    party = Party(4)
    party.mask([0, 1, 2])
    late = party.nodes[3].mask(party.server.shares(), party.vector(3))
    party.server.survivors()
    with pytest.raises(SecureSumError, match="late vector"):
        party.server.add_masked(*late)


def test_forged_masked_vector_is_refused() -> None:
    """Fails without the hash comparison in `Aggregator.add_masked`."""
    party = Party(4)
    frame, vector = party.nodes[0].mask(party.shares(), party.vector(0))
    forged = vector.copy()
    forged[2] += 1
    with pytest.raises(SecureSumError, match="not the one that its sender signed"):
        party.server.add_masked(frame, forged)
    party.server.add_masked(frame, vector)


# --- shares -----------------------------------------------------------------------------------------------------


def spoil(share: bytes) -> bytes:
    return (int.from_bytes(share) ** 2 % PRIME).to_bytes(SHARE_BYTES)  # errors of different shares do not cancel


@pytest.mark.parametrize("masking", [[0, 1, 2, 3, 4], [0, 1, 2, 3]])
def test_bad_share_names_its_sender_and_the_others_recover(masking: list[int]) -> None:
    """Fails without `check_share` in `Aggregator.add_reveal`."""
    party = Party(5, threshold=4) if len(masking) == 5 else Party(5)
    votes = party.vote(masking)
    liar, victim = 1, party.spec.roster[masking[-1]]
    dropped = set(party.spec.roster) - {party.spec.roster[i] for i in masking}
    for i in masking:
        frame = party.nodes[i].reveal(votes)
        reveal = opened(party, frame, Reveal)
        if i != liar:
            party.server.add_reveal(frame)
        else:
            seeds = {**reveal.seed_shares, victim: spoil(reveal.seed_shares[victim])}
            forged = [Reveal(reveal.setup, seeds, reveal.key_shares)]
            for owner in dropped:
                keys = {owner: spoil(reveal.key_shares[owner])}
                forged.append(Reveal(reveal.setup, reveal.seed_shares, keys))
            for lie in forged:
                with pytest.raises(SecureSumError, match="not the one its dealer committed to") as refused:
                    party.server.add_reveal(signed(party, liar, lie))
                assert refused.value.blamed == (party.spec.roster[liar],)
    if len(masking) == 5:
        assert list(decode_signed(party.server.total(), 32)) == party.plain_sum(masking)
    else:
        with pytest.raises(SecureSumError, match="3 reveals; the threshold is 4"):
            party.server.total()


def deal_badly(monkeypatch: pytest.MonkeyPatch, party: Party, dealer: int, spoiled: tuple[int, ...]) -> None:
    """Makes the dealer commit to, and deal, inconsistent shares at some positions; then runs the set-up."""
    honest = participant_module.split
    adverts = party.adverts()
    for i, node in enumerate(party.nodes):
        with monkeypatch.context() as patch:
            if i == dealer:
                patch.setattr(
                    participant_module,
                    "split",
                    lambda *a: [spoil(s) if at in spoiled else s for at, s in enumerate(honest(*a))],
                )
            party.server.add_shares(node.share(adverts))


@pytest.mark.parametrize("dealer_survives", [True, False])
def test_another_subset_of_shares_recovers_from_an_inconsistent_dealer(
    monkeypatch: pytest.MonkeyPatch, dealer_survives: bool
) -> None:
    """Fails without the loop over subsets in `Aggregator._candidates`."""
    party = Party(7)
    dealer = 6
    deal_badly(monkeypatch, party, dealer, spoiled=(1,))
    finish(party, range(7) if dealer_survives else range(6))
    who = range(7) if dealer_survives else range(6)
    assert list(decode_signed(party.server.total(), 32)) == party.plain_sum(who)


@pytest.mark.parametrize("dealer_survives", [True, False])
def test_secret_that_no_subset_gives_back_blames_its_dealer(
    monkeypatch: pytest.MonkeyPatch, dealer_survives: bool
) -> None:
    """Fails without the comparison with the seed commitment (dealer alive) or the public key (dealer dropped)."""
    party = Party(4)
    deal_badly(monkeypatch, party, 3, spoiled=(0, 1, 2))
    finish(party, range(4) if dealer_survives else range(3))
    with pytest.raises(SecureSumError, match="do not give back") as refused:
        party.server.total()
    assert refused.value.blamed == (party.spec.roster[3],)


def test_shares_of_no_32_byte_secret_blame_their_dealer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a field element above 2**256 is taken for a secret."""
    party = Party(4)
    adverts = party.adverts()
    for node in party.nodes[:3]:
        party.server.add_shares(node.share(adverts))
    monkeypatch.setattr(participant_module, "split", lambda *_: [(PRIME - 1).to_bytes(SHARE_BYTES)] * 4)
    party.server.add_shares(party.nodes[3].share(adverts))
    finish(party, range(4))
    with pytest.raises(SecureSumError, match="do not give back") as refused:
        party.server.total()
    assert refused.value.blamed == (party.spec.roster[3],)


@pytest.mark.parametrize("field", ["sealed", "seed_commitments", "key_commitments"])
def test_shares_for_another_number_of_members_are_refused(field: str) -> None:
    """Fails without the count in `_unhex_list`."""
    party = Party(4)
    frame = open_frame(party.shares()[3])
    body = parse(frame.payload)
    for value in (body[field][:3], "text"):
        forged = sign_frame(party.signers[3], frame.payload_type, canonical(body | {field: value})).data
        with pytest.raises(SecureSumError, match="list of 4 items"):
            party.server.add_shares(forged)


def finish(party: Party, who: range) -> None:
    shares = party.server.shares()
    for i in who:
        party.server.add_masked(*party.nodes[i].mask(shares, party.vector(i)))
    for i in who:
        party.server.add_vote(party.nodes[i].vote(party.server.survivors()))
    for i in who:
        party.server.add_reveal(party.nodes[i].reveal(party.server.votes()))


def test_share_that_differs_from_its_commitment_blames_the_dealer_before_masking() -> None:
    """Fails without `check_share` in `unseal_pair`: the recipient would later be blamed for the dealer's lie."""
    party = Party(4)
    shares = party.shares()
    dealt = opened(party, shares[3], Shares)
    for field in ("seed_commitments", "key_commitments"):
        forged = replace(dealt, **{field: (bytes(32),) * 4})
        with pytest.raises(SecureSumError, match="not the one its dealer committed to") as refused:
            party.nodes[0].mask([*shares[:3], signed(party, 3, forged)], party.vector(0))
        assert refused.value.blamed == (party.spec.roster[3],)


def test_sealed_share_that_does_not_open_blames_the_dealer() -> None:
    """Fails without authenticated encryption; a share sealed to another member must not open either."""
    party = Party(4)
    shares = party.shares()
    dealt = opened(party, shares[3], Shares)
    swapped = replace(dealt, sealed=(dealt.sealed[1], dealt.sealed[0], *dealt.sealed[2:]))
    with pytest.raises(SecureSumError, match="do not open") as refused:
        party.nodes[0].mask([*shares[:3], signed(party, 3, swapped)], party.vector(0))
    assert refused.value.blamed == (party.spec.roster[3],)


def test_reveal_of_a_dropped_member_is_refused() -> None:
    """Fails without the check in `Aggregator.add_reveal` that only survivors reveal."""
    party = Party(4)
    votes = party.vote([0, 1, 2])
    reveal = opened(party, party.nodes[0].reveal(votes), Reveal)
    with pytest.raises(SecureSumError, match="not from a survivor"):
        party.server.add_reveal(signed(party, 3, reveal))


def test_nodes_on_different_specs_never_share_a_session() -> None:
    """A node told a longer vector, another word or a lower threshold by the coordinator signs for another session."""
    party = Party(4)
    frame = Participant(
        replace(party.spec, threshold=4), party.signers[1], party.public_keys, party.rules, os.urandom
    ).advertise()
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        party.server.add_advert(frame)
