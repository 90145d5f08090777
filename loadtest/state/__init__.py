"""The state core measured: commands, latency and processor time of position updates, and the restore of a worker.

Uses ``discovery`` as a worker process does: real hives on a real embedded server, each in a process of its own.
"""
