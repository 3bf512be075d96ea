"""Policies and filters, other people's and our own: found, read once, looked over, and written for a start.

What is wrong with one is said with its file and line, before any mail is taken.
"""
