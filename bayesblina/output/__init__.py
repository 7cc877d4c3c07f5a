"""What people look at.

Figures, results in a folder, the report.
"""
