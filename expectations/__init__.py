"""From a contract to a Great Expectations suite, its verdict and the failing records."""
