"""What has the engine done? Step times, outcomes, faults and the status file."""
