"""How a run is kept and proved: files, fingerprints, audits."""
