"""The resident part: probes, judgement, the fence, the local endpoint."""
