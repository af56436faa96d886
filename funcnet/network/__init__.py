"""What a layer, a loss, a network and a pass through it are."""
