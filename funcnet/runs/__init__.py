"""How is a run kept and proved? Checkpoints, fingerprints and audits."""
