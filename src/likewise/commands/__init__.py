"""The commands, by what they do: make a model, ask it, change what it knows."""
