"""From judged captions to figures that mean something: points, intervals, tables and comparisons of runs."""
