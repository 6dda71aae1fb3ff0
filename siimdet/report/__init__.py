"""The reports on an evaluation and on a data set: each one HTML file that needs neither network nor scripts."""
