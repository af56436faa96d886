"""What a network does: summaries, explanations, statistics, the first number that is not finite."""
