"""Programs that answer one question each: python -m alm_bench.studies.NAME."""
