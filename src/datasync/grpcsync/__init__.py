"""grpc:// and grpc+watch:// - remote clients that push to an agent, and
remote watchers (Go: grpcsync)."""
