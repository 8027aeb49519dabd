"""Other ways to run the same model, measured in turn with ours."""
