"""How a network is trained: steps, epochs, fits, shards."""
