"""Repair: the search for the smallest steer that turns a wrong answer into the wanted one, and the honest account of it."""
