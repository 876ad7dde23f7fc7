"""The way through: snapshot, read, judge, publish; plain functions first, thin Prefect flows over them."""
