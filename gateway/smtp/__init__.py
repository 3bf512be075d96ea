"""The words of RFC 5321, shared by everybody.

Rule of this package: standard library only and no I/O, so neither asyncio nor socket nor ssl.
Values are frozen; a wrong one (a reply whose enhanced status contradicts its code, a path with a
line feed in it) cannot be built.
"""
