"""Tidy tables for print: numbers by stated rules, text escaped in every format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
