"""The service: a model directory over HTTP. Needs the extra `likewise[serve]`; `likewise serve` starts it."""
