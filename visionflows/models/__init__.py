"""Model artifacts: their schema, network, names in the store, and promotion history."""
