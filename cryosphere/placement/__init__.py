"""A structure into a map: where it lies, which hand the map has, and how well the two agree."""
