"""Parts of `flames preprocess`: decode, gather, split, pseudonymise, report."""
