"""Parts of `flames partition`: the cases of data sets, the sets of a client, clients and the server's
sets."""
