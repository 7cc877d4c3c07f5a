"""What is read off a fit.

Regimes, hazard ratios, curves, times and occupancies by draw; summaries; adverse events.
"""
