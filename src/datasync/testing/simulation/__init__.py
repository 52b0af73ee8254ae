"""Whole runs on a virtual clock, drawn from a seed."""
