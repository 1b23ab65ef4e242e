"""Who may join, offer and approve."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.keys import SigningKey
from consortium.ledger.entry import Entry
from tests.worlds import World, documents
from tests.worlds.weak_keys import SMALL_ORDER, MixedOrderKey

STRANGER = SigningKey(b"\x63" * 32)


def founded() -> World:
    return World().found()


def offered() -> World:
    return World().found().join().offer()


def enrolment_of(key: Any) -> dict[str, Any]:
    return documents.enrolment(key, "Somebody", "small")


def admission_of(entry: Entry) -> dict[str, str]:
    return {"member": entry.author.hex(), "enrolment": entry.leaf.hex()}


def test_a_party_enrols_itself_and_counts_from_its_admission_on() -> None:
    world = founded()
    entry = world.enrol(0)
    member = world.ledger.state.members[world.ids[0]]
    assert (member.legal_name, member.size, member.owner_group, member.enrolment) == (
        "Operator 0",
        "large",
        "group Operator 0",
        entry.leaf,
    )
    assert not world.ledger.state.admitted(world.ids[0])
    world.ledger.add(world.coordinator, "admission", admission_of(entry))
    assert world.ledger.state.members[world.ids[0]].admitted == 2
    assert world.ledger.state.admitted(world.ids[0])


def test_an_enrolment_that_another_key_signed_is_refused() -> None:
    world = founded()
    assert world.ledger.refused(STRANGER, "enrolment", enrolment_of(world.members[0])) == "bad-signature"
    assert world.ledger.refused(world.coordinator, "enrolment", enrolment_of(STRANGER)) == "wrong-author"


@pytest.mark.parametrize("point", SMALL_ORDER, ids=["neutral", "order-2", "order-4", "order-8"])
def test_a_key_of_small_order_is_never_enrolled(point: bytes) -> None:
    class Anybody:
        """The holder of a small-order key needs no secret: (R, S) = (neutral, 0) fits in cofactored rules."""

        public_key = point
        key_id = MixedOrderKey.key_id

        def sign(self, _message: bytes) -> bytes:
            return (1).to_bytes(32, "little") + bytes(32)

    key: Any = Anybody()
    assert founded().ledger.refused(key, "enrolment", enrolment_of(key)) == "bad-signature"


def test_a_key_with_a_part_of_small_order_is_refused_although_its_signature_verifies() -> None:
    key = MixedOrderKey(1)
    assert founded().ledger.refused(key, "enrolment", enrolment_of(key)) == "weak-key"


def test_a_tls_key_belongs_to_one_member_only() -> None:
    world = founded()
    taken = world.enrol(0).body["tls_key_sha256"]
    coordinators = world.ledger.state.charter["coordinator"]["tls_key_sha256"]
    for tls_key in (taken, coordinators):
        body = enrolment_of(STRANGER) | {"tls_key_sha256": tls_key}
        assert world.ledger.refused(STRANGER, "enrolment", body) == "key-in-use"


def test_nobody_enrols_twice_so_nobody_changes_size_or_owner_after_admission() -> None:
    world = World().found().join()
    other = {"size": "small", "owner_group": "shell", "tls_key_sha256": documents.HASH}
    assert world.ledger.refused(world.members[0], "enrolment", enrolment_of(world.members[0]) | other) == (
        "already-enrolled"
    )
    body = enrolment_of(world.coordinator) | other
    assert world.ledger.refused(world.coordinator, "enrolment", body) == "already-enrolled"


def test_only_the_coordinator_admits_and_only_what_is_enrolled_and_once() -> None:
    world = World().found().join()
    entry = world.ledger.add(STRANGER, "enrolment", enrolment_of(STRANGER))
    admission = admission_of(entry)
    assert world.ledger.refused(STRANGER, "admission", admission) == "not-admitted"
    assert world.ledger.refused(world.members[0], "admission", admission) == "not-coordinator"
    other = {"enrolment": documents.HASH}
    assert world.ledger.refused(world.coordinator, "admission", admission | other) == "no-enrolment"
    assert world.ledger.refused(world.coordinator, "admission", admission | {"member": documents.HASH}) == (
        "no-enrolment"
    )
    world.ledger.add(world.coordinator, "admission", admission)
    assert world.ledger.refused(world.coordinator, "admission", admission) == "already-admitted"


def test_who_is_enrolled_and_not_admitted_writes_nothing() -> None:
    world = founded()
    world.enrol(0)
    assert world.ledger.refused(world.members[0], "dataset", documents.offer()) == "not-admitted"
    assert world.ledger.refused(world.members[1], "dataset", documents.offer()) == "bad-entry"


def test_an_offer_is_in_the_catalogue_under_its_owner() -> None:
    world = offered()
    for identity in world.ids:
        dataset = world.ledger.state.datasets[identity, "scada"]
        assert (dataset.lineage, dataset.cap_rho_micro) == ("turbine", documents.CAP_RHO_MICRO)
        assert world.ledger.state.cap_of(identity, "turbine") == documents.CAP_RHO_MICRO
    assert world.ledger.state.cap_of(world.ids[0], "another") == 0


def test_the_coordinator_offers_no_data() -> None:
    world = offered()
    assert world.ledger.refused(world.coordinator, "dataset", documents.offer()) == "not-a-data-owner"


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"descriptor": {}}, id="empty"),
        pytest.param({"descriptor": documents.descriptor("other", "turbine")}, id="of-another-dataset"),
        pytest.param({"descriptor": documents.descriptor("scada", "other")}, id="of-another-lineage"),
    ],
)
def test_an_offer_with_a_descriptor_that_does_not_fit_is_refused(spoiled: dict[str, Any]) -> None:
    world = offered()
    assert world.ledger.refused(world.members[0], "dataset", documents.offer() | spoiled) == "bad-descriptor"


def test_a_dataset_keeps_its_lineage_and_with_it_what_was_spent() -> None:
    world = offered()
    fresh = documents.offer(lineage="fresh")
    assert world.ledger.refused(world.members[0], "dataset", fresh) == "lineage-changed"


def test_the_budget_of_a_lineage_shrinks_and_never_grows() -> None:
    world = offered()
    owner, identity = world.members[0], world.ids[0]

    def cap_after(dataset: str, cap: int) -> int:
        world.ledger.add(owner, "dataset", documents.offer(dataset, cap=cap))
        return world.ledger.state.cap_of(identity, "turbine")

    assert cap_after("scada", documents.CAP_RHO_MICRO + 1) == documents.CAP_RHO_MICRO
    assert cap_after("copy", documents.CAP_RHO_MICRO * 10) == documents.CAP_RHO_MICRO
    assert cap_after("copy", 50) == 50
    assert cap_after("scada", documents.CAP_RHO_MICRO) == 50
    assert cap_after("copy", 1_000) == 50
    assert world.ledger.state.cap_of(world.ids[1], "turbine") == documents.CAP_RHO_MICRO


def test_the_coordinator_catalogues_an_app_once_and_each_member_approves_it_once() -> None:
    world = offered()
    app = {"name": "power", "digest": documents.APP}
    approval = {"digest": documents.APP}
    assert world.ledger.refused(world.members[0], "approval", approval) == "unknown-app"
    assert world.ledger.refused(world.members[0], "app", app) == "not-coordinator"
    world.ledger.add(world.coordinator, "app", app)
    assert world.ledger.refused(world.coordinator, "app", app | {"name": "again"}) == "duplicate"
    world.ledger.add(world.members[0], "approval", approval)
    assert world.ledger.refused(world.members[0], "approval", approval) == "duplicate"
    assert set(world.ledger.state.approvals) == {(world.ids[0], documents.APP)}
