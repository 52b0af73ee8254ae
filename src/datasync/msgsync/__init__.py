"""Sources that are message logs."""
