"""One module a family of formats: each writes examples so that opening them again gives the same examples."""
