"""Distributed processes of a job: joining, agreement, watchdog and stop requests."""
