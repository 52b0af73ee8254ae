"""Rounds of RESYNCs: their order."""
