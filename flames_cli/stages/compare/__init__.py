"""Parts of `flames compare`: find the evaluations, pool and pair their scores, make tables, draw."""
