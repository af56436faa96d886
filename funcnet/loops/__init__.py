"""How is a network trained? Steps, epochs, fits and shards."""
