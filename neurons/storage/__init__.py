"""Files written whole or not at all, manifests, named documents, jobs, tables."""
