"""Secure sum against Flower's SecAgg+ functions and against the AES-CTR limit: same vectors, same run, one thread.

Masking is what one node does to its vector (key agreement, keystreams, additions). Unmasking is what the server does
to get the total when nobody dropped out (sum, reconstruction of every seed from t shares, keystreams, subtractions).
Our node and server also sign, commit to and check vectors, which Flower does not: timed apart and in the `checked`
figures. A figure is the best of its repeats; the check of all commitments is one pass over n vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs

from consortium.keys import SigningKey
from consortium.privacy.secure_sum import Aggregator, LocalRules, Participant, SumSpec, minimum_threshold
from consortium.privacy.secure_sum.masks import CHUNK_BYTES, fold, pair_mask, public_of, self_mask

SIZES = {"1M": 1_000_000, "10M": 10_000_000}
MEMBERS = (3, 10)
MODULUS = 1 << 32  # Flower's default modulus_range

Vector = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Times:
    """Seconds of one node (masking) and of the server (unmasking)."""

    masking: float
    unmasking: float

    @property
    def both(self) -> float:
        return self.masking + self.unmasking


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench secure-sum", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    as_json = parser.parse_args().json
    figures: dict[str, float] = {}
    for size, length in SIZES.items():
        for n in MEMBERS:
            figures |= measure(f"n{n}_{size}", n, length)
    if as_json:
        print(json.dumps({"bench": "secure-sum", "figures": figures}))
    else:
        width = max(map(len, figures))
        print("\n".join(f"{name:<{width}}  {value:10.4f}" for name, value in figures.items()))


def measure(label: str, n: int, length: int) -> dict[str, float]:
    """All figures of one roster size and vector length (words of 32 bits)."""
    repeats = 3 if length > 1_000_000 else 5
    vectors = [np.random.default_rng(i).integers(0, 1 << 22, length, dtype=np.uint32) for i in range(n)]
    expected = reduce(np.add, vectors)
    ours, node_call, intake = time_ours(vectors, expected, repeats)
    flower = time_flower(vectors, expected, repeats)
    limit = best(repeats, lambda: keystream(n, 4 * length))
    checked = node_call + ours.unmasking + intake
    return {
        f"node_masking_{label}_s": ours.masking,
        f"node_masking_checked_signed_committed_{label}_s": node_call,
        f"server_unmasking_{label}_s": ours.unmasking,
        f"server_checking_all_commitments_{label}_s": intake,
        f"flower_node_masking_{label}_s": flower.masking,
        f"flower_server_unmasking_{label}_s": flower.unmasking,
        f"aes_ctr_limit_node_{label}_s": limit,
        f"aes_ctr_limit_server_{label}_s": limit,  # as many keystreams: n seeds here, n - 1 pairs and a seed there
        f"ratio_to_flower_{label}": flower.both / ours.both,
        f"ratio_to_flower_masking_{label}": flower.masking / ours.masking,
        f"ratio_to_flower_unmasking_{label}": flower.unmasking / ours.unmasking,
        f"ratio_to_flower_checked_{label}": flower.both / checked,
        f"ratio_to_limit_{label}": ours.both / (2 * limit),
    }


def time_ours(vectors: list[Vector], expected: Vector, repeats: int) -> tuple[Times, float, float]:
    """Masking and unmasking; the whole call of a node; the server's check of all commitments (seconds)."""
    n, length = len(vectors), len(vectors[0])
    signers = sorted((SigningKey(os.urandom(32)) for _ in range(n)), key=lambda signer: signer.key_id)
    roster = tuple(signer.key_id for signer in signers)
    public_keys = {signer.key_id: signer.public_key for signer in signers}
    spec = SumSpec(bytes(32), bytes(32), 1, roster, bytes(32), bytes(32), length, 32, minimum_threshold(n))
    rules = LocalRules(frozenset(roster), 3)
    nodes = [Participant(spec, signer, public_keys, rules, os.urandom) for signer in signers]
    server = Aggregator(spec, public_keys)
    for node in nodes:
        server.add_advert(node.advertise())
    for node in nodes:
        server.add_shares(node.share(server.adverts()))
    node_calls, intake = [], 0.0
    for node, vector in zip(nodes, vectors, strict=True):
        seconds, (frame, masked) = clock(lambda node=node, vector=vector: node.mask(server.shares(), vector))  # type: ignore[misc]
        node_calls.append(seconds)
        intake += clock(lambda frame=frame, masked=masked: server.add_masked(frame, masked))[0]  # type: ignore[misc]
    for node in nodes:
        server.add_vote(node.vote(server.survivors()))
    for node in nodes:
        server.add_reveal(node.reveal(server.votes()))
    assert np.array_equal(server.total(), expected), "our total is wrong"
    masking = best(repeats, masker(spec, vectors[0]))
    return Times(masking, best(repeats, server.total)), min(node_calls), intake


