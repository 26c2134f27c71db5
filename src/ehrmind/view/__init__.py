"""The live view: a web server on the loopback address that shows run folders while they grow.

It reads files and writes none.
"""
