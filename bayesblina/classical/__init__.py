"""The classical methods.

Product limits, Simon-Makuch, Mantel-Byar, Cox, the ladder of methods, published numbers.
"""
