"""Policies that draw their actions, as they leave the library: the file that draws, its program, and its noise."""
