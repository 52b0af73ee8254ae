"""The part of etcd's protocol that datasync speaks: `etcd.proto`, and what
`tools/protos` generates from it."""
