"""What people look at: reports and, later, the analyst's desk."""
