"""Speed, memory, energy and quality of packages; docs/benchmarks.md says what each folder holds."""
