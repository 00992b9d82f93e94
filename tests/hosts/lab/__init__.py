"""A small internet of network namespaces: hosts with addresses of their own, names, certificates, mail servers."""
