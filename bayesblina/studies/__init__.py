"""What if.

Scenarios, designs, weights, bias, external patients, simulation, calibration; study files.
"""
