"""Commands that are killed, stopped, cut off from power or short of disk at a drawn moment, and
given once more.

commands   every command that writes, with inputs made on the spot
layer      counts what a command does to its files and strikes at the n-th of them; loses unsynced
writes
starter    starts commands quickly: a process with the slow imports done, and a fork of it each
state      a folder as bytes that can be compared, without recorded times; who can read record text
in it
draws      what is struck when, and whether the command came through
"""
