"""Views: numeric pictures of records that several detectors share."""
