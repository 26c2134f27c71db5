"""The process audit: whether the thinking holds, where the judge says whether the answer is right. `auditing` puts the parts together."""

from ehrmind.process_audit.auditing import (
    PARTS,
    ProcessAudit,
    audit,
    audit_thinking,
    grounded,
    known,
    leaks,
    thinking_of,
)

__all__ = ["PARTS", "ProcessAudit", "audit", "audit_thinking", "grounded", "known", "leaks", "thinking_of"]
