"""The one way out: every connection to an address that a person has given goes through here.

:mod:`addresses` says which addresses are taken and what exactly is connected to; :mod:`client`
sends and downloads. No other module of the project opens a connection (``tests/test_layout.py``).
"""

from annotator.outbound.addresses import RefusedError, check
from annotator.outbound.client import Answer, Limits, download, post

__all__ = ["Answer", "Limits", "RefusedError", "check", "download", "post"]
