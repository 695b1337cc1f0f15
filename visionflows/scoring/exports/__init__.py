"""Copies of a result in other formats."""
