"""The process audit checks whether the thinking holds; the judge checks the answer. `auditing`
joins its parts."""

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
from ehrmind.process_audit.rewarding import soundness

__all__ = ["PARTS", "ProcessAudit", "audit", "audit_thinking", "grounded", "known", "leaks", "soundness", "thinking_of"]
