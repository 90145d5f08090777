"""Attacks on location privacy, and how their success is measured.

They are clients: what they know of the service is ``oracle.Oracle``, which the tests put in front of the rules
themselves and ``nearhive audit-privacy`` in front of a running service.
"""
