"""Policies that come in packages of their own."""
