"""Objects that depend on each other, brought into the state that is stored."""
