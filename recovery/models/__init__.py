"""The rows of how it comes back."""

from recovery.models.recovery import (
    Purpose,
    Recovery,
    RecoveryPart,
    RecoveryState,
    RecoveryType,
    TargetKind,
)  # fmt: skip

__all__ = ["Purpose", "Recovery", "RecoveryPart", "RecoveryState", "RecoveryType", "TargetKind"]
