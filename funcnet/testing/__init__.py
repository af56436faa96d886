"""Checks that a layer is correct: the laws, gradients, and the lint for arithmetic."""
