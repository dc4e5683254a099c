"""Start of a run: its plan, what it needs of the machine, and the dry run that checks both."""
