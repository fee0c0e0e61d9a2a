"""What does the server say of itself? Status, health, load, metrics, history, budgets."""
