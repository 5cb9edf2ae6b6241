"""The rows of how we notice and react."""

from disaster.models.configuration import RPO_MINUTES, RTO_MINUTES, DRConfig

__all__ = ["RPO_MINUTES", "RTO_MINUTES", "DRConfig"]
