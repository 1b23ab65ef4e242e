"""A small story for the report's tests; one legal name is an attempt at markup."""

from __future__ import annotations

from typing import Any

EVIL = '<script>alert("x")</script>'
NAMES = ("Hauts Vents", "Meuse Energie", "Petit Vent", EVIL)


def story() -> dict[str, Any]:
    bins: list[dict[str, Any]] = []
    for low in range(20):
        mean = min(2050.0, 2050 * (low / 13) ** 3)
        enough = low < 18
        bins.append(
            {
                "low": float(low),
                "high": low + 1.0,
                "count": 9000 - 500 * low if enough else 12,
                "mean": mean if enough else None,
                "mean_low": mean - 5 - 3 * low if enough else None,
                "mean_high": mean + 5 + 3 * low if enough else None,
                "enough": enough,
            }
        )
    kinds = ["genesis", "enrolment", "admission", "dataset", "app", "approval", "job", "decision", "spend", "sum"]
    kinds += ["result", "abort", "scores", "settlement"]
    return {
        "title": "First light",
        "consortium": "wind-commons",
        "created": "2026-01-01 00:00 UTC",
        "genesis": "ab" * 32,
        "attribution": "La Haute Borne, ENGIE",
        "members": [
            {
                "legal_name": name,
                "role": "member",
                "size": "small",
                "dataset": "wind",
                "rows": "1k-10k",
                "fingerprint": "-".join(["abcd"] * 8),
            }
            for name in NAMES
        ],
        "steps": [{"number": n, "title": f"Step {n}", "wall_s": 3.21 * n, "peak_mb": 900.0 + n} for n in range(1, 9)],
        "statistics": {
            "purpose": "power_curve",
            "epsilon_milli": 1000,
            "delta": "1e-6",
            "rho_micro": 17000,
            "members_in_sum": 4,
            "measures": [
                {"name": "count", "unit": "", "value": 123456.0, "low": 123400.0, "high": 123512.0},
                {"name": "mean of P_avg", "unit": "kW", "value": 350.25, "low": 349.0, "high": 351.5},
                {"name": "std of P_avg", "unit": "kW", "value": None, "low": None, "high": None},
            ],
            "bins": bins,
        },
        "refusal": {
            "columns": ["Ya_avg"],
            "purpose": "marketing",
            "nodes": [
                {
                    "legal_name": name,
                    "clauses": [
                        {"id": "columns", "reason": "A column is not shared."},
                        {"id": "purpose", "reason": "The purpose is not agreed."},
                    ],
                }
                for name in NAMES
            ],
        },
        "training": {
            "note": "No noise yet.",
            "federated_mae_kw": 41.2,
            "curves": [
                {"name": "training", "points": [[n, 200 / n + 30] for n in range(1, 25)]},
                {"name": "held out (harness)", "points": [[n, 210 / n + 40] for n in range(1, 25)]},
            ],
            "rounds": [
                {"round": n, "members": 3 + n % 2, "values": [200 / n + 30, 210 / n + 40]} for n in range(1, 25)
            ],
            "comparison": [
                *(
                    {"name": name, "kind": "alone", "mae_kw": 60.0 + 5 * n, "computed_by": "demo harness"}
                    for n, name in enumerate(NAMES)
                ),
                {"name": "federated", "kind": "federated", "mae_kw": 41.2, "computed_by": "the consortium"},
                {"name": "pooled", "kind": "pooled", "mae_kw": 39.9, "computed_by": "demo harness"},
            ],
        },
        "scores": {
            "method": "participation-regression-v1",
            "seed": "cd" * 32,
            "members": [
                {"legal_name": name, "score_micro": 9000 - 4000 * n, "error_micro": 1500}
                for n, name in enumerate(NAMES)
            ],
        },
        "credits": {
            "amount": "100000",
            "sum": 0,
            "postings": [
                {"account": "escrow:1", "name": "escrow", "amount": "-100000", "is_member": False},
                {"account": "platform", "name": "platform", "amount": "3000", "is_member": False},
                *({"account": name, "name": name, "amount": str(97000 // 4), "is_member": True} for name in NAMES),
            ],
        },
        "budgets": [
            {
                "legal_name": name,
                "dataset": "wind",
                "cap_rho_micro": 100_000,
                "spent_rho_micro": 17_000,
                "left_rho_micro": 83_000,
                "unbounded": True,
            }
            for name in NAMES
        ],
        "ledger": {
            "size": 60,
            "root": "ef" * 32,
            "entries": [
                {
                    "index": n,
                    "kind": kinds[n * len(kinds) // 60],
                    "legal_name": ("Coordinator", *NAMES)[n % 5],
                    "leaf": f"{n:064x}",
                    "void": "It was void." if n == 33 else None,
                    "summary": "what it says",
                }
                for n in range(60)
            ],
        },
        "audit": {
            "ok": True,
            "findings": [],
            "not_evaluated": ["Policy decisions are recorded by hash."],
            "figures": {"entries": 60, "signatures": 60, "sums_recomputed": 25},
            "forgeries": [
                {
                    "name": "flip one byte",
                    "how": "nothing",
                    "named": True,
                    "findings": [{"code": "bad-signature", "index": 7, "text": "The signature does not verify."}],
                },
            ],
        },
    }
