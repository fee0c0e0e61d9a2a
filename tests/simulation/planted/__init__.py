"""Bugs put in on purpose: what the simulation is worth is how soon it sees them."""
