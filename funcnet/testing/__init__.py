"""How to check that a layer is right."""
