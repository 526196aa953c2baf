"""Parts of `flames check`: inspect cases, survey them, list findings, show them."""