def masker(spec: SumSpec, vector: Vector) -> Callable[[], Any]:
    """The masking alone, as `Participant.mask` does it: key agreement, key derivation, keystreams."""
    private = os.urandom(32)
    me = (spec.roster[0], public_of(private))
    others = [(member, public_of(os.urandom(32))) for member in spec.roster[1:]]
    seed = os.urandom(32)

    def mask() -> Any:
        masks = [pair_mask(spec, me, other, private) for other in others]
        return fold([vector], [*masks, self_mask(spec, me[0], seed, negative=False)])

    return mask


def time_flower(vectors: list[Vector], expected: Vector, repeats: int) -> Times:
    """The same with Flower's functions, called as its secaggplus_mod and SecAggPlusWorkflow call them."""
    n, shape = len(vectors), [vectors[0].shape]
    pairs = [generate_key_pairs() for _ in range(n)]
    seeds = [os.urandom(32) for _ in range(n)]
    shares = [create_shares(seed, minimum_threshold(n), n)[: minimum_threshold(n)] for seed in seeds]

    def mask(me: int, parameters: list[Any]) -> list[Any]:
        parameters = parameters_addition(parameters, pseudo_rand_gen(seeds[me], MODULUS, shape))
        for other in range(n):
            if other != me:
                shared = generate_shared_key(pairs[me][0], pairs[other][1])
                apply = parameters_addition if me > other else parameters_subtraction
                parameters = apply(parameters, pseudo_rand_gen(shared, MODULUS, shape))
        return parameters_mod(parameters, MODULUS)

    def unmask(arrived: list[list[Any]]) -> list[Any]:
        total = parameters_mod(reduce(parameters_addition, arrived), MODULUS)
        for dealt in shares:
            total = parameters_subtraction(total, pseudo_rand_gen(combine_shares(dealt), MODULUS, shape))
        return parameters_mod(total, MODULUS)

    masking, arrived = [], []
    for me, vector in enumerate(vectors):
        wide = [vector.astype(np.int64)]  # the word in which Flower adds; the conversion is not counted
        seconds, masked = clock(lambda me=me, wide=wide: mask(me, wide))  # type: ignore[misc]
        masking.append(seconds)
        arrived.append(masked)
    unmasking, total = clock(lambda: unmask(arrived))
    assert np.array_equal(total[0], expected), "Flower's total is wrong"
    return Times(min(masking), min(unmasking, best(repeats - 1, lambda: unmask(arrived))))


def keystream(count: int, length_bytes: int) -> None:
    """Only the keystreams: `count` times `length_bytes` of AES-256-CTR through one buffer."""
    zeros, buffer = bytes(CHUNK_BYTES), bytearray(CHUNK_BYTES)
    for _ in range(count):
        cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        for start in range(0, length_bytes, CHUNK_BYTES):
            cipher.update_into(zeros[: min(CHUNK_BYTES, length_bytes - start)], buffer)


def best(repeats: int, call: Callable[[], Any]) -> float:
    """The shortest of the repeats, in seconds."""
    return min(clock(call)[0] for _ in range(repeats))


def clock(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that the call took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
