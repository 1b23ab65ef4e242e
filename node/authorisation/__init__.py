"""Adapters of `consortium.policy.engine.PolicyEngine`."""
