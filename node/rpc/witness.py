"""The witness stream on the wire: conversion of its messages."""

from __future__ import annotations

from consortium.errors import EncodingError
from consortium.ledger.merkle import HASH_BYTES
from node.services import api
from protos.v1 import witness_pb2

STATUSES = frozenset({200, 409, 422})
PROOF_HASHES_MAX = 64  # a consistency proof has at most one hash a level and one more


def says_to_message(value: api.WitnessSays) -> witness_pb2.WitnessSays:
    """What a witness says."""
    match value:
        case api.Position():
            position = witness_pb2.Position(size=value.size, checkpoint=value.checkpoint)
            return witness_pb2.WitnessSays(position=position)
        case api.Added():
            added = witness_pb2.Added(status=value.status, size=value.size, cosignature=value.cosignature)
            return witness_pb2.WitnessSays(added=added)
        case api.Fetched():
            return witness_pb2.WitnessSays(fetched=witness_pb2.Fetched(start=value.start, frames=value.frames))


def says_from_message(message: witness_pb2.WitnessSays) -> api.WitnessSays:
    """Raises EncodingError."""
    match message.WhichOneof("message"):
        case "position":
            return api.Position(message.position.size, message.position.checkpoint)
        case "added" if message.added.status in STATUSES:
            return api.Added(message.added.status, message.added.size, message.added.cosignature)
        case "fetched":
            return api.Fetched(message.fetched.start, tuple(message.fetched.frames))
        case _:
            raise _unknown()


def asked_to_message(value: api.WitnessAsked) -> witness_pb2.WitnessAsked:
    """What a witness is asked."""
    match value:
        case api.AddCheckpoint():
            add = witness_pb2.AddCheckpoint(
                old_size=value.old_size, proof=value.proof, checkpoint=value.checkpoint, frames=value.frames
            )
            return witness_pb2.WitnessAsked(add=add)
        case api.Fetch():
            return witness_pb2.WitnessAsked(fetch=witness_pb2.Fetch(start=value.start, end=value.end))


def asked_from_message(message: witness_pb2.WitnessAsked) -> api.WitnessAsked:
    """Raises EncodingError."""
    match message.WhichOneof("message"):
        case "add":
            add = message.add
            if len(add.proof) > PROOF_HASHES_MAX or any(len(item) != HASH_BYTES for item in add.proof):
                raise EncodingError("A consistency proof holds hashes of 32 bytes.", where="add.proof")
            return api.AddCheckpoint(add.old_size, tuple(add.proof), add.checkpoint, tuple(add.frames))
        case "fetch":
            return api.Fetch(message.fetch.start, message.fetch.end)
        case _:
            raise _unknown()


def _unknown() -> EncodingError:
    return EncodingError("The message of the witness stream is not one of this version.", mend="Update the program.")
