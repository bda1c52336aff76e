"""Killing the transaction: a node whose files are real, a warden of system calls, and a disk that loses
power.
"""
