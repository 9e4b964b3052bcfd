"""The live flow, one module a stage: source ─▶ Slot ─▶ engine ─▶ Slot ─▶ render ─▶ sinks."""
