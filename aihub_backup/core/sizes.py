"""Bytes for people, the same on pages and in terminals: the powers of 1000 that makers of disks count in."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB")
FULL = 999.95  # from here on one decimal place would say 1000.0: the next unit says 1.0


def in_words(amount: float) -> str:
    """999 B, 1.5 kB, 3.2 GB. amount: bytes."""
    if abs(amount) < 999.5:
        return f"{amount:.0f} B"
    for unit in UNITS[1:]:
        amount /= 1000
        if abs(amount) < FULL or unit == UNITS[-1]:
            break
    return f"{amount:.1f} {unit}"
