"""The pages of how it comes back."""

from recovery.admin.recoveries import RecoveryAdmin

__all__ = ["RecoveryAdmin"]
