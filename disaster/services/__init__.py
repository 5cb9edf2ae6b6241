"""What people do about disasters."""
