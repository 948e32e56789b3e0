"""Maps of states from the images themselves."""
