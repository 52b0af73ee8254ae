"""What servers share: the inbox that remote clients push into, and the hub
that remote watchers follow."""
