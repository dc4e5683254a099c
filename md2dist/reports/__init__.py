"""Status and report of runs, from the files of their folders."""
