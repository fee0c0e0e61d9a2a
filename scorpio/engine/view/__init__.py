"""What does the engine look like to a policy? vLLM objects become values."""
