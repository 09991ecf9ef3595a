"""The papers' ideas made visible: receptive fields, gridding, valid weights, what each ASPP branch sees."""
