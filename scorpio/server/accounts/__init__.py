"""Which requests come in, and under which terms? Classes, tenants, keys and what they may use."""
