"""The ways in which data sets are laid out: one file a data set, or a kind of them."""
