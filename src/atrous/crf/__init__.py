"""Mean-field inference in the fully connected CRF of DeepLab v1 and v2."""
