"""The auditor's replay: from the genesis and an export alone, everything is verified and recomputed."""

from consortium.audit.report import AuditReport, Export, Finding, audit_export

__all__ = ["AuditReport", "Export", "Finding", "audit_export"]
