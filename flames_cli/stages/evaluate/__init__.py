"""Parts of `flames evaluate`: find models and their test sets, score them, divide the scores into tables,
draw."""
