"""Who is at risk, in which state, from when to when.

The question, its states, and events and person-time by cell.
"""
