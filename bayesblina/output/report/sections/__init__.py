"""What the sections of the report show: rows of the tables, worded, and figures."""
