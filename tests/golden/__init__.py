"""Repositories as they were written once; they must stay readable for ever."""
