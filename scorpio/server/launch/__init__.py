"""How does one command become a server? The start: arguments, mistakes told early, the end."""
