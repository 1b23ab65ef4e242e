"""The auditor's replay: from the genesis and an export alone, everything is verified and recomputed."""

from consortium.audit.findings import AuditReport, Export, Finding
from consortium.audit.report import Audit, audit_export

__all__ = ["Audit", "AuditReport", "Export", "Finding", "audit_export"]
