"""Speed figures, measured through the code that users run."""
