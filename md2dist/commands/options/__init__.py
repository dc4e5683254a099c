"""Command-line options: those of several commands, and of those with many."""
