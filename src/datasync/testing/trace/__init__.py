"""Traces: recorded, written down, read, and held against the guarantees."""
