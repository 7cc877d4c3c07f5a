"""What knows no patients.

Errors, files, tables, masking, intervals and episodes, product limits, hazards as arithmetic.
"""
