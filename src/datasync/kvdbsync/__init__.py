"""Sources that are key-value stores."""
