"""What does my network do? Summaries, explanations, statistics, and the first number that is not finite."""
