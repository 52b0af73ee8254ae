"""The engine: frames in, events out. No transport is imported here."""
