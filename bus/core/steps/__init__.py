"""The steps: one Enterprise Integration Pattern per file, its SPEC beside its code. They never import each other."""
