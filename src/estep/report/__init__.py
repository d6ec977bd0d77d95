"""One HTML file that shows a run: no address of another machine, no library, no display."""
