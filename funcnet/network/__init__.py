"""The definitions of a layer, a loss, a network, and a pass through a network."""
