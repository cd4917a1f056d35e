"""Values only: typed settings and the carriers' data files. Imports nothing of the other rooms."""
