"""The processes of a job: how they join, agree, watch each other and stop."""
