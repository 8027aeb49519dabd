"""What is shown of results: figures, tables, plots, a page, the README's table."""
