"""What does HTTP add to the scheduler? SLOs in, 429 out, status, metrics and `scorpio serve`."""
