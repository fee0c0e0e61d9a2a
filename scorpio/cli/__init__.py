"""What did the user type? One module per family of commands; `app` has them all."""
