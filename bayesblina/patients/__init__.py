"""Any table to validated patients.

Cohorts and their account, rules, readers, scans of query engines, drafts of study files.
"""
