"""Emulated boards: a genuine aarch64 userland in a folder, run by QEMU, with sshd on loopback and exact counts.

What is emulated is the instruction set and what a program can read of the board (processor, cores, model). What is
not is time: an emulated board counts instructions and never claims a board's milliseconds.
"""
