"""How well a model does: measures of its three voices, for programs and for people."""
