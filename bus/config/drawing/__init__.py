"""Pictures of a configuration: sketches of its routes, the graph of who sends what to whom, its layout, SVG, text."""
