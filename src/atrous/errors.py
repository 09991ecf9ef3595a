"""The errors that a person can cause: one line that names the file or the argument, and the mend."""


class AtrousError(Exception):
    """Anything wrong with what Atrous was given. `str(error)` is one line, fit to be shown as it is."""


class ImageError(AtrousError):
    """A photo or mask that cannot be read. The message names the file and what is wrong with it."""


class WeightsError(AtrousError):
    """A model that cannot be found or loaded. The message names what was asked for and what would do."""


class DataError(AtrousError):
    """A data set folder that is not laid out as it should be."""


class RecipeError(AtrousError):
    """A recipe with an unknown key or an impossible value. The message names the key."""
