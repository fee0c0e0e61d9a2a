"""What happens to one request for tokens? Its SLOs go in, its refusal or its answer comes out."""
