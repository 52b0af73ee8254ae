"""A source with faults on demand, and its sessions."""
