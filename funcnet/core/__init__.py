"""What everything is made of: errors, arrays, checks, records, names, trees, files."""
