"""The living demo: a simulated world that makes a first look at Nearhive worth it.

Owns: who lives in it, how they walk, and what they do. Everything goes through ``discovery`` the way an app's backend
and its people would; every id and text says that it is simulated.
Must not know: HTTP; the arrays of ``discovery`` beyond asking who is missing.
"""
