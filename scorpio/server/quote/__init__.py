"""Which SLO would a request get now? `POST /v1/slo/quote`, and requests that take what it says."""
