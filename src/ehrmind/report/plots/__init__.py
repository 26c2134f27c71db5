"""Figures of a run -> plots as inline SVG, drawn by matplotlib.

matplotlib writes static SVG without a browser, a server or a script in the page. A page of eight
plots is about 300 kB; an interactive library alone adds 4 MB of JavaScript that a hospital's
reviewer has to clear. The table next to every plot makes up for the missing hover. Plots use the
page's own colours by name, in light and in dark.
"""
